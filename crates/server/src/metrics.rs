//! `/metrics` for Prometheus. Everything is read at the time of the scrape from what the node counts anyway; labels are
//! closed sets, never names that clients choose. `docs/metrics.md` lists the names, and a test holds it to them.

pub mod process;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tidewire::{Metrics, NodeInfo, Tidewire};
use tidewire_engine_redis::{Counters, RedisEngine};

use crate::api::Api;
use crate::serve::certificates::Figures;
use process::Process;

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Name, help, and where the number is.
type Row<T> = (&'static str, &'static str, fn(&T) -> u64);

/// What is counted, without the `_total` that the format adds.
const COUNTERS: [Row<Metrics>; 23] = [
    ("tidewire_connects", "Connections accepted", |m| m.connects.total()),
    ("tidewire_sockets_opened", "Sockets upgraded to WebSocket", |m| m.opened.total()),
    ("tidewire_sockets_opened_deflate", "Those that agreed to compression", |m| m.opened_deflate.total()),
    ("tidewire_compressions", "Messages compressed; a broadcast once", |m| m.compressions.total()),
    ("tidewire_compression_input_bytes", "Bytes of those before", |m| m.compression_input_bytes.total()),
    ("tidewire_compression_output_bytes", "Bytes of those after", |m| m.compression_output_bytes.total()),
    ("tidewire_commands", "Commands received from clients", |m| m.commands.total()),
    ("tidewire_command_errors", "Commands answered with an error", |m| m.errors.total()),
    ("tidewire_subscribes", "Subscriptions made", |m| m.subscribes.total()),
    ("tidewire_recovered", "Subscribes that got everything they had missed", |m| m.recovered.total()),
    ("tidewire_unrecovered", "Subscribes that asked to recover and could not", |m| m.unrecovered.total()),
    ("tidewire_publications", "Publications received from the engine", |m| m.publications.total()),
    ("tidewire_deliveries", "Messages put into the outboxes of clients", |m| m.deliveries.total()),
    ("tidewire_disconnects", "Connections closed by the node", |m| m.disconnects.total()),
    ("tidewire_slow_consumers", "Connections closed because they read too slowly", |m| {
        m.slow_consumers.total()
    }),
    ("tidewire_insufficient_states", "Subscriptions ended because continuity could not be promised", |m| {
        m.insufficient_states.total()
    }),
    (
        "tidewire_inbox_overflows",
        "Broadcasts a reactor could not take; subscribers with a position were told",
        |m| m.inbox_overflows.total(),
    ),
    ("tidewire_repaired", "Publications this node had missed and read from history", |m| m.repaired.total()),
    ("tidewire_unrepaired", "Times that what this node had missed was not to be had", |m| {
        m.unrepaired.total()
    }),
    ("tidewire_bus_overflows", "Messages of other nodes left out because too many were waiting", |m| {
        m.bus_overflows.total()
    }),
    ("tidewire_bus_unreadable", "Messages of other nodes that could not be read", |m| {
        m.bus_unreadable.total()
    }),
    ("tidewire_silent_nodes", "Nodes that did not answer, over all that was asked of the others", |m| {
        m.silent_nodes.total()
    }),
    (
        "tidewire_contained_panics",
        "Panics contained in a connection or a reactor; anything but 0 is a bug",
        |m| m.contained_panics.total(),
    ),
];

/// What there is now.
const NODE_GAUGES: [Row<NodeInfo>; 4] = [
    ("tidewire_connections", "Connections that were accepted", |info| info.clients as u64),
    ("tidewire_users", "Distinct users; all anonymous connections count as one", |info| info.users as u64),
    ("tidewire_channels", "Channels with subscribers", |info| info.channels as u64),
    ("tidewire_subscriptions", "Subscriptions", |info| info.subscriptions as u64),
];

/// What happened between the node and Redis; all 0 with another engine.
const REDIS_COUNTERS: [Row<Counters>; 13] = [
    ("tidewire_redis_connects", "Connections to Redis that came up", |c| c.connects),
    ("tidewire_redis_disconnects", "Connections to Redis that broke", |c| c.disconnects),
    ("tidewire_redis_connect_failures", "Attempts to connect to Redis that failed", |c| c.connect_failures),
    ("tidewire_redis_commands", "Commands sent to Redis", |c| c.commands),
    ("tidewire_redis_timeouts", "Calls of Redis that were not answered in time", |c| c.timeouts),
    ("tidewire_redis_errors", "Errors that Redis answered with", |c| c.errors),
    ("tidewire_redis_scripts_loaded_again", "Scripts that Redis had forgotten", |c| c.scripts_loaded_again),
    ("tidewire_redis_redirections", "Commands that a Redis Cluster sent elsewhere", |c| c.redirections),
    (
        "tidewire_redis_epochs_renewed",
        "Streams under a new epoch because Redis may have lost a part of them",
        |c| c.epochs_renewed,
    ),
    ("tidewire_redis_announcements", "Announcements received from Redis", |c| c.announcements),
    ("tidewire_redis_announcements_malformed", "Announcements that could not be read", |c| {
        c.announcements_malformed
    }),
    ("tidewire_redis_inbox_overflows", "Announcements dropped because too many were waiting", |c| {
        c.inbox_overflows
    }),
    ("tidewire_redis_channels_lost", "Times that a channel's announcements may have been missed", |c| {
        c.channels_lost
    }),
];

/// The same, right now.
const REDIS_GAUGES: [Row<Counters>; 2] = [
    ("tidewire_redis_commands_in_flight", "Commands that Redis has not answered yet", |c| {
        c.commands_in_flight
    }),
    ("tidewire_redis_inbox_bytes", "Announcements that wait for the node", |c| c.inbox_bytes),
];

const PROCESS_GAUGES: [Row<Process>; 4] = [
    ("process_resident_memory_bytes", "Memory in RAM", |process| process.resident_bytes),
    ("process_open_fds", "Open file descriptors", |process| process.open_files),
    ("process_max_fds", "File descriptors there may be", |process| process.open_files_max),
    ("process_threads", "Threads", |process| process.threads),
];

/// Reads a node, its API and its process at every scrape.
struct Server {
    tidewire: Tidewire,
    api: Arc<Api>,
    tls: Arc<Figures>,
    redis: Option<Arc<RedisEngine>>,
    insecure_options: u64,
}

/// Routes for Prometheus at `path`.
pub fn router(
    path: &str,
    tidewire: Tidewire,
    api: Arc<Api>,
    tls: Arc<Figures>,
    redis: Option<Arc<RedisEngine>>,
    insecure_options: usize,
) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Server {
        tidewire,
        api,
        tls,
        redis,
        insecure_options: insecure_options as u64,
    }));
    let registry = Arc::new(registry);
    let scrape = async move || {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        ([(CONTENT_TYPE, TYPE)], text)
    };
    Router::new().route(path, get(scrape))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Collector for Server {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, read) in COUNTERS {
            counter(&mut encoder, name, help, read(self.tidewire.metrics()))?;
        }
        let info = self.tidewire.info();
        for (name, help, read) in NODE_GAUGES {
            gauge(&mut encoder, name, help, read(&info))?;
        }
        gauge(&mut encoder, "tidewire_sockets", "Open WebSockets", self.tidewire.sockets() as u64)?;
        let insecure = "Options that are on and open the server to anyone";
        gauge(&mut encoder, "tidewire_insecure_options", insecure, self.insecure_options)?;
        let uptime = info.uptime.as_secs();
        gauge(&mut encoder, "tidewire_uptime_seconds", "Time since the start", uptime)?;
        self.build(&mut encoder, &info.version)?;
        self.api(&mut encoder)?;
        let redis = self.redis.as_ref().map(|redis| redis.counters()).unwrap_or_default();
        for (name, help, read) in REDIS_COUNTERS {
            counter(&mut encoder, name, help, read(&redis))?;
        }
        for (name, help, read) in REDIS_GAUGES {
            gauge(&mut encoder, name, help, read(&redis))?;
        }
        self.lag(&mut encoder)?;
        self.tls(&mut encoder)?;
        process(&mut encoder)
    }
}

impl Server {
    fn build(&self, encoder: &mut DescriptorEncoder<'_>, version: &str) -> fmt::Result {
        let help = "The version that runs; always 1";
        let mut metric = encoder.encode_descriptor("tidewire_build", help, None, MetricType::Gauge)?;
        ConstGauge::new(1_u64).encode(metric.encode_family(&[("version", version)])?)
    }

    fn api(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let calls: Vec<_> = self.api.calls().totals().collect();
        let help = "Calls of the HTTP API by method; a batch is one";
        let mut metric = encoder.encode_descriptor("tidewire_api_calls", help, None, MetricType::Counter)?;
        for (method, calls, _) in &calls {
            ConstCounter::new(*calls).encode(metric.encode_family(&[("method", method.name())])?)?;
        }
        let help = "Calls of the HTTP API answered with an error, by method";
        let mut metric = encoder.encode_descriptor("tidewire_api_errors", help, None, MetricType::Counter)?;
        for (method, _, failures) in &calls {
            ConstCounter::new(*failures).encode(metric.encode_family(&[("method", method.name())])?)?;
        }
        Ok(())
    }

    fn lag(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let lag = self.redis.as_ref().map(|redis| redis.lag()).unwrap_or_default();
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        let parts = lag.parts.map(|(bound_ms, count)| (bound_ms.map_or(f64::INFINITY, seconds), count));
        let count = parts.iter().map(|(_, count)| count).sum();
        let help = "From publish to receipt, by the clocks of both nodes";
        encoder
            .encode_descriptor("tidewire_redis_lag_seconds", help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(seconds(lag.sum_ms), count, &parts, None)
    }

    fn tls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let handshakes = self.tls.handshakes();
        let kinds = [("full", handshakes.full), ("resumed", handshakes.resumed)];
        family(encoder, "tidewire_tls_handshakes", "TLS handshakes done", "kind", kinds)?;
        let help = "TLS handshakes that came to no end";
        counter(encoder, "tidewire_tls_handshake_failures", help, handshakes.failed)?;
        let (reloads, failures) = self.tls.reloads();
        let help = "How often certificates were read again, and whether they could be used";
        family(
            encoder,
            "tidewire_certificate_reloads",
            help,
            "result",
            [("ok", reloads), ("failed", failures)],
        )
    }
}

/// A counter whose totals differ in one label.
fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    totals: [(&str, u64); 2],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, total) in totals {
        ConstCounter::new(total).encode(metric.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

fn process(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Some(process) = Process::now() else { return Ok(()) };
    for (name, help, read) in PROCESS_GAUGES {
        gauge(encoder, name, help, read(&process))?;
    }
    let metric = ConstCounter::new(process.cpu_seconds);
    let help = "Processor time used, user and system";
    metric.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, total: u64) -> fmt::Result {
    ConstCounter::new(total).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
