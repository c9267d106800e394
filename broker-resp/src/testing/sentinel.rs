//! Sentinels that watch a primary with replicas, all of one test. One server lives in `server`.

use std::{fs, time::Duration};

use tempfile::TempDir;

use crate::{
    Address, Command, Link, Options, Target, Value, Wait,
    testing::{
        Server,
        cluster::{info, until},
        process::{Process, free_port},
    },
};

/// A primary, its replicas, and three sentinels that fail over after half a second. All are killed when this is dropped.
#[derive(Debug)]
pub struct Sentinels {
    /// First the one that was primary at the start, then its replicas.
    pub servers: Vec<Server>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Sentinels {
    /// The name under which the sentinels know the primary.
    pub const NAME: &'static str = "main";

    /// Starts a primary with so many replicas and three sentinels, and waits until they know each other.
    pub async fn start(replicas: usize) -> Self {
        let mut servers = vec![Server::start().await];
        let primary = servers[0].port().to_string();
        for _ in 0..replicas {
            servers.push(Server::start_with(&["--replicaof", &format!("127.0.0.1 {primary}")]).await);
        }
        for replica in &servers[1..] {
            until("a replica follows", async || info(replica, "replication").await.contains("master_link_status:up")).await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(servers[0].port()).await);
        }
        let running = Self { servers, sentinels };
        for sentinel in &running.sentinels {
            until("the sentinels know each other and the replicas", async || sentinel.knows(2, replicas).await).await;
        }
        running
    }

    /// Where the sentinels listen.
    pub fn addresses(&self) -> Vec<Address> {
        self.sentinels.iter().map(|sentinel| sentinel.target().address).collect()
    }
}

impl Sentinel {
    async fn start(primary: u16) -> Self {
        for _ in 0..20 {
            let folder = tempfile::Builder::new().prefix("resp-").tempdir().expect("a temporary folder can be made");
            let (port, path, name) = (free_port(), folder.path().join("sentinel.conf"), Sentinels::NAME);
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds {name} 500\n\
                 sentinel failover-timeout {name} 3000\n",
                folder.path().display()
            );
            fs::write(&path, text).expect("the folder is ours");
            match Process::start(&[path.display().to_string(), "--sentinel".to_owned()], "Sentinel ID is").await {
                Ok(process) => return Self { port, _process: process, _folder: folder },
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("the sentinel does not start:\n{log}"),
            }
        }
        panic!("found no port to listen on")
    }

    fn target(&self) -> Target {
        Target::tcp("127.0.0.1", self.port)
    }

    async fn knows(&self, sentinels: i64, replicas: usize) -> bool {
        let (link, _events) = Link::open(self.target(), Options::default());
        let question = Command::new("SENTINEL").arg("MASTER").arg(Sentinels::NAME);
        let Ok(told) = link.call(&question, Wait::at_most(Duration::from_secs(10)).for_link()).await else { return false };
        let number = |name| told.field(name).and_then(Value::integer);
        number("num-other-sentinels") == Some(sentinels) && number("num-slaves") == i64::try_from(replicas).ok()
    }
}
