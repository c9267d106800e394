//! Everybody comes back at once: how often the backplane is read for one topic, however many come.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{
    Announcement, Backplane, Capabilities, Engine, Keep, LogPage, LogQuery, MemoryBackplane, Position, Publish, PublishFailed, Published,
    Since, Sink, StatePage, StateQuery, Topic, Unavailable, testing::Client,
};

use crate::delivering::{json, open_engine, quiet, topic};

const CLIENTS: usize = 2_000;
const MISSED: u64 = 5;

/// A memory backplane that counts its reads, each of which takes its time as one over a network does.
#[derive(Default)]
struct Counting {
    inner: MemoryBackplane,
    histories: AtomicU64,
    states: AtomicU64,
    /// Whether it says that other nodes have it too.
    is_shared: bool,
}

#[async_trait::async_trait]
impl Backplane for Counting {
    fn start(&self, sink: Weak<dyn Sink>) {
        self.inner.start(sink);
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = self.inner.capabilities();
        if self.is_shared { capabilities.shared() } else { capabilities }
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        self.inner.publish(topic, publish, keep).await
    }

    async fn announce(&self, topic: &Topic, announcement: Announcement) -> Result<(), Unavailable> {
        self.inner.announce(topic, announcement).await
    }

    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        self.inner.interest(changes).await
    }

    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable> {
        self.histories.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.inner.history(topic, query, keep).await
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        self.inner.remove_history(topic).await
    }

    async fn state(&self, topic: &Topic, query: StateQuery, keep: Keep) -> Result<StatePage, Unavailable> {
        self.states.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.inner.state(topic, query, keep).await
    }
}

fn counting() -> (Engine, Arc<Counting>) {
    engine_on(Counting::default())
}

fn engine_on(backplane: Counting) -> (Engine, Arc<Counting>) {
    let backplane = Arc::new(backplane);
    let engine = open_engine().backplane(backplane.clone()).namespace("kept", quiet(100)).namespace("rows", quiet(100).keyed());
    (engine.build().unwrap(), backplane)
}

async fn clients(engine: &Engine) -> Vec<Client> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(Client::connect(engine).await);
    }
    clients
}

#[tokio::test(start_paused = true)]
async fn resumes_of_one_topic_that_come_together_share_their_reads() {
    let (engine, backplane) = counting();
    let mut first = None;
    for n in 0..=MISSED {
        let published = engine.publish(&topic("kept:a"), json(&n.to_string())).await.unwrap();
        first = first.or(published.position);
    }
    let first: Position = first.unwrap();
    let mut clients = clients(&engine).await;
    for client in &clients {
        client.resume("kept:a", Since::Position(first));
    }
    for client in &mut clients {
        assert_eq!(client.next().await, format!("subscribed kept:a at {} recovered", first.offset + MISSED));
        for n in 1..=MISSED {
            assert_eq!(client.next().await, format!("kept:a {}:{n}", first.offset + n));
        }
    }
    let reads = backplane.histories.load(Relaxed);
    assert!((1..=2).contains(&reads), "{reads} reads for {CLIENTS} resumes");
}

#[tokio::test(start_paused = true)]
async fn new_subscribers_of_one_keyed_topic_that_come_together_share_their_reads() {
    let (engine, backplane) = counting();
    for key in ["a", "b"] {
        engine.publish(&topic("rows:a"), json("1").key(key)).await.unwrap();
    }
    let mut clients = clients(&engine).await;
    for client in &clients {
        client.subscribe("rows:a");
    }
    for client in &mut clients {
        assert_eq!(client.take(3).await, ["subscribed rows:a at 0", "rows:a 1:1", "rows:a 2:1"]);
    }
    let reads = (backplane.states.load(Relaxed), backplane.histories.load(Relaxed));
    assert!((1..=2).contains(&reads.0) && reads.1 <= 2, "{reads:?} reads of state and history for {CLIENTS} subscribers");
}

/// Resumes on a backplane that many nodes share, one after the other.
struct Trickle {
    engine: Engine,
    backplane: Arc<Counting>,
    published: Vec<Position>,
}

impl Trickle {
    async fn new() -> Self {
        let (engine, backplane) = engine_on(Counting { is_shared: true, ..Counting::default() });
        let mut trickle = Self { engine, backplane, published: Vec::new() };
        for _ in 0..=MISSED {
            trickle.publish().await;
        }
        trickle
    }

    async fn publish(&mut self) {
        let number = self.published.len().to_string();
        self.published.extend(self.engine.publish(&topic("kept:a"), json(&number)).await.unwrap().position);
    }

    /// Somebody comes back who has so many publications, and gets the rest. The reads so far.
    async fn resume(&self, has: usize) -> (Client, u64) {
        let mut client = Client::connect(&self.engine).await;
        client.resume("kept:a", Since::Position(self.published[has - 1]));
        let last = self.published[self.published.len() - 1].offset;
        assert_eq!(client.next().await, format!("subscribed kept:a at {last} recovered"));
        for (number, position) in self.published.iter().enumerate().skip(has) {
            assert_eq!(client.next().await, format!("kept:a {}:{number}", position.offset));
        }
        (client, self.backplane.histories.load(Relaxed))
    }
}

#[tokio::test(start_paused = true)]
async fn resumes_that_trickle_in_on_a_shared_backplane_cost_one_read() {
    let mut trickle = Trickle::new().await;
    let (mut first, reads) = trickle.resume(1).await;
    for has in [1, 3, 6, 1] {
        assert_eq!(trickle.resume(has).await.1, reads);
    }
    trickle.publish().await;
    assert_eq!(first.next().await, "kept:a 7:6");
    let (mut last, again) = trickle.resume(2).await;
    assert_eq!(again, reads, "what came since is known too");
    trickle.publish().await;
    assert_eq!(last.next().await, "kept:a 8:7");
}

#[tokio::test(start_paused = true)]
async fn what_a_read_brought_serves_nobody_who_comes_much_later_or_from_further_back() {
    let trickle = Trickle::new().await;
    let (_first, reads) = trickle.resume(4).await;
    let (_second, further_back) = trickle.resume(2).await;
    assert_eq!(further_back, reads + 1, "the first read began behind that position");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (_third, later) = trickle.resume(2).await;
    assert_eq!(later, further_back + 1);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_was_removed_serves_nobody() {
    let trickle = Trickle::new().await;
    let (_first, _) = trickle.resume(1).await;
    trickle.engine.remove_history(&topic("kept:a")).await.unwrap();
    let mut late = Client::connect(&trickle.engine).await;
    late.resume("kept:a", Since::Position(trickle.published[0]));
    assert_eq!(late.next().await, "subscribed kept:a at 6 not recovered");
}
