//! Clients, one node and faults in virtual time: everything that chance decides comes from one seed, so every run can be had again.
//!
//! The node is the real engine on a runtime with one thread and a clock that stands still while anybody works. Clients speak both protocols through
//! the real codecs; pipes, backplane and application misbehave. What clients hear is compared with what was published ([`follower`]).
//!
//! ```
//! let outcome = simulation::run(1, None);
//! assert!(outcome.violations.is_empty());
//! assert_eq!(simulation::run(1, None).hash, outcome.hash, "the same seed, the same run");
//! ```

mod application;
mod bus;
mod client;
mod follower;
mod hearing;
mod listener;
mod pipe;
mod publisher;
mod table;
mod truth;
mod wants;
mod wire;
mod world;

use std::{sync::Arc, time::Duration};

use broker_core::{Position, Topic};
use fastrand::Rng;
use tokio::{runtime::Builder, task::JoinHandle, time::sleep};

use client::{Client, USERS};
pub use world::Plant;
use world::{Phase, World, topic};

/// What one simulation came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed that brings it back.
    pub seed: u64,
    /// Broken promises.
    pub violations: Vec<String>,
    /// The last things that happened, one a line.
    pub trace: Vec<String>,
    /// Equal for equal runs.
    pub hash: u64,
    /// What it went through.
    pub paths: Paths,
}

/// How often a simulation went where things can go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paths {
    /// Publications handed to connections.
    pub deliveries: u64,
    /// Resumes that recovered everything.
    pub recovered: u64,
    /// Resumes that could not, and said so.
    pub refused: u64,
    /// Gaps that subscribers were told.
    pub gaps: u64,
    /// Publications dropped because a client was slow.
    pub dropped: u64,
    /// Times that a slow subscription was let go to catch up.
    pub catch_ups: u64,
    /// Topics that left out a shard.
    pub lags: u64,
    /// Panics that were caught.
    pub panics: u64,
    /// Connections that were opened.
    pub connections: u64,
}

impl Paths {
    /// Adds another simulation's.
    pub fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.recovered += other.recovered;
        self.refused += other.refused;
        self.gaps += other.gaps;
        self.dropped += other.dropped;
        self.catch_ups += other.catch_ups;
        self.lags += other.lags;
        self.panics += other.panics;
        self.connections += other.connections;
    }

    fn add_stats(&mut self, stats: &broker_core::Stats) {
        self.add(&Self {
            deliveries: stats.deliveries.value(),
            recovered: stats.resumes_recovered.value(),
            refused: stats.resumes_failed.value(),
            gaps: stats.gaps.value(),
            dropped: stats.dropped_slow_consumer.value(),
            catch_ups: stats.catch_ups.value(),
            lags: stats.lags.value(),
            panics: stats.panics.value(),
            connections: stats.connections_opened.value(),
        });
    }
}

/// Runs one simulation from its seed, with or without a planted mistake.
pub fn run(seed: u64, plant: Option<Plant>) -> Outcome {
    // The engine draws from the thread's own generator.
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime without threads needs nothing");
    runtime.block_on(async {
        let world = World::new(&mut rng, plant);
        let mut paths = Paths::default();
        live(&world, &mut rng, &mut paths).await;
        let (trace, hash) = world.traced();
        Outcome { seed, violations: world.violations(), trace, hash, paths }
    })
}

async fn live(world: &Arc<World>, rng: &mut Rng, paths: &mut Paths) {
    let clients: Vec<JoinHandle<Client>> =
        (0..rng.usize(3..7)).map(|name| tokio::spawn(Client::new(name, world.clone(), rng.fork()).live())).collect();
    let publishers: Vec<JoinHandle<()>> =
        (0..rng.usize(1..4)).map(|name| tokio::spawn(publisher::publish_until_calm(name, world.clone(), rng.fork()))).collect();
    let listeners: Vec<JoinHandle<()>> = (0..rng.usize(0..3)).map(|_| tokio::spawn(listener::listen(world.clone(), rng.fork()))).collect();
    let storm = tokio::spawn(trouble(world.clone(), rng.fork()));
    let restarted = storm.await.expect("the storm ends");
    paths.add(&restarted);
    world.enter(Phase::Calm);
    // Three ends: everything is read again, and one more is published to each topic; it is only read; or not even that.
    let end = rng.u8(0..3);
    world.bus().heal(end < 2);
    for publisher in publishers {
        publisher.await.expect("publishers end");
    }
    sleep(Duration::from_secs(8)).await;
    // Where nothing is lost nobody may need another publication to see that something is missing.
    if world.bus().loses() && end == 0 || world.bus().is_reliable() {
        publisher::publish_to_all(world, "last").await;
    }
    sleep(Duration::from_secs(2)).await;
    world.enter(Phase::Over);
    for listener in listeners {
        listener.await.expect("listeners end");
    }
    let mut quiet = Vec::new();
    for client in clients {
        quiet.push(client.await.expect("clients end"));
    }
    check_quiet(world, quiet).await;
    if let Some(engine) = world.engine() {
        paths.add_stats(engine.stats());
    }
}

/// What happens to the node and its backplane while the storm lasts.
async fn trouble(world: Arc<World>, mut rng: Rng) -> Paths {
    let mut paths = Paths::default();
    let until = Duration::from_millis(rng.u64(1_500..4_000));
    let started = tokio::time::Instant::now();
    while started.elapsed() < until {
        sleep(Duration::from_millis(rng.u64(50..700))).await;
        match rng.u8(0..10) {
            0 | 1 => world.bus().roll_back().await,
            2 | 3 => world.bus().lose_link(Duration::from_millis(rng.u64(1..400))).await,
            4 => {
                if let Some(engine) = world.engine() {
                    if rng.bool() {
                        engine.drain(Duration::from_millis(rng.u64(1..300))).await;
                    }
                    paths.add_stats(engine.stats());
                }
                world.stop_node(&mut rng);
                sleep(Duration::from_millis(rng.u64(0..100))).await;
                world.start_node();
            }
            5 | 6 => world.revoke(USERS[rng.usize(0..USERS.len())]).await,
            _ => {}
        }
    }
    paths
}

/// The state of a keyed topic is the newest of each key, in the order of their offsets.
async fn check_rows(world: &World, topic: &Topic, top: Position) {
    let rows = world.bus().rows(topic).await;
    let must_be = world.truth.rows(topic, top);
    if rows != must_be {
        world.violated(format!("the state of {topic} at {top} has {rows:?}, not {must_be:?}"));
    }
}

/// Everybody at the head; counters as they must be, while all are there and when all have gone.
async fn check_quiet(world: &World, clients: Vec<Client>) {
    let bus = world.bus();
    let mut tops: Vec<Option<Position>> = Vec::new();
    for (topic, promise) in &world.topics {
        let top = bus.top(topic).await.filter(|_| bus.is_heard(topic));
        if let Some(top) = top.filter(|_| promise.keyed) {
            check_rows(world, topic, top).await;
        }
        tops.push(top);
    }
    for client in &clients {
        client.check_quiet(&tops);
    }
    let Some(engine) = world.engine() else { return world.violated("there is no node".to_owned()) };
    let stats = engine.stats();
    let heard = |client: &Client| world.topics.iter().filter(|(topic, _)| client.may_hear(topic)).count() as u64;
    let topics: u64 = clients.iter().map(heard).sum();
    let group = clients.len() as u64;
    let check = |what: &str, is: u64, must_be: u64| {
        if is != must_be {
            world.violated(format!("{what}: {is}, not {must_be}"));
        }
    };
    check("connections while all are there", stats.connections.value(), group);
    check("sessions while all are there", stats.sessions.value(), group);
    check("subscriptions while all are there", stats.subscriptions.value(), topics + group);
    check("bytes in backlogs while all are there", stats.backlog_bytes.value(), 0);
    for count in engine.topics().await {
        if world.promise(&count.topic).is_some() {
            let members = clients.iter().filter(|client| client.may_hear(&count.topic)).count();
            check(&format!("members of {}", count.topic), count.sessions as u64, members as u64);
        }
    }
    drop(clients);
    sleep(Duration::from_secs(5)).await;
    check("connections when all have gone", stats.connections.value(), 0);
    check("sessions when all have gone", stats.sessions.value(), 0);
    check("subscriptions when all have gone", stats.subscriptions.value(), 0);
    check("bytes in backlogs when all have gone", stats.backlog_bytes.value(), 0);
    check("topics with listeners when all have gone", engine.topics().await.len() as u64, 0);
    let info = engine.info().await;
    check("topics that the node knows when all have gone", info.iter().map(|node| node.topics as u64).sum(), 0);
    check("users when all have gone", info.iter().map(|node| node.users as u64).sum(), 0);
    for name in ["cut:a", "drop:a"] {
        let present = engine.presence(&topic(name)).await.map_or(0, |present| present.len() as u64);
        check(&format!("presence in {name} when all have gone"), present, 0);
    }
}
