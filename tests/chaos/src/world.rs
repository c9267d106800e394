//! Redis, two nodes behind proxies, clients behind a proxy to their node, and publishers: everything that a schedule does wrong to.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use broker_resp::{
    Address, Command,
    testing::{Proxy, Server},
};
use parking_lot::Mutex;

use crate::{
    checker::{Checker, Counts},
    clients::{Clients, Heard},
    node::{API_KEY, Node},
    publisher::Publisher,
};

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) broker: PathBuf,
    pub(crate) node: PathBuf,
    pub(crate) python: PathBuf,
    /// The folder of the clients' scripts, `tests/e2e`.
    pub(crate) scripts: PathBuf,
}

/// How a world is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Settings of Redis.
    pub(crate) redis: &'static [&'static str],
    pub(crate) durable: bool,
    /// Whether there is a replica.
    pub(crate) replica: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { redis: &["--appendonly", "no"], durable: false, replica: false }
    }
}

/// Everything of one run.
pub(crate) struct World {
    pub(crate) redis: Server,
    pub(crate) replica: Option<Server>,
    pub(crate) nodes: Vec<Node>,
    /// Between each node and Redis.
    pub(crate) links: Vec<Proxy>,
    /// Between clients and the node they are sent to.
    pub(crate) fronts: Vec<Proxy>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) checker: Arc<Mutex<Checker>>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) random: fastrand::Rng,
    topics: Vec<String>,
    clients: Vec<Clients>,
    publishing: Vec<tokio::task::JoinHandle<()>>,
}

const TOPICS: usize = 4;
/// Publications of each topic: one in this time.
const PACE: Duration = Duration::from_millis(40);
/// All must be well again after so long.
const CALM_MAX: Duration = Duration::from_secs(30);

impl World {
    /// Starts everything; publications begin.
    pub(crate) async fn start(programs: &Programs, folder: &Path, shape: Shape, seed: u64) -> Result<Self> {
        let redis = Server::start_with(shape.redis).await;
        let replica = match shape.replica {
            true => Some(Server::start_with(&["--replicaof", "127.0.0.1", &redis.port().to_string()]).await),
            false => None,
        };
        let (mut nodes, mut links, mut fronts) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..2 {
            let link = Proxy::start(redis.address()).await;
            let node =
                Node::start(&programs.broker, folder, &format!("node{n}"), &format!("redis://{}", link.address()), shape.durable).await?;
            let port = node.public.port();
            fronts.push(Proxy::start(Address::Tcp { host: "127.0.0.1".to_owned(), port }).await);
            nodes.push(node);
            links.push(link);
        }
        let checker = Arc::new(Mutex::new(Checker::default()));
        let heard = Arc::new(Heard::default());
        let publisher = Publisher::new(nodes.iter().map(|node| node.public).collect(), API_KEY, checker.clone());
        let topics: Vec<String> = (0..TOPICS).map(|n| format!("chaos:{n}")).collect();
        let mut world = Self {
            redis,
            replica,
            nodes,
            links,
            fronts,
            publisher,
            checker,
            heard,
            random: fastrand::Rng::with_seed(seed),
            topics,
            clients: Vec::new(),
            publishing: Vec::new(),
        };
        world.start_clients(programs).await?;
        for topic in &world.topics {
            world.publishing.push(tokio::spawn(world.publisher.clone().run(topic.clone(), PACE)));
        }
        Ok(world)
    }

    async fn start_clients(&mut self, programs: &Programs) -> Result<()> {
        let scripts = &programs.scripts;
        let (js, python) = (scripts.join("node/chaos_client.mjs"), scripts.join("python/chaos_client.py"));
        for (n, front) in self.fronts.iter().enumerate() {
            let address = front.address();
            let centrifuge = format!("ws://{address}/connection/websocket");
            let plain = format!("ws://{address}/ws?format=envelope");
            for (program, script, url, name, count) in [
                (&programs.node, &js, &centrifuge, format!("npm{n}"), 10),
                (&programs.python, &python, &centrifuge, format!("pypi{n}"), 3),
                (&programs.python, &python, &plain, format!("plain{n}"), 5),
            ] {
                let clients =
                    Clients::start(program, script, url, &name, count, &self.topics, self.checker.clone(), self.heard.clone()).await?;
                self.clients.push(clients);
            }
        }
        Ok(())
    }

    /// Sends the clients of a node to another one, as a balancer does.
    pub(crate) fn send_clients(&self, of: usize, to: usize) {
        let port = self.nodes[to].public.port();
        self.fronts[of].point_to(Address::Tcp { host: "127.0.0.1".to_owned(), port });
    }

    /// Lets some time pass.
    pub(crate) async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Lets between half and all of the time pass, as the seed says.
    pub(crate) async fn wait_about(&mut self, time: Duration) {
        let part = 0.5 + self.random.f64() / 2.0;
        self.wait(time.mul_f64(part)).await;
    }

    /// Asks Redis to do something, past the nodes.
    pub(crate) async fn tell_redis(&self, words: &[&'static str]) {
        let (first, rest) = words.split_first().expect("a command has a name");
        self.redis.call(&Command::new(first).args(rest)).await;
    }

    /// Ends the run: one more publication of each topic, and everybody at the head.
    pub(crate) async fn finish(mut self) -> Result<Outcome> {
        self.publisher.goes_on.store(false, Relaxed);
        for publishing in std::mem::take(&mut self.publishing) {
            tokio::time::timeout(CALM_MAX, publishing).await.map_err(|_| anyhow::anyhow!("a publish is never acknowledged"))??;
        }
        for topic in &self.topics {
            tokio::time::timeout(CALM_MAX, self.publisher.publish(topic, 0))
                .await
                .map_err(|_| anyhow::anyhow!("the last publish is never acknowledged"))?;
        }
        let heads = self.publisher.heads();
        ensure!(heads.len() == self.topics.len(), "not all topics were published to");
        let begun = Instant::now();
        loop {
            let (there, all) = self.checker.lock().at_head(&heads);
            if there == all || begun.elapsed() > CALM_MAX {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let calm_after = begun.elapsed();
        let mut checker = self.checker.lock();
        let counts = checker.finish(&heads);
        Ok(Outcome {
            counts,
            broken: std::mem::take(&mut checker.broken),
            acknowledged: self.publisher.acknowledged.load(Relaxed),
            slowest_publish: *self.publisher.slowest.lock(),
            failures: self.publisher.failures.lock().iter().map(|(what, count)| format!("{count} x {what}")).collect(),
            healed: self.heard.healed(),
            disconnects: self.heard.disconnects.lock().values().map(|all| all.len() as u64).sum(),
            calm_after,
        })
    }
}

/// What a run showed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) broken: Vec<String>,
    pub(crate) acknowledged: u64,
    pub(crate) slowest_publish: Duration,
    /// Answers to publishes that were no acknowledgement.
    pub(crate) failures: Vec<String>,
    /// How long after the cure each client was told something again.
    pub(crate) healed: Vec<Duration>,
    pub(crate) disconnects: u64,
    pub(crate) calm_after: Duration,
}
