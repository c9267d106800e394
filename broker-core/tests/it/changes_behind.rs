//! Whoever is behind, by every policy, while the topic begins a new life, the session changes hands, the subscription ends and begins, or the
//! node drains: nothing twice, nothing missing that is not told, and nobody left over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use broker_core::{
    Announcement, Backplane, Capabilities, Engine, Keep, LogPage, LogQuery, MemoryBackplane, Publish, PublishFailed, Published, Rates,
    Sink, SlowConsumer, Subscribe, Topic, Unavailable,
    testing::{Client, LineProtocol},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    delivering::{json, open_engine, quiet, topic},
    identity::{authenticate, identity},
};

const TOPIC: &str = "slow:a";
const POLICIES: [SlowConsumer; 3] = [SlowConsumer::CatchUp, SlowConsumer::DropOldest, SlowConsumer::Latest];

/// A memory backplane that can begin a new life, and keep those waiting who read.
struct Lives {
    present: Mutex<Arc<MemoryBackplane>>,
    sink: Mutex<Option<Weak<dyn Sink>>>,
    readable: watch::Sender<bool>,
}

impl Lives {
    fn new() -> Self {
        let present = Mutex::new(Arc::new(MemoryBackplane::new()));
        Self { present, sink: Mutex::default(), readable: watch::Sender::new(true) }
    }

    fn present(&self) -> Arc<MemoryBackplane> {
        self.present.lock().unwrap().clone()
    }

    /// What was is forgotten, as after a restart of something outside.
    fn begin_anew(&self) {
        let fresh = Arc::new(MemoryBackplane::new());
        let sink = self.sink.lock().unwrap().clone().expect("the engine has started it");
        fresh.start(sink.clone());
        *self.present.lock().unwrap() = fresh;
        sink.upgrade().expect("the engine lives").link_restored();
    }

    async fn readable(&self) {
        // The sender lives as long as the backplane.
        let _ = self.readable.subscribe().wait_for(|readable| *readable).await;
    }
}

#[async_trait::async_trait]
impl Backplane for Lives {
    fn start(&self, sink: Weak<dyn Sink>) {
        *self.sink.lock().unwrap() = Some(sink.clone());
        self.present().start(sink);
    }

    fn capabilities(&self) -> Capabilities {
        self.present().capabilities()
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        self.present().publish(topic, publish, keep).await
    }

    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable> {
        self.present().announce(topic, announcement).await
    }

    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        self.present().interest(changes).await
    }

    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable> {
        self.readable().await;
        self.present().history(topic, query, keep).await
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        self.present().remove_history(topic).await
    }
}

/// One node with one slow subscriber, and what was published there.
struct World {
    engine: Engine,
    lives: Arc<Lives>,
    policy: SlowConsumer,
    gap_ends: bool,
    client: Client,
    life: u32,
    /// The key of each publication of the present life.
    keys: Vec<u32>,
    follower: Follower,
}

/// What one client has heard, compared with what it was promised.
#[derive(Default)]
struct Follower {
    subscribed: bool,
    /// The life and offset of the last publication, where that is known.
    life: Option<u32>,
    last: Option<u64>,
    /// A new life was told.
    anew: bool,
    /// Keys of publications that a newer one must replace, with their offsets.
    replaced: HashMap<u32, u64>,
}

impl World {
    async fn new(policy: SlowConsumer, gap_ends: bool) -> Self {
        let lives = Arc::new(Lives::new());
        let settings = |settings: &mut broker_core::Settings| {
            settings.shards = 1;
            settings.backlog_max_bytes = 2000;
            settings.rates = Rates::OFF;
            settings.ping_interval = Duration::from_secs(3600);
        };
        let engine = open_engine()
            .namespace("slow", quiet(5000).slow_consumer(policy))
            .on_connect(|request| async move { identity(request.connect.token.as_deref().unwrap_or_default()) })
            .backplane(lives.clone())
            .with_settings(settings)
            .build()
            .unwrap();
        let protocol = LineProtocol { gap_ends, ..LineProtocol::default() };
        let client = Client::connect_as(&engine, protocol, Some("ann")).await;
        let mut world = Self { engine, lives, policy, gap_ends, client, life: 1, keys: Vec::new(), follower: Follower::default() };
        world.subscribe().await;
        world
    }

    async fn settle(&self) {
        // Every task that can go on does: time passes when nobody can.
        sleep(Duration::from_millis(1)).await;
    }

    async fn publish(&mut self, count: usize) {
        for _ in 0..count {
            let n = self.keys.len() + 1;
            let key = (n % 3) as u32;
            self.keys.push(key);
            let publish = json(&format!("{}.{n}", self.life)).key(key.to_string());
            self.engine.publish(&topic(TOPIC), publish).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    async fn begin_anew(&mut self) {
        self.life += 1;
        self.keys.clear();
        self.lives.begin_anew();
        self.settle().await;
    }

    async fn subscribe(&mut self) {
        self.client.subscribe(TOPIC);
        self.settle().await;
    }

    /// Lets the client read so many lines at most, and compares each.
    fn read(&mut self, max: usize) {
        for _ in 0..max {
            let Some(line) = self.client.try_next() else { return };
            self.hear(&line);
        }
    }

    fn hear(&mut self, line: &str) {
        let Self { follower, policy, gap_ends, keys, life, .. } = self;
        let policy = *policy;
        if let Some(rest) = line.strip_prefix("subscribed slow:a at ") {
            assert!(!follower.subscribed, "{line}: it is subscribed");
            let at = rest.split(' ').next().unwrap().parse().unwrap();
            *follower = Follower { subscribed: true, last: Some(at), ..Follower::default() };
        } else if line.starts_with("unsubscribed slow:a") {
            follower.subscribed = false;
        } else if let Some(rest) = line.strip_prefix("gap slow:a ") {
            assert!(follower.subscribed, "{line}: it is not subscribed");
            let (range, reason) = rest.split_once(' ').unwrap();
            let (from, to) = range.split_once('-').unwrap();
            if let (Ok(from), Some(last)) = (from.parse::<u64>(), follower.last) {
                assert!(policy == SlowConsumer::Latest || from == last + 1, "{line} after {last}");
            }
            follower.anew |= reason == "Epoch";
            follower.last = to.parse().ok();
            follower.replaced.clear();
            follower.subscribed = !*gap_ends;
        } else if let Some(rest) = line.strip_prefix("slow:a ") {
            assert!(follower.subscribed, "{line}: it is not subscribed");
            let (offset, data) = rest.split_once(':').unwrap();
            let (offset, (of_life, n)) = (offset.parse::<u64>().unwrap(), data.split_once('.').unwrap());
            let of_life: u32 = of_life.parse().unwrap();
            assert_eq!(offset.to_string(), n, "{line}: another publication at this position");
            match follower.life {
                Some(before) if before != of_life => assert!(follower.anew, "{line}: nobody told that {before} is over"),
                _ => {}
            }
            if let Some(last) = follower.last {
                if policy == SlowConsumer::Latest {
                    assert!(offset > last, "{line} after {last}");
                    let skipped = (last + 1..offset).filter(|_| of_life == *life);
                    follower.replaced.extend(skipped.map(|offset| (keys[offset as usize - 1], offset)));
                } else {
                    assert_eq!(offset, last + 1, "{line}: something is missing, or came twice");
                }
            }
            if of_life == *life {
                follower.replaced.remove(&keys[offset as usize - 1]);
            }
            (follower.life, follower.last, follower.anew) = (Some(of_life), Some(offset), false);
        } else {
            let is_answer = line == "refreshed" || line.starts_with("refused Unavailable: the client unsubscribed before");
            assert!(is_answer, "{line}");
        }
    }

    /// Everything is readable and read; the client, subscribed again where a gap ended that, stands where the topic does.
    async fn come_to_rest(&mut self) {
        self.lives.readable.send_replace(true);
        self.client.set_capacity(None);
        for _ in 0..20 {
            self.settle().await;
            self.read(usize::MAX);
            if !self.follower.subscribed {
                self.subscribe().await;
            }
        }
        self.publish(1).await;
        self.settle().await;
        self.read(usize::MAX);
        let last = (self.follower.life, self.follower.last);
        assert_eq!(last, (Some(self.life), Some(self.keys.len() as u64)), "{:?} does not stand at the top", self.policy);
        assert_eq!(self.follower.replaced, HashMap::new(), "the newest of each key has come");
        assert_eq!(self.engine.presence(&topic(TOPIC)).await.unwrap().len(), 1);
        assert_eq!(self.counters(), (1, 1, 0));
    }

    fn counters(&self) -> (u64, u64, u64) {
        let stats = self.engine.stats();
        (stats.sessions.value(), stats.subscriptions.value(), stats.backlog_bytes.value())
    }

    /// The client goes, and nobody is left over.
    async fn end(self) {
        let Self { engine, client, .. } = self;
        drop(client);
        sleep(Duration::from_millis(100)).await;
        nobody_is_left(&engine).await;
    }

    /// Reads nothing, and publishes until the policy has acted.
    async fn fall_behind(&mut self) {
        self.client.set_capacity(Some(20));
        self.publish(400).await;
        self.settle().await;
        let stats = self.engine.stats();
        let acted = match self.policy {
            SlowConsumer::CatchUp => stats.catch_ups.value(),
            SlowConsumer::Latest => stats.conflated.value(),
            _ => stats.dropped_slow_consumer.value(),
        };
        assert!(acted > 0, "{:?} has not acted", self.policy);
    }
}

async fn nobody_is_left(engine: &Engine) {
    let stats = engine.stats();
    let counters = [&stats.connections, &stats.sessions, &stats.subscriptions, &stats.backlog_bytes].map(broker_core::Count::value);
    assert_eq!(counters, [0; 4]);
    assert!(engine.topics().await.is_empty());
    assert!(engine.presence(&topic(TOPIC)).await.unwrap().is_empty());
}

/// Each policy, with gaps that end a subscription and with such that do not.
async fn for_each_world(mut change: impl AsyncFnMut(&mut World)) {
    for policy in POLICIES {
        for gap_ends in [false, true] {
            let mut world = World::new(policy, gap_ends).await;
            world.fall_behind().await;
            let played = timeout(Duration::from_secs(60), change(&mut world)).await;
            played.unwrap_or_else(|_| panic!("{policy:?} hangs"));
            world.come_to_rest().await;
            world.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_life_begins() {
    for_each_world(async |world| {
        world.begin_anew().await;
        world.publish(50).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_life_begins_while_what_was_let_go_by_is_read() {
    for_each_world(async |world| {
        world.lives.readable.send_replace(false);
        world.client.set_capacity(None);
        world.settle().await;
        world.read(usize::MAX);
        world.publish(10).await;
        world.begin_anew().await;
        world.publish(500).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_subscription_ends_and_begins() {
    for reading in [false, true] {
        for_each_world(async |world| {
            world.lives.readable.send_replace(!reading);
            if reading {
                world.client.set_capacity(None);
                world.settle().await;
            }
            world.client.unsubscribe(TOPIC);
            world.publish(20).await;
            world.subscribe().await;
            world.publish(20).await;
            world.lives.readable.send_replace(true);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_session_becomes_somebody_else_and_keeps_the_topic() {
    for policy in POLICIES {
        for reading in [false, true] {
            let mut world = World::new(policy, false).await;
            world.fall_behind().await;
            if reading {
                world.lives.readable.send_replace(false);
                world.client.set_capacity(None);
                world.settle().await;
            }
            authenticate(&world.client, "bob");
            world.publish(20).await;
            world.come_to_rest().await;
            let present = world.engine.presence(&topic(TOPIC)).await.unwrap();
            assert_eq!(present[0].user.as_str(), "bob");
            world.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_session_becomes_somebody_else_who_may_not_hear_it() {
    for policy in POLICIES {
        let engine = open_engine()
            .namespace("group", quiet(5000).slow_consumer(policy))
            .on_connect(|request| async move { identity(request.connect.token.as_deref().unwrap_or_default()) })
            .with_settings(|settings| {
                settings.shards = 1;
                settings.backlog_max_bytes = 500;
            })
            .build()
            .unwrap();
        let mut client = Client::connect_as(&engine, LineProtocol::default(), Some("ann groups=a")).await;
        client.next().await;
        client.set_capacity(Some(20));
        for n in 1..=400 {
            engine.publish(&topic("group:a"), json(&n.to_string())).await.unwrap();
            tokio::task::yield_now().await;
        }
        authenticate(&client, "bob");
        sleep(Duration::from_millis(1)).await;
        engine.publish(&topic("group:a"), json("401")).await.unwrap();
        client.set_capacity(None);
        while !client.next().await.starts_with("identity bob") {}
        sleep(Duration::from_millis(1)).await;
        assert_eq!(client.try_next(), None, "{policy:?}: nothing of the group follows");
        assert_eq!((engine.stats().subscriptions.value(), engine.stats().backlog_bytes.value()), (0, 0));
        assert_eq!(engine.topics().await.iter().filter(|count| count.topic.as_str() == "group:a").count(), 0);
        assert!(engine.presence(&topic("group:a")).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_node_drains() {
    for policy in POLICIES {
        for reading in [false, true] {
            let mut world = World::new(policy, false).await;
            world.fall_behind().await;
            if reading {
                world.lives.readable.send_replace(false);
                world.client.set_capacity(None);
                world.settle().await;
            }
            let World { engine, mut client, lives, .. } = world;
            tokio::join!(engine.drain(Duration::from_secs(10)), async {
                while client.next().await != "finished" {}
                drop(client);
            });
            lives.readable.send_replace(true);
            sleep(Duration::from_millis(100)).await;
            nobody_is_left(&engine).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn anything_in_any_order() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let policy = POLICIES[random.usize(..3)];
        let gap_ends = random.bool();
        let mut world = World::new(policy, gap_ends).await;
        println!("seed {seed}: {policy:?}, gaps end subscriptions: {gap_ends}");
        let mut users = ["ann", "bob"].into_iter().cycle().skip(1);
        for _ in 0..30 {
            match random.u8(..11) {
                0..=3 => world.publish(random.usize(1..120)).await,
                4 => world.client.set_capacity(Some(random.usize(0..300))),
                5 => world.client.set_capacity(None),
                6 => world.read(random.usize(1..40)),
                7 => {
                    let readable = random.bool();
                    world.lives.readable.send_replace(readable);
                }
                8 => world.begin_anew().await,
                9 if !gap_ends => authenticate(&world.client, users.next().unwrap_or_default()),
                9 => world.settle().await,
                _ if gap_ends => {
                    world.settle().await;
                    world.read(usize::MAX);
                }
                _ => {
                    world.client.unsubscribe(TOPIC);
                    world.client.send(broker_core::Request::Subscribe(Subscribe::new(topic(TOPIC))));
                }
            }
        }
        world.come_to_rest().await;
        world.end().await;
    }
}
