//! Two nodes on one Redis against one: what a delivery costs whose publisher sits on another node, and what a node with many topics costs.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    BURST, PORTION, TOPICS, WARM_UP, figures, frames,
    load::{Peer, Publisher, Subscribers, open_small},
    process::Server,
    redis::Redis,
    slow::read_frame,
};

/// Where the publisher and the subscribers are.
struct Setup {
    name: &'static str,
    publisher: Publisher<'static>,
    subscribers: Subscribers,
    nodes: Vec<Server>,
    /// The last to go.
    _redis: Option<Redis>,
}

impl Setup {
    /// The publisher is on the first of the nodes, the subscribers on the last.
    fn new(name: &'static str, nodes: Vec<Server>, redis: Option<Redis>, peer: Peer<'static>, subscribers: usize) -> Result<Self> {
        let [first, .., last] = [&nodes[0], &nodes[nodes.len() - 1]];
        let subscribers = Subscribers::connect(last.address, peer, subscribers)?;
        let publisher = Publisher::connect(first.address, peer)?;
        let mut setup = Self { name, publisher, subscribers, nodes, _redis: redis };
        setup.publish(WARM_UP, 1)?;
        Ok(setup)
    }

    /// Publishes, and says what CPU time the nodes took together, in nanoseconds.
    fn publish(&mut self, bursts: u64, size: u64) -> Result<u64> {
        let before = self.cpu_ns()?;
        self.publisher.publish(&mut self.subscribers, bursts, size).with_context(|| format!("{} in bursts of {size}", self.name))?;
        Ok(self.cpu_ns()? - before)
    }

    fn cpu_ns(&self) -> Result<u64> {
        self.nodes.iter().map(Server::cpu_ns).sum()
    }

    fn rest(&mut self) -> Result<()> {
        self.subscribers.idle(Duration::from_millis(5))?;
        self.publisher.take_answers()
    }
}

/// Measures all of them, a part of each in turn, beginning with another one in each round.
fn measure(setups: &mut [Setup], round: usize, bursts: u64, size: u64) -> Result<Vec<f64>> {
    let mut cpu_ns = vec![0; setups.len()];
    let mut left = bursts;
    while left > 0 {
        let portion = left.min(PORTION / 4 / size).max(1);
        for turn in 0..setups.len() {
            let which = (turn + round) % setups.len();
            setups.iter_mut().try_for_each(Setup::rest)?;
            cpu_ns[which] += setups[which].publish(portion, size)?;
        }
        left -= portion;
    }
    let deliveries = |setup: &Setup| (bursts * size * setup.subscribers.len() as u64) as f64;
    Ok(cpu_ns.iter().zip(setups).map(|(ns, setup)| *ns as f64 / deliveries(setup)).collect())
}

/// The floor, one node, and two nodes.
pub(crate) fn fanout(
    floor: impl Fn(usize) -> Result<Server>,
    node: impl Fn(&Redis) -> Result<Server>,
    subscribers: usize,
    messages: u64,
    rounds: usize,
) -> Result<()> {
    let modes = [("one at a time", messages, 1), ("bursts of 16", messages / BURST * 4, BURST)];
    let mut tables = Vec::new();
    for round in 0..rounds {
        for (topic, kind) in TOPICS {
            let peer = Peer::Broker { topic };
            let (one, two) = (Redis::start()?, Redis::start()?);
            let mut setups = [
                Setup::new("the floor", vec![floor(subscribers)?], None, Peer::Floor, subscribers)?,
                Setup::new("one node", vec![node(&one)?], Some(one), peer, subscribers)?,
                Setup::new("two nodes", vec![node(&two)?, node(&two)?], Some(two), peer, subscribers)?,
            ];
            for (mode, bursts, size) in modes {
                let name = format!("{mode}, {kind}");
                let figures = measure(&mut setups, round, bursts, size)?;
                match tables.iter_mut().find(|(known, _): &&mut (String, Vec<Vec<f64>>)| *known == name) {
                    Some((_, rows)) => rows.push(figures),
                    None => tables.push((name, vec![figures])),
                }
            }
        }
    }
    println!(
        "# Two nodes: {subscribers} subscribers, {} bytes, CPU time of the nodes per delivery; nothing was lost or out of order",
        frames::PAYLOAD_LEN
    );
    for (name, rows) in &tables {
        figures::print_nodes(name, rows);
    }
    Ok(())
}

/// Subscriptions of one connection.
const SUBSCRIPTIONS: usize = 100;
/// How long a node that is left alone is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// What a node costs that listens to many topics, each of one subscriber, and is left alone.
pub(crate) fn topics(
    alone: impl Fn() -> Result<Server>,
    node: impl Fn(&Redis) -> Result<Server>,
    topics: usize,
    rounds: usize,
) -> Result<()> {
    println!("\n# A node with {topics} topics that nobody publishes to, {SUBSCRIPTIONS} on each connection\n");
    println!(
        "| all subscribed after | resident per topic | the same without Redis | connections to Redis | that subscribe | CPU a second: node | Redis | before: node | Redis |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for _ in 0..rounds {
        let without = {
            let server = alone()?;
            let before = server.rss_bytes()?;
            let _clients = subscribe(&server, topics)?;
            (server.rss_bytes()? - before) / topics as u64
        };
        let redis = Redis::start()?;
        let server = node(&redis)?;
        let mut first = subscribe(&server, 1)?.0;
        first.push(open_small(server.address, "", None)?);
        let quiet = watch(&server, &redis)?;
        let before = server.rss_bytes()?;
        let (clients, took) = subscribe(&server, topics)?;
        let per_topic = (server.rss_bytes()? - before) / topics as u64;
        let (connections, subscribing) = redis.connections()?;
        let busy = watch(&server, &redis)?;
        ensure!(clients.len() == topics.div_ceil(SUBSCRIPTIONS), "a connection for each {SUBSCRIPTIONS} topics");
        println!(
            "| **{:.2} s** | {per_topic} bytes | {without} bytes | {connections} | **{subscribing}** | **{:.1} ms** | **{:.1} ms** | {:.1} ms | {:.1} ms |",
            took.as_secs_f64(),
            busy.0,
            busy.1,
            quiet.0,
            quiet.1
        );
    }
    Ok(())
}

/// Connections that listen to so many topics together, and how long that took.
fn subscribe(server: &Server, topics: usize) -> Result<(Vec<TcpStream>, Duration)> {
    let mut clients = Vec::new();
    for _ in 0..topics.div_ceil(SUBSCRIPTIONS) {
        clients.push(open_small(server.address, "", None)?);
    }
    let started = Instant::now();
    for (place, client) in clients.iter_mut().enumerate() {
        let its = place * SUBSCRIPTIONS..topics.min((place + 1) * SUBSCRIPTIONS);
        let commands: Vec<u8> = its.flat_map(|topic| frames::subscribe(&format!("kept:t{topic}"))).collect();
        client.write_all(&commands)?;
    }
    for (place, client) in clients.iter_mut().enumerate() {
        for topic in place * SUBSCRIPTIONS..topics.min((place + 1) * SUBSCRIPTIONS) {
            let answer = read_frame(client)?;
            ensure!(answer.starts_with(br#"{"broker":"subscribed""#), "topic {topic}: {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok((clients, started.elapsed()))
}

/// Milliseconds of CPU a second of the node and of Redis.
fn watch(server: &Server, redis: &Redis) -> Result<(f64, f64)> {
    let before = (server.cpu_ns()?, redis.cpu_ns()?);
    let started = Instant::now();
    thread::sleep(WATCHED);
    let after = (server.cpu_ns()?, redis.cpu_ns()?);
    let per_second = |ns: u64| ns as f64 / 1e6 / started.elapsed().as_secs_f64();
    Ok((per_second(after.0 - before.0), per_second(after.1 - before.1)))
}
