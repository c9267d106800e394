//! Subscriptions that fell behind or wait for their time, when something else happens to them meanwhile.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{
    Backplane, Capabilities, Engine, EngineBuilder, Filter, FilterNode, Keep, LogPage, LogQuery, MemoryBackplane, Publish, PublishFailed,
    Published, Recovery, Request, Selection, Sink, SlowConsumer, Subscribe, Target, Topic, Unavailable,
    testing::{Client, LineProtocol},
};
use tokio::time::Instant;

use crate::delivering::{json, open_engine, quiet, topic};

const BACKLOG_MAX: usize = 500;
const PACE: Duration = Duration::from_millis(250);

fn catching_up() -> EngineBuilder {
    open_engine().namespace("slow", quiet(2000).slow_consumer(SlowConsumer::CatchUp).filter()).with_settings(|settings| {
        settings.shards = 1;
        settings.backlog_max_bytes = BACKLOG_MAX;
    })
}

fn tagged(n: u32, class: &str) -> Publish {
    json(&n.to_string()).tags([("class".to_owned(), class.to_owned())].into())
}

fn only(class: &str) -> Selection {
    Selection::ALL.filter(Filter::new(FilterNode::test("class", "eq", [class])).unwrap())
}

/// A subscriber whose pipe holds no more than a line or two.
async fn slow_subscriber(engine: &Engine, subscribe: Subscribe) -> Client {
    let mut client = Client::connect(engine).await;
    client.send(Request::Subscribe(subscribe));
    assert!(client.next().await.starts_with("subscribed"));
    client.set_capacity(Some(20));
    client
}

async fn publish(engine: &Engine, numbers: std::ops::RangeInclusive<u32>) {
    for n in numbers {
        engine.publish(&topic("slow:a"), tagged(n, if n % 2 == 0 { "even" } else { "odd" })).await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_catches_up_gets_its_own_choice_also_when_another_catches_up_in_the_same_moment() {
    let engine = catching_up().build().unwrap();
    let mut odd = slow_subscriber(&engine, Subscribe::new(topic("slow:a")).selection(only("odd"))).await;
    let mut even = slow_subscriber(&engine, Subscribe::new(topic("slow:a")).selection(only("even"))).await;
    publish(&engine, 1..=400).await;
    assert_eq!(engine.stats().catch_ups.value(), 2);
    odd.set_capacity(None);
    even.set_capacity(None);
    for n in (1..=400).step_by(2) {
        assert_eq!(odd.next().await, format!("slow:a {n}:{n}"));
        assert_eq!(even.next().await, format!("slow:a {}:{}", n + 1, n + 1));
    }
}

#[tokio::test]
async fn of_a_long_history_no_more_is_encoded_than_the_client_takes() {
    const COUNT: u32 = 1500;
    let engine = catching_up().build().unwrap();
    let mut slow = slow_subscriber(&engine, Subscribe::new(topic("slow:a"))).await;
    publish(&engine, 1..=COUNT).await;
    for n in 1..=COUNT {
        assert_eq!(slow.next().await, format!("slow:a {n}:{n}"));
    }
    assert!(engine.stats().resumes_paged.value() > 0, "a page at a time");
    let deliveries = engine.stats().deliveries.value();
    assert!(deliveries < 4 * u64::from(COUNT), "{deliveries} for {COUNT}");
    publish(&engine, COUNT + 1..=COUNT + 1).await;
    assert_eq!(slow.next().await, format!("slow:a {0}:{0}", COUNT + 1));
}

#[tokio::test]
async fn what_the_server_orders_for_a_topic_reaches_those_who_catch_up() {
    let engine = catching_up().build().unwrap();
    let mut slow = slow_subscriber(&engine, Subscribe::new(topic("slow:a"))).await;
    publish(&engine, 1..=400).await;
    assert_eq!(engine.stats().catch_ups.value(), 1);
    let target = || Target::Topic(topic("slow:a"));
    assert_eq!(engine.sessions(target()).count().await.unwrap(), 1);
    assert_eq!(engine.sessions(target()).unsubscribe(&topic("slow:a")).await.unwrap(), 1);
    assert_eq!(engine.sessions(target()).count().await.unwrap(), 0);
    slow.set_capacity(None);
    while !slow.next().await.starts_with("unsubscribed slow:a") {}
    assert_eq!(engine.stats().subscriptions.value(), 0);
}

/// A memory backplane whose history can be made unreadable.
#[derive(Default)]
struct Forgetful {
    inner: MemoryBackplane,
    unreadable: AtomicBool,
}

#[async_trait::async_trait]
impl Backplane for Forgetful {
    fn start(&self, sink: Weak<dyn Sink>) {
        self.inner.start(sink);
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn publish(&self, topic: &Topic, publish: Publish, keep: Keep) -> Result<Published, PublishFailed> {
        self.inner.publish(topic, publish, keep).await
    }

    async fn announce(&self, topic: &Topic, announcement: broker_core::Announcement) -> Result<(), Unavailable> {
        self.inner.announce(topic, announcement).await
    }

    async fn interest(&self, changes: &[(Topic, bool)]) -> Result<(), Unavailable> {
        self.inner.interest(changes).await
    }

    async fn history(&self, topic: &Topic, query: LogQuery, keep: Keep) -> Result<LogPage, Unavailable> {
        if self.unreadable.load(Relaxed) {
            return Err(Unavailable("planted".to_owned()));
        }
        self.inner.history(topic, query, keep).await
    }

    async fn remove_history(&self, topic: &Topic) -> Result<(), Unavailable> {
        self.inner.remove_history(topic).await
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_catch_up_is_told_and_is_present_no_longer() {
    let backplane = Arc::new(Forgetful::default());
    let engine = catching_up().backplane(backplane.clone()).build().unwrap();
    let mut slow = slow_subscriber(&engine, Subscribe::new(topic("slow:a"))).await;
    publish(&engine, 1..=400).await;
    assert_eq!(engine.presence(&topic("slow:a")).await.unwrap().len(), 1);
    backplane.unreadable.store(true, Relaxed);
    slow.set_capacity(None);
    while !slow.next().await.starts_with("unsubscribed slow:a") {}
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.presence(&topic("slow:a")).await.unwrap().len(), 0);
    assert_eq!(engine.stats().subscriptions.value(), 0);
}

#[tokio::test]
async fn where_the_newest_alone_can_be_recovered_what_is_missing_is_told() {
    for recovery in [Recovery::Off, Recovery::Cache] {
        let mut namespace = quiet(2000).slow_consumer(SlowConsumer::CatchUp);
        namespace.recovery = recovery;
        let engine = catching_up().namespace("slow", namespace).build().unwrap();
        let mut slow = slow_subscriber(&engine, Subscribe::new(topic("slow:a"))).await;
        publish(&engine, 1..=400).await;
        slow.set_capacity(None);
        let mut next = 1;
        while next <= 400 {
            let line = slow.next().await;
            if let Some(missing) = line.strip_prefix("gap slow:a ") {
                let (from, to) = missing.split_once(' ').unwrap().0.split_once('-').unwrap();
                assert_eq!(from, next.to_string(), "{recovery:?}");
                next = to.parse::<u32>().unwrap() + 1;
            } else {
                assert_eq!(line, format!("slow:a {next}:{next}"), "{recovery:?}");
                next += 1;
            }
        }
    }
}

#[tokio::test]
async fn another_life_of_the_topic_is_told_to_who_was_behind() {
    let backplane = Arc::new(MemoryBackplane::new());
    let engine = catching_up().backplane(backplane.clone()).build().unwrap();
    let mut slow = slow_subscriber(&engine, Subscribe::new(topic("slow:a"))).await;
    publish(&engine, 1..=400).await;
    engine.remove_history(&topic("slow:a")).await.unwrap();
    publish(&engine, 401..=402).await;
    slow.set_capacity(None);
    let mut line = slow.next().await;
    let mut heard = 0;
    while line.starts_with("slow:a") {
        heard += 1;
        line = slow.next().await;
    }
    assert_eq!(line, format!("gap slow:a {}-402 Trimmed", heard + 1));
    publish(&engine, 403..=403).await;
    assert_eq!(slow.next().await, "slow:a 403:403");
}

#[tokio::test(start_paused = true)]
async fn the_newest_arrives_also_after_something_went_out_before_its_time() {
    let engine = open_engine().with_settings(|settings| settings.shards = 1).build().unwrap();
    let prices = topic("quiet:prices");
    let mut paced = Client::connect(&engine).await;
    paced.send(Request::Subscribe(Subscribe::new(prices.clone()).selection(Selection::ALL.pace(PACE))));
    paced.next().await;
    engine.publish(&prices, json("0").key("first")).await.unwrap();
    assert_eq!(paced.next().await, "quiet:prices 1:0");
    tokio::time::advance(PACE / 2).await;
    // More keys than wait: they go out before their time.
    for n in 1..=1024 {
        engine.publish(&prices, json(&n.to_string()).key(n.to_string())).await.unwrap();
        tokio::task::yield_now().await;
    }
    paced.take(1024).await;
    tokio::time::advance(PACE / 4).await;
    engine.publish(&prices, json("last")).await.unwrap();
    let started = Instant::now();
    let last = tokio::time::timeout(PACE * 4, paced.next()).await.expect("the newest always arrives");
    assert_eq!(last, "quiet:prices 1026:last");
    assert!(started.elapsed() <= PACE);
}

#[tokio::test]
async fn the_gap_of_an_urgent_topic_stays_before_what_follows_it() {
    let namespace = quiet(2000).slow_consumer(SlowConsumer::DropOldest).priority(broker_core::Priority::High);
    let engine = catching_up().namespace("slow", namespace).build().unwrap();
    let mut slow = slow_subscriber(&engine, Subscribe::new(topic("slow:a"))).await;
    // Each publication is larger than what may wait: it goes whole, and the gap alone is left in its place.
    let large = format!("\"{}\"", "x".repeat(BACKLOG_MAX));
    for _ in 0..20 {
        engine.publish(&topic("slow:a"), json(&large)).await.unwrap();
        tokio::task::yield_now().await;
    }
    engine.publish(&topic("slow:a"), json("21")).await.unwrap();
    tokio::task::yield_now().await;
    slow.set_capacity(None);
    let mut next = 1;
    while next <= 21 {
        let line = slow.next().await;
        if let Some(missing) = line.strip_prefix("gap slow:a ") {
            let (from, to) = missing.split_once(' ').unwrap().0.split_once('-').unwrap();
            assert_eq!(from, next.to_string());
            next = to.parse::<u32>().unwrap() + 1;
        } else {
            assert!(line.starts_with(&format!("slow:a {next}:")), "{} instead of {next}", &line[..20.min(line.len())]);
            next += 1;
        }
    }
}

#[tokio::test]
async fn who_joined_after_an_unreadable_publication_is_not_ended_by_it() {
    let engine = open_engine().with_settings(|settings| settings.shards = 1).build().unwrap();
    let protocol = LineProtocol { gap_ends: true, poison: Some("2"), ..LineProtocol::default() };
    let mut poisoned = Vec::new();
    for _ in 0..300 {
        let mut client = Client::connect_as(&engine, protocol, None).await;
        client.subscribe("quiet:a");
        client.next().await;
        poisoned.push(client);
    }
    let mut late = Client::connect_as(&engine, protocol, None).await;
    // So many members are visited in several portions: the other one joins between two of them.
    engine.publish(&topic("quiet:a"), json("2")).await.unwrap();
    engine.publish(&topic("quiet:a"), json("3")).await.unwrap();
    late.subscribe("quiet:a");
    assert!(late.next().await.starts_with("subscribed quiet:a at 2"));
    for client in &mut poisoned {
        assert_eq!(client.next().await, "gap quiet:a 1-1 Unreadable");
    }
    engine.publish(&topic("quiet:a"), json("4")).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(5), late.next()).await;
    assert_eq!(heard.as_deref(), Ok("quiet:a 3:4"), "it is still subscribed");
}

#[tokio::test]
async fn a_page_that_does_not_fit_is_read_again() {
    let engine = catching_up().build().unwrap();
    let mut slow = slow_subscriber(&engine, Subscribe::new(topic("slow:a"))).await;
    slow.set_capacity(None);
    slow.subscribe("slow:b");
    slow.next().await;
    slow.set_capacity(Some(450));
    let filler = "x".repeat(300);
    let numbered = |n: u32| json(&format!("\"{n} {filler}\""));
    for n in 1..=6 {
        engine.publish(&topic("slow:a"), numbered(n)).await.unwrap();
        tokio::task::yield_now().await;
    }
    // Each time that it is about to catch up, something else takes the room.
    let mut heard = Vec::new();
    let mut others = 0;
    while heard.len() < 6 {
        let line = slow.next().await;
        match line.strip_prefix("slow:a ") {
            Some(rest) => heard.push(rest.split(':').next().unwrap().parse::<u32>().unwrap()),
            None => assert!(line.starts_with("slow:b "), "{line}"),
        }
        others += 1;
        if others < 40 {
            engine.publish(&topic("slow:b"), json(&format!("\"{}\"", "y".repeat(400)))).await.unwrap();
        }
    }
    assert_eq!(heard, [1, 2, 3, 4, 5, 6]);
    assert_eq!(engine.stats().gaps.value(), 0);
}

#[tokio::test]
async fn a_page_above_the_bound_is_not_read_again_before_the_connection_takes_something() {
    let engine = catching_up().build().unwrap();
    let mut client = slow_subscriber(&engine, Subscribe::new(topic("slow:a"))).await;
    client.set_capacity(Some(0));
    engine.publish(&topic("slow:a"), json(&format!("\"{}\"", "x".repeat(2 * BACKLOG_MAX)))).await.unwrap();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(engine.stats().catch_ups.value(), 1);
    client.set_capacity(None);
    assert!(client.next().await.starts_with("slow:a 1:"));
}
