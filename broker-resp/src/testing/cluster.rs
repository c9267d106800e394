//! A cluster of servers that belong to one test. One server lives in `server`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Command, testing::Server};

/// How many servers a cluster has, and how fast it acts.
#[derive(Clone, Copy, Debug)]
pub struct ClusterShape {
    /// Servers with slots of their own. At least 3, or a failover finds no majority. Default: 3.
    pub primaries: usize,
    /// Replicas of each. Default: 1.
    pub replicas: usize,
    /// After what time a silent server counts as failed. Default: 2 s.
    pub node_timeout: Duration,
}

impl Default for ClusterShape {
    fn default() -> Self {
        Self { primaries: 3, replicas: 1, node_timeout: Duration::from_secs(2) }
    }
}

/// A running cluster; all its servers are killed when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// First the primaries in the order of their slots, then their replicas: of the first, of the second, and so on.
    pub servers: Vec<Server>,
    shape: ClusterShape,
}

/// Slots of each cluster.
const SLOTS: usize = 16_384;

/// How long a cluster may take to agree.
const AGREE_TIMEOUT: Duration = Duration::from_secs(60);

impl Cluster {
    /// Starts a cluster, divides the slots, and waits until all servers agree and all replicas follow.
    pub async fn start(shape: ClusterShape) -> Self {
        Self::start_with::<&str>(shape, &[]).await
    }

    /// The same with more settings for each server.
    pub async fn start_with<A: AsRef<str>>(shape: ClusterShape, more: &[A]) -> Self {
        let timeout = shape.node_timeout.as_millis().to_string();
        let mut arguments: Vec<&str> =
            vec!["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", &timeout];
        // A replica that was cut off for a moment is as good as any other.
        arguments.extend(["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]);
        arguments.extend(more.iter().map(AsRef::as_ref));
        let mut servers = Vec::new();
        for _ in 0..shape.primaries * (1 + shape.replicas) {
            servers.push(Server::start_with(&arguments).await);
        }
        let cluster = Self { servers, shape };
        cluster.divide().await;
        cluster.meet().await;
        cluster.agree().await;
        cluster.follow().await;
        cluster
    }

    /// Waits until every server that runs sees all slots served.
    pub async fn agree(&self) {
        let known = format!("cluster_known_nodes:{}\r", self.servers.len());
        for server in self.servers.iter().filter(|server| server.runs()) {
            until("all slots are served", async || {
                let info = cluster(server, &["INFO"]).await;
                info.contains("cluster_state:ok") && info.contains(&known)
            })
            .await;
        }
    }

    /// The number of the server that serves the slot of a key, as the first server that runs sees it.
    pub async fn owner(&self, key: &str) -> usize {
        let asked = self.servers.iter().find(|server| server.runs()).expect("a server of the cluster runs");
        let slot = asked.call(&Command::new("CLUSTER").arg("KEYSLOT").arg(key)).await.integer().expect("a slot is a number");
        let ranges = asked.call(&Command::new("CLUSTER").arg("SLOTS")).await.into_values().expect("ranges are a list");
        let port = ranges.iter().find_map(|range| {
            let range = range.values()?;
            let within = range[0].integer()? <= slot && slot <= range[1].integer()?;
            if within { range[2].values()?[1].integer() } else { None }
        });
        let port = port.expect("each slot has a server");
        self.servers.iter().position(|server| i64::from(server.port()) == port).expect("the servers are ours")
    }

    /// Waits until a slot has another server than `former`, and answers its number.
    pub async fn owner_after(&self, key: &str, former: usize) -> usize {
        until("another server has the slot", async || self.owner(key).await != former).await;
        self.owner(key).await
    }

    async fn meet(&self) {
        let first = self.servers[0].port().to_string();
        for server in &self.servers[1..] {
            cluster(server, &["MEET", "127.0.0.1", &first]).await;
        }
        for server in &self.servers {
            until("all servers have met", async || {
                let nodes = cluster(server, &["NODES"]).await;
                let strangers = nodes.lines().filter(|node| node.contains("handshake") || node.contains(" disconnected")).count();
                strangers == 0 && nodes.lines().count() == self.servers.len()
            })
            .await;
        }
    }

    async fn divide(&self) {
        for (place, server) in self.servers[..self.shape.primaries].iter().enumerate() {
            let first = place * SLOTS / self.shape.primaries;
            let next = (place + 1) * SLOTS / self.shape.primaries;
            // Servers that claim the same epoch would first have to settle it; an epoch can be set only before they meet.
            cluster(server, &["SET-CONFIG-EPOCH", &(place + 1).to_string()]).await;
            let slots = (first..next).map(|slot| slot.to_string());
            server.call(&Command::new("CLUSTER").arg("ADDSLOTS").args(slots)).await;
        }
    }

    async fn follow(&self) {
        for (place, replica) in self.servers[self.shape.primaries..].iter().enumerate() {
            let primary = cluster(&self.servers[place / self.shape.replicas], &["MYID"]).await;
            until("a replica knows its primary", async || cluster(replica, &["NODES"]).await.contains(&primary)).await;
            cluster(replica, &["REPLICATE", &primary]).await;
        }
        for replica in &self.servers[self.shape.primaries..] {
            until("a replica follows", async || info(replica, "replication").await.contains("master_link_status:up")).await;
        }
        let replicas = self.servers.len() - self.shape.primaries;
        for server in &self.servers {
            until("all servers know the replicas", async || cluster(server, &["NODES"]).await.matches("slave ").count() == replicas).await;
        }
    }
}

async fn cluster(server: &Server, words: &[&str]) -> String {
    server.call(&Command::new("CLUSTER").args(words)).await.text().unwrap_or_default().to_owned()
}

/// A section of what a server tells about itself.
pub(crate) async fn info(server: &Server, section: &str) -> String {
    server.call(&Command::new("INFO").arg(section)).await.text().unwrap_or_default().to_owned()
}

/// Servers tell nobody when they agree: they are asked again and again.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let give_up_at = Instant::now() + AGREE_TIMEOUT;
    while !holds().await {
        assert!(Instant::now() < give_up_at, "not within {AGREE_TIMEOUT:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
