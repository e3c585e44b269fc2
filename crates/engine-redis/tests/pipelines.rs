//! Commands of many callers share writes.

use std::sync::Arc;

use tidewire_engine::conformance::Recorder;
use tidewire_engine::{Broker, NewPublication};
use tidewire_engine_redis::{Address, Options, RedisEngine, Topology};
use tidewire_protocol::ChannelName;
use tidewire_redis_testkit::{Flavour, Start};

const CALLERS: u64 = 64;
const EACH: u64 = 50;

/// Of callers that one read of answers had woken, each sent its next command in a write of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_callers_send_after_one_read_goes_out_in_one_write() {
    let server = Start::new(Flavour::Redis).run();
    let topology = Topology::Servers(vec![Address::tcp("127.0.0.1", server.port())]);
    let engine = Arc::new(RedisEngine::start(&Options { topology, ..Options::default() }).unwrap());
    engine.attach(Arc::new(Recorder::default()));
    engine.connected(std::time::Duration::from_secs(20)).await.unwrap();

    let reads = || server.ask(&["INFO", "stats"]).info("total_reads_processed").parse::<u64>().unwrap();
    let before = reads();
    let calls: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let channel = ChannelName::from(format!("channel-{caller}"));
                for _ in 0..EACH {
                    engine.publish(&channel, NewPublication::default()).await.unwrap();
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let reads = reads() - before;
    assert!(reads < CALLERS * EACH / 4, "{reads} reads for {} commands", CALLERS * EACH);
}
