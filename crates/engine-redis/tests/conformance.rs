//! The suite every engine passes, on real servers.
//!
//! On one Redis server each case is a test of its own. The other topologies take a while to start, so there all cases
//! share the servers, each below a prefix of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidewire_engine::Engine;
use tidewire_engine::conformance::{self, Subject};
use tidewire_engine_redis::{Address, Options, RedisEngine, Topology};
use tidewire_redis_testkit::{Cluster, Flavour, Replicated, Server, Start};

/// Long enough for a busy machine to look at something well within it.
const UNIT: Duration = Duration::from_millis(400);

/// So that cases on the same servers do not meet.
fn prefix() -> String {
    static PREFIXES: AtomicU64 = AtomicU64::new(0);
    format!("test{}", PREFIXES.fetch_add(1, Ordering::Relaxed))
}

async fn subject<T: Send + Sync + 'static>(servers: Arc<T>, topology: Topology) -> Subject {
    let options = Options { topology, prefix: prefix(), ..Options::default() };
    let engine = RedisEngine::start(&options).expect("an engine");
    engine.connected(Duration::from_secs(20)).await.expect("servers that can be used");
    Subject {
        engine: Arc::new(engine),
        // It lives as long as the case: the servers do, too.
        advance: Box::new(move |by| {
            let _servers = Arc::clone(&servers);
            Box::pin(tokio::time::sleep(by))
        }),
        exact: false,
        unit: UNIT,
    }
}

fn addresses<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Vec<Address> {
    servers.into_iter().map(|server| Address::tcp("127.0.0.1", server.port())).collect()
}

async fn standalone() -> Subject {
    let server = Start::new(Flavour::Redis).run();
    let topology = Topology::Servers(addresses([&server]));
    subject(Arc::new(server), topology).await
}

tidewire_engine::conformance!(tests: standalone);

/// Engines of three nodes, below one prefix.
async fn three<T: Send + Sync + 'static>(servers: Arc<T>, topology: Topology) -> Vec<Arc<dyn Engine>> {
    let mut engines: Vec<Arc<dyn Engine>> = Vec::new();
    let prefix = prefix();
    for _ in 0..3 {
        let options = Options { topology: topology.clone(), prefix: prefix.clone(), ..Options::default() };
        let engine = RedisEngine::start(&options).expect("an engine");
        engine.connected(Duration::from_secs(20)).await.expect("servers that can be used");
        engines.push(Arc::new(engine));
    }
    // They live until their runtime ends with the case.
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(servers);
    });
    engines
}

/// Every case of one node, then every case of several.
async fn run_both<T: Send + Sync + 'static>(servers: Arc<T>, topology: Topology) {
    let (again, same) = (Arc::clone(&servers), topology.clone());
    conformance::run(move || subject(Arc::clone(&again), same.clone())).await;
    conformance::run_shared(move || three(Arc::clone(&servers), topology.clone())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_nodes_on_one_server_pass_the_suite() {
    let server = Arc::new(Start::new(Flavour::Redis).run());
    conformance::run_shared(move || three(Arc::clone(&server), Topology::Servers(addresses([&*server]))))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_passes_the_suite() {
    let server = Arc::new(Start::new(Flavour::Valkey).run());
    let topology = Topology::Servers(addresses([&*server]));
    run_both(server, topology).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_that_share_the_channels_pass_the_suite() {
    let servers: Arc<Vec<_>> = Arc::new((0..3).map(|_| Start::new(Flavour::Redis).run()).collect());
    let topology = Topology::Servers(addresses(&*servers));
    run_both(servers, topology).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_under_sentinel_passes_the_suite() {
    let servers = Arc::new(Replicated::start(Flavour::Redis, 2));
    let topology = Topology::Sentinel {
        sentinels: addresses(&servers.sentinels),
        names: vec![servers.name().to_owned()],
    };
    run_both(servers, topology).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_passes_the_suite() {
    let servers = Arc::new(Cluster::start(Flavour::Redis, 3));
    let topology = Topology::Cluster(addresses(&servers.servers[..1]));
    run_both(servers, topology).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_valkey_passes_the_suite() {
    let servers = Arc::new(Cluster::start(Flavour::Valkey, 3));
    let topology = Topology::Cluster(addresses(&servers.servers[..1]));
    run_both(servers, topology).await;
}
