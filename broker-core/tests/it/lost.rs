//! What is lost on the way from the backplane: once it says so, everybody gets it, also where nothing comes behind it.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use broker_core::{
    Announcement, Backplane, Capabilities, Keep, LogPage, LogQuery, MemoryBackplane, Publication, Publish, PublishFailed, Published, Sink,
    StatePage, StateQuery, Topic, Unavailable, testing::Client,
};

use crate::delivering::{json, open_engine, quiet, topic};

/// A memory backplane whose bus loses publications while it is told to.
#[derive(Default)]
struct Losing {
    inner: MemoryBackplane,
    bus: Arc<Bus>,
}

#[derive(Default)]
struct Bus {
    loses: AtomicBool,
    sink: OnceLock<Weak<dyn Sink>>,
}

impl Bus {
    fn sink(&self) -> Arc<dyn Sink> {
        self.sink.get().and_then(Weak::upgrade).expect("the engine is there")
    }
}

impl Sink for Bus {
    fn publication(&self, publication: Arc<Publication>) {
        if !self.loses.load(Relaxed) {
            self.sink().publication(publication);
        }
    }

    fn announcement(&self, topic: &Topic, announcement: Announcement) {
        self.sink().announcement(topic, announcement);
    }

    fn link_restored(&self) {
        self.sink().link_restored();
    }

    fn gapped(&self, topic: &Topic) {
        self.sink().gapped(topic);
    }
}

#[async_trait::async_trait]
impl Backplane for Losing {
    fn start(&self, sink: Weak<dyn Sink>) {
        assert!(self.bus.sink.set(sink).is_ok(), "it is started once");
        let bus: Weak<dyn Sink> = Arc::downgrade(&self.bus) as _;
        self.inner.start(bus);
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
        self.inner.history(topic, query, keep).await
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        self.inner.remove_history(topic).await
    }

    async fn state(&self, topic: &Topic, query: StateQuery, keep: Keep) -> Result<StatePage, Unavailable> {
        self.inner.state(topic, query, keep).await
    }
}

/// Two are lost, and then the backplane says `what`; nothing else is published.
async fn lost_and_told(what: fn(&Bus)) {
    let backplane = Arc::new(Losing::default());
    let engine = open_engine().backplane(backplane.clone()).namespace("kept", quiet(100)).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("kept:a");
    assert_eq!(client.next().await, "subscribed kept:a at 0");
    engine.publish(&topic("kept:a"), json("1")).await.unwrap();
    assert_eq!(client.next().await, "kept:a 1:1");
    backplane.bus.loses.store(true, Relaxed);
    for n in ["2", "3"] {
        engine.publish(&topic("kept:a"), json(n)).await.unwrap();
    }
    what(&backplane.bus);
    assert_eq!(client.take(2).await, ["kept:a 2:2", "kept:a 3:3"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_link_every_topic_is_read() {
    lost_and_told(Bus::link_restored).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_with_a_gap_is_read() {
    lost_and_told(|bus| bus.gapped(&topic("kept:a"))).await;
}
