//! Redis, two nodes behind proxies, clients behind a proxy to their node, and publishers: everything that a schedule does wrong to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use broker_resp::{
    Address, Command, Push, Value,
    testing::{Fate, Proxy, Server},
};
use parking_lot::Mutex;

use crate::{
    checker::{Checker, Counts},
    clients::{Clients, Kind},
    heard::{Healed, Heard},
    node::{API_KEY, Node},
    plant::{Lie, Planter},
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
    /// Clients at each node that listen to a quiet topic, beside the others.
    pub(crate) crowd: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { redis: &["--appendonly", "no"], durable: false, replica: false, crowd: 0 }
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
    /// How long after cures each node was ready.
    ready_after: Arc<Mutex<Vec<Duration>>>,
    /// How many messages each fault met.
    injected: Vec<Arc<AtomicU64>>,
    topics: Vec<String>,
    pub(crate) crowd: usize,
    clients: Vec<Clients>,
    publishing: Vec<tokio::task::JoinHandle<()>>,
}

/// Topics that are published to all the time.
const TOPICS: usize = 4;
/// One of them.
pub(crate) const FIRST_TOPIC: &str = "chaos:0";
/// One that is published to at the end.
pub(crate) const QUIET_TOPIC: &str = "chaos:quiet";
/// Publications of each topic: one in this time.
const PACE: Duration = Duration::from_millis(40);
/// All must be well again after so long.
const CALM_MAX: Duration = Duration::from_secs(30);
/// At the end clients are waited for so long.
const HEAD_MAX: Duration = Duration::from_secs(8);

impl World {
    /// Starts everything; publications begin.
    pub(crate) async fn start(programs: &Programs, folder: &Path, shape: Shape, seed: u64, lies: &[Lie]) -> Result<Self> {
        let redis = Server::start_with(shape.redis).await;
        let replica = if shape.replica { Some(replica_of(&redis).await) } else { None };
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
        let quiet = (shape.crowd > 0).then(|| QUIET_TOPIC.to_owned());
        let topics: Vec<String> = (0..TOPICS).map(|n| format!("chaos:{n}")).chain(quiet).collect();
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
            ready_after: Arc::default(),
            injected: Vec::new(),
            topics,
            crowd: shape.crowd,
            clients: Vec::new(),
            publishing: Vec::new(),
        };
        world.start_clients(programs, lies).await?;
        for topic in &world.topics[..TOPICS] {
            world.publishing.push(tokio::spawn(world.publisher.clone().run(topic.clone(), PACE)));
        }
        Ok(world)
    }

    async fn start_clients(&mut self, programs: &Programs, lies: &[Lie]) -> Result<()> {
        let scripts = &programs.scripts;
        let (js, python) = (scripts.join("node/chaos_client.mjs"), scripts.join("python/chaos_client.py"));
        let mut lies = lies.iter().copied();
        let (busy, all) = (self.topics[..TOPICS].to_vec(), self.topics.clone());
        for (node, front) in self.fronts.iter().enumerate() {
            let address = front.address();
            let centrifuge = format!("ws://{address}/connection/websocket");
            let plain = format!("ws://{address}/ws?format=envelope");
            for (program, script, url, name, count, topics) in [
                (&programs.node, &js, &centrifuge, "npm", 10, &busy),
                (&programs.python, &python, &centrifuge, "pypi", 3, &busy),
                (&programs.python, &python, &plain, "plain", 5, &busy),
                (&programs.node, &js, &centrifuge, "crowd", self.crowd, &all[TOPICS..].to_vec()),
            ] {
                if count == 0 {
                    continue;
                }
                let (url, name, topics, planter) = (url.clone(), format!("{name}{node}"), topics.clone(), Planter::new(lies.next()));
                let kind = Kind { program, script, url, name, node, count, topics, planter };
                self.clients.push(Clients::start(kind, self.checker.clone(), self.heard.clone()).await?);
            }
        }
        Ok(())
    }

    /// A fault that let nothing through is cured: from here on it is measured when every subscription at these nodes hears something again, which may have
    /// been published before, and when both nodes are ready.
    pub(crate) fn cured(&self, nodes: &[usize]) {
        self.watch_from(nodes, 0);
        for node in 0..self.nodes.len() {
            let (publisher, ready_after, begun) = (self.publisher.clone(), self.ready_after.clone(), Instant::now());
            tokio::spawn(async move {
                while publisher.is_ready(node).await != Some(true) && begun.elapsed() < CALM_MAX {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                ready_after.lock().push(begun.elapsed());
            });
        }
    }

    /// From here on it is measured when every subscription at these nodes hears something published later.
    pub(crate) fn watch(&self, nodes: &[usize]) {
        self.watch_from(nodes, self.publisher.next_number());
    }

    fn watch_from(&self, nodes: &[usize], number: u64) {
        let clients = self.clients.iter().filter(|clients| nodes.contains(&clients.node) && !clients.is_crowd());
        self.heard.watch(number, clients.flat_map(Clients::subscriptions));
    }

    /// These nodes must say that they are not ready.
    pub(crate) async fn are_not_ready(&self, nodes: &[usize]) -> Result<()> {
        for node in nodes {
            ensure!(self.publisher.is_ready(*node).await == Some(false), "node {node} says that it is ready, and is not");
        }
        Ok(())
    }

    /// Does this to single messages of topics on their way to a node; a run in which none was met shows nothing, and fails.
    pub(crate) fn judge_messages(&mut self, node: usize, mut fate: impl FnMut() -> Fate + Send + 'static) {
        let met = Arc::new(AtomicU64::new(0));
        self.injected.push(met.clone());
        self.links[node].judge_pushes(move |push| match push {
            Push::Message { channel, .. } if channel.windows(6).any(|part| part == b"chaos:") => {
                let fate = fate();
                met.fetch_add(u64::from(fate != Fate::Pass), Relaxed);
                fate
            }
            _ => Fate::Pass,
        });
    }

    /// No more is published by itself, and all that was begun is acknowledged.
    pub(crate) async fn end_publishing(&mut self) -> Result<()> {
        self.publisher.goes_on.store(false, Relaxed);
        for publishing in std::mem::take(&mut self.publishing) {
            tokio::time::timeout(CALM_MAX, publishing).await.context("a publish is never acknowledged")??;
        }
        Ok(())
    }

    /// One more publication of each topic.
    pub(crate) async fn publish_all(&self) -> Result<()> {
        for topic in &self.topics {
            tokio::time::timeout(CALM_MAX, self.publisher.publish(topic, 0)).await.context("the last publish is never acknowledged")?;
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
    pub(crate) async fn tell_redis(&self, words: &[&'static str]) -> Value {
        let (first, rest) = words.split_first().expect("a command has a name");
        self.redis.call(&Command::new(first).args(rest)).await
    }

    /// A replica follows Redis from now on.
    pub(crate) async fn attach_replica(&mut self) {
        self.replica = Some(replica_of(&self.redis).await);
    }

    /// Deletes the keys of topics that end so, as an eviction does; how many there were.
    pub(crate) async fn evict(&self, end: &str) -> Result<i64> {
        let keys = self.redis.call(&Command::new("KEYS").arg(format!("*chaos:*{end}"))).await;
        let keys: Vec<String> = keys.values().context("keys are a list")?.iter().filter_map(Value::text).map(str::to_owned).collect();
        ensure!(!keys.is_empty(), "no key ends with {end}");
        self.redis.call(&Command::new("DEL").args(keys)).await.integer().context("a number of keys")
    }

    /// Ends the run: one more publication of each topic, and everybody at the head.
    pub(crate) async fn finish(mut self) -> Result<Outcome> {
        self.end_publishing().await?;
        self.publish_all().await?;
        let heads = self.publisher.heads();
        ensure!(heads.len() == self.topics.len(), "not all topics were published to");
        ensure!(self.injected.iter().all(|met| met.load(Relaxed) > 0), "the fault met no message");
        let begun = Instant::now();
        loop {
            let (there, all) = self.checker.lock().at_head(&heads);
            if there == all || begun.elapsed() > HEAD_MAX {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let calm_after = begun.elapsed();
        let mut checker = self.checker.lock();
        let counts = checker.finish(&heads);
        let mut ready_after = self.ready_after.lock().clone();
        ready_after.sort();
        Ok(Outcome {
            counts,
            broken: std::mem::take(&mut checker.broken),
            acknowledged: self.publisher.acknowledged.load(Relaxed),
            slowest_publish: *self.publisher.slowest.lock(),
            failures: self.publisher.failures.lock().clone(),
            healed: self.heard.healed(),
            ready_after,
            disconnects: self.heard.disconnects.lock().iter().map(|(code, all)| (*code, all.len() as u64)).collect(),
            calm_after,
        })
    }
}

/// A server that follows another one, and hands its own data on at once.
async fn replica_of(redis: &Server) -> Server {
    let port = redis.port().to_string();
    Server::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await
}

/// What a run showed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) broken: Vec<String>,
    pub(crate) acknowledged: u64,
    pub(crate) slowest_publish: Duration,
    /// Answers to publishes that were no acknowledgement, and how many.
    pub(crate) failures: BTreeMap<String, u64>,
    /// How long after cures subscriptions heard something published later.
    pub(crate) healed: Healed,
    /// How long after cures each node was ready, sorted.
    pub(crate) ready_after: Vec<Duration>,
    /// How often clients lost their connection, by the code that they were told.
    pub(crate) disconnects: BTreeMap<u32, u64>,
    /// How long after the last publication all clients had all.
    pub(crate) calm_after: Duration,
}
