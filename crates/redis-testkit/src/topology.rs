//! Servers that know each other.

use std::time::{Duration, Instant};

use crate::server::free_port;
use crate::{Answer, Flavour, Server, Start, ask};

/// A primary, its replicas, and Sentinels that watch them.
pub struct Replicated {
    /// The first is the primary, as long as nothing happened.
    pub servers: Vec<Server>,
    /// The Sentinels.
    pub sentinels: Vec<Server>,
}

/// A Redis Cluster.
pub struct Cluster {
    /// The first half began as primaries, the second half as their replicas, in the same order.
    pub servers: Vec<Server>,
}

/// What Sentinels call the primary.
const NAME: &str = "primary";

// === impl Replicated ===

impl Replicated {
    /// Starts a primary with so many replicas and one Sentinel, and waits until all know each other.
    pub fn start(flavour: Flavour, replicas: usize) -> Self {
        let quick = ["--repl-diskless-sync-delay", "0"];
        let primary = Start::new(flavour).with(&quick).run();
        let port = primary.port().to_string();
        let replica = |_| Start::new(flavour).with(&quick).with(&["--replicaof", "127.0.0.1", &port]).run();
        let mut servers = vec![primary];
        servers.extend((0..replicas).map(replica));
        for server in &servers[1..] {
            server.wait_for(&["INFO", "replication"], |info| info.info("master_link_status") == "up");
        }
        servers[0].wait_for(&["INFO", "replication"], |info| {
            info.text().matches("state=online").count() == replicas
        });
        let lines = [
            format!("sentinel monitor {NAME} 127.0.0.1 {port} 1"),
            format!("sentinel down-after-milliseconds {NAME} 500"),
            format!("sentinel failover-timeout {NAME} 3000"),
        ];
        let sentinel = Start::sentinel(flavour, &lines).run();
        let known = replicas.to_string();
        sentinel.wait_for(&["INFO", "sentinel"], |info| {
            info.text().contains(&format!("status=ok,address=127.0.0.1:{port},slaves={known},"))
        });
        Self { servers, sentinels: vec![sentinel] }
    }

    /// What the Sentinels call the primary.
    pub fn name(&self) -> &'static str {
        NAME
    }

    /// Which of the servers the Sentinels take for the primary.
    pub fn primary(&self) -> usize {
        let answer = self.sentinels[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
        let Answer::List(parts) = answer else { panic!("{answer:?}") };
        let port = parts[1].text();
        self.servers.iter().position(|server| server.port().to_string() == port).unwrap()
    }
}

impl Replicated {
    /// How long Sentinels wait for an answer before they take a server for dead. At first half a second, which a busy machine
    /// may make anybody wait.
    ///
    /// # Panics
    /// If a Sentinel does not take it.
    pub fn set_patience(&self, patience: Duration) {
        let time = patience.as_millis().to_string();
        for sentinel in &self.sentinels {
            let answer = sentinel.ask(&["SENTINEL", "SET", NAME, "down-after-milliseconds", &time]);
            assert_eq!(answer, Answer::Text("OK".into()));
        }
    }

    /// Waits until a failover away from a primary has come to its end, and says to which. Before that, Sentinels may still
    /// think better of it.
    ///
    /// # Panics
    /// If that does not come within a minute.
    pub fn wait_for_another(&self, old: usize) -> usize {
        let begun = Instant::now();
        loop {
            let info = self.sentinels[0].ask(&["INFO", "sentinel"]);
            let is =
                |server: &Server| info.text().contains(&format!("status=ok,address={},", server.address()));
            match self.servers.iter().position(is) {
                Some(new) if new != old => return new,
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
            let log = || self.sentinels[0].log();
            assert!(begun.elapsed() < Duration::from_secs(60), "no failover: {info:?}\n{}", log());
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Starts so many primaries with one replica each, and waits until the cluster serves all slots.
    pub fn start(flavour: Flavour, primaries: usize) -> Self {
        let server = |_| {
            let bus = free_port().to_string();
            let options = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--repl-diskless-sync-delay",
                "0",
                "--cluster-allow-replica-migration",
                "no",
            ];
            Start::new(flavour).with(&options).run()
        };
        let servers: Vec<Server> = (0..2 * primaries).map(server).collect();
        for (at, server) in servers.iter().enumerate() {
            let known = server.ask(&["CONFIG", "GET", "cluster-port"]);
            let Answer::List(bus) = known else { panic!("{known:?}") };
            for other in servers.iter().filter(|other| other.port() != server.port()).take(1) {
                other.ask(&["CLUSTER", "MEET", "127.0.0.1", &server.port().to_string(), bus[1].text()]);
            }
            if at < primaries {
                let slots = 16_384;
                let (from, to) = (slots * at / primaries, slots * (at + 1) / primaries - 1);
                server.ask(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
                server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            }
        }
        let size = servers.len().to_string();
        for server in &servers {
            server.wait_for(&["CLUSTER", "INFO"], |info| info.info("cluster_known_nodes") == size);
        }
        for (primary, replica) in servers[..primaries].iter().zip(&servers[primaries..]) {
            let id = primary.ask(&["CLUSTER", "MYID"]);
            replica.wait_for(&["CLUSTER", "REPLICATE", id.text()], |answer| {
                *answer == Answer::Text("OK".into())
            });
        }
        for replica in &servers[primaries..] {
            replica.wait_for(&["INFO", "replication"], |info| {
                info.info("role") == "slave" && info.info("master_link_status") == "up"
            });
        }
        for server in &servers {
            server.wait_for(&["CLUSTER", "INFO"], |info| info.info("cluster_state") == "ok");
        }
        Self { servers }
    }
}

// === impl Cluster: what can be done to it ===

impl Cluster {
    /// Which of the servers owns the slot of a key, as most of those that answer see it.
    ///
    /// # Panics
    /// If nobody knows.
    pub fn owner(&self, key: &str) -> usize {
        let mut votes = vec![0; self.servers.len()];
        for server in &self.servers {
            let Ok(Answer::Text(slot)) = ask(server.port(), &["CLUSTER", "KEYSLOT", key]) else { continue };
            let slot: i64 = slot.parse().unwrap();
            let Ok(Answer::List(ranges)) = ask(server.port(), &["CLUSTER", "SLOTS"]) else { continue };
            for range in &ranges {
                let Answer::List(parts) = range else { continue };
                let bound = |at: usize| parts[at].text().parse::<i64>().unwrap();
                let Answer::List(primary) = &parts[2] else { continue };
                let owner =
                    self.servers.iter().position(|server| server.port().to_string() == primary[1].text());
                if let (true, Some(owner)) = ((bound(0)..=bound(1)).contains(&slot), owner) {
                    votes[owner] += 1;
                }
            }
        }
        let best = votes.iter().enumerate().max_by_key(|(_, votes)| **votes);
        best.filter(|(_, votes)| **votes > 0).unwrap_or_else(|| panic!("nobody owns {key}")).0
    }

    /// The replica of a primary.
    ///
    /// # Panics
    /// If it has none.
    pub fn replica_of(&self, primary: usize) -> usize {
        let port = self.servers[primary].port().to_string();
        let follows = |server: &Server| {
            let info = server.ask(&["INFO", "replication"]);
            info.info("role") == "slave" && info.info("master_port") == port
        };
        self.servers.iter().position(follows).unwrap_or_else(|| panic!("no replica of {port}"))
    }

    /// Moves the slot of a key from one primary to another, key by key, while it is in use.
    ///
    /// # Panics
    /// If a server refuses.
    pub fn migrate(&self, key: &str, from: usize, to: usize) {
        let slot = self.servers[from].ask(&["CLUSTER", "KEYSLOT", key]);
        let slot = slot.text();
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let (source_id, target_id) = (source.ask(&["CLUSTER", "MYID"]), target.ask(&["CLUSTER", "MYID"]));
        target.ask(&["CLUSTER", "SETSLOT", slot, "IMPORTING", source_id.text()]);
        source.ask(&["CLUSTER", "SETSLOT", slot, "MIGRATING", target_id.text()]);
        let port = target.port().to_string();
        loop {
            let keys = match source.ask(&["CLUSTER", "GETKEYSINSLOT", slot, "5"]) {
                Answer::List(keys) if !keys.is_empty() => keys,
                none => {
                    assert_eq!(none, Answer::List(vec![]));
                    break;
                }
            };
            let mut command = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            command.extend(keys.iter().map(Answer::text));
            let answer = source.ask(&command);
            assert!(!matches!(answer, Answer::Error(_)), "{answer:?}");
        }
        for server in [target, source] {
            server.ask(&["CLUSTER", "SETSLOT", slot, "NODE", target_id.text()]);
        }
    }
}
