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
}

#[async_trait::async_trait]
impl Backplane for Counting {
    fn start(&self, sink: Weak<dyn Sink>) {
        self.inner.start(sink);
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
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
    let backplane = Arc::new(Counting::default());
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
