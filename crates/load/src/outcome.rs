//! Results: one list of figures, shown as a table or as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};
use tidewire_checker::{Kind, Report};

use crate::stats::Latency;

/// What a scenario found.
#[derive(Debug, Default)]
pub struct Outcome {
    scenario: &'static str,
    rows: Vec<(&'static str, String, Value)>,
    report: Option<Report>,
    shortfalls: Vec<String>,
}

/// A figure.
#[derive(Debug, Clone)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// A number with a unit.
    Number(f64, &'static str),
    /// A distribution of times.
    Times(Latency),
}

// === impl Outcome ===

impl Outcome {
    /// An outcome without figures.
    pub fn new(scenario: &'static str) -> Self {
        Self { scenario, ..Self::default() }
    }

    /// Adds a figure: its name in JSON, which ends with the unit, and in words.
    pub fn row(&mut self, key: &'static str, words: impl Into<String>, value: Value) {
        self.rows.push((key, words.into(), value));
    }

    /// Adds a count.
    pub fn count(&mut self, key: &'static str, words: impl Into<String>, value: u64) {
        self.row(key, words, Value::Count(value));
    }

    /// Adds a number with a unit.
    pub fn number(&mut self, key: &'static str, words: impl Into<String>, value: f64, unit: &'static str) {
        self.row(key, words, Value::Number(value, unit));
    }

    /// Adds a distribution.
    pub fn times(&mut self, key: &'static str, words: impl Into<String>, value: &Latency) {
        self.row(key, words, Value::Times(value.clone()));
    }

    /// Adds what the checker found.
    pub fn judged(&mut self, report: Option<Report>) {
        self.report = report;
    }

    /// Adds something that keeps this run from being what was asked for.
    pub fn shortfall(&mut self, what: impl Into<String>) {
        self.shortfalls.push(what.into());
    }

    /// 0 if all is well, 1 if the checker found violations, 2 if the run was not what was asked for.
    pub fn exit_code(&self) -> u8 {
        match &self.report {
            Some(report) if !report.is_clean() => 1,
            _ if !self.shortfalls.is_empty() => 2,
            _ => 0,
        }
    }

    /// As one JSON object.
    pub fn json(&self) -> Json {
        let mut figures = Map::new();
        for (key, _, value) in &self.rows {
            figures.insert((*key).to_owned(), value.json());
        }
        json!({
            "scenario": self.scenario,
            "figures": figures,
            "checker": self.report.as_ref().map(report_json),
            "shortfalls": self.shortfalls,
            "machine": machine(),
        })
    }

    /// As a table for people.
    pub fn table(&self) -> String {
        let mut table = format!("{}\n", self.scenario);
        let width = self.rows.iter().map(|(_, words, _)| words.chars().count()).max().unwrap_or(0);
        for (_, words, value) in &self.rows {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "  {words:<width$}  {}", value.words());
        }
        if let Some(report) = &self.report {
            let verdict = if report.is_clean() { "nothing wrong" } else { "VIOLATIONS" };
            let _ = writeln!(table, "checker: {verdict}");
            for line in report.to_string().lines() {
                let _ = writeln!(table, "  {line}");
            }
        }
        for shortfall in &self.shortfalls {
            let _ = writeln!(table, "not as asked for: {shortfall}");
        }
        table
    }
}

// === impl Value ===

impl Value {
    fn json(&self) -> Json {
        match self {
            Self::Count(count) => json!(count),
            Self::Number(number, _) => json!(number),
            Self::Times(times) => {
                let micros = |time: std::time::Duration| json!(time.as_nanos() as f64 / 1e3);
                json!({
                    "count": times.count(),
                    "p50_us": micros(times.quantile(0.5)),
                    "p90_us": micros(times.quantile(0.9)),
                    "p99_us": micros(times.quantile(0.99)),
                    "p999_us": micros(times.quantile(0.999)),
                    "max_us": micros(times.max()),
                })
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Count(count) => grouped(*count),
            Self::Number(number, unit) if number.abs() >= 1_000.0 => {
                format!("{} {unit}", grouped(number.round() as u64))
            }
            Self::Number(number, unit) => format!("{number:.3} {unit}"),
            Self::Times(times) => {
                let time = |share| milliseconds(times.quantile(share));
                format!(
                    "p50 {}  p90 {}  p99 {}  p99.9 {}  max {} ms",
                    time(0.5),
                    time(0.9),
                    time(0.99),
                    time(0.999),
                    milliseconds(times.max())
                )
            }
        }
    }
}

fn milliseconds(time: std::time::Duration) -> String {
    format!("{:.3}", time.as_nanos() as f64 / 1e6)
}

/// Digits in threes.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

fn report_json(report: &Report) -> Json {
    let counts: Map<_, _> = Kind::ALL
        .iter()
        .map(|kind| (kind.to_string().replace(' ', "_"), json!(report.count(*kind))))
        .collect();
    json!({
        "clean": report.is_clean(),
        "counts": counts,
        "published": report.published,
        "acknowledged": report.acknowledged,
        "subscriptions": report.subscriptions,
        "deliveries": report.deliveries,
        "recoveries": report.recoveries,
        "told": {
            "resets": report.told.resets,
            "publications": report.told.publications,
            "unsubscribed": report.told.unsubscribed,
            "disconnected": report.told.disconnected,
        },
        "violations": report.violations().iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Where it ran: a figure without that cannot be compared.
fn machine() -> Json {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg").split_whitespace().next().and_then(|load| load.parse::<f64>().ok());
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_1m": load,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tidewire_checker::{Audience, Checker, Delivery, Event, Mode, PayloadId, Position};

    fn report(offsets: &[u64]) -> Report {
        let mut checker = Checker::new();
        let channel = checker.channel("c");
        let reader = checker.subscription(channel, 1, Mode::Positioned);
        checker.observe(reader, Event::subscribed_at(Position::new("e", 0)));
        for sequence in 1..=3 {
            let id = PayloadId { publisher: 0, sequence };
            checker.published(channel, id, Audience::Channel);
            checker.acknowledged(channel, id, Some(Position::new("e", sequence)));
        }
        for &offset in offsets {
            let id = PayloadId { publisher: 0, sequence: offset };
            checker.observe(reader, Event::Publication(Delivery::new(offset, id)));
        }
        checker.finish([])
    }

    #[test]
    fn violations_outweigh_shortfalls_in_the_exit_code() {
        let mut outcome = Outcome::new("x");
        outcome.judged(Some(report(&[1, 2, 3])));
        assert_eq!(outcome.exit_code(), 0);
        outcome.shortfall("late");
        assert_eq!(outcome.exit_code(), 2);
        outcome.judged(Some(report(&[1, 3])));
        assert_eq!(outcome.exit_code(), 1);
        assert_eq!(outcome.json()["checker"]["counts"]["lost"], 1);
        assert!(outcome.table().contains("VIOLATIONS"), "{}", outcome.table());
    }

    #[test]
    fn table_and_json_show_the_same_figures() {
        let mut outcome = Outcome::new("idle");
        let mut times = Latency::default();
        times.record(Duration::from_micros(1_500));
        outcome.count("connections", "connections", 1_234_567);
        outcome.number("rss_per_connection_bytes", "memory per connection", 1_499.6, "bytes");
        outcome.times("wait", "time to be live", &times);
        let (json, table) = (outcome.json(), outcome.table());
        assert_eq!(json["figures"]["connections"], 1_234_567);
        assert_eq!(json["figures"]["wait"]["count"], 1);
        assert!(table.contains("connections            1 234 567\n"), "{table}");
        assert!(table.contains("1 500 bytes"), "{table}");
        assert!(table.contains("p50 1.5"), "{table}");
    }
}
