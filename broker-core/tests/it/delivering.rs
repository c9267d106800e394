//! What subscribers get: order, first data, recovery, snapshots, join and leave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{
    Engine, EngineBuilder, HistoryQuery, Namespace, Payload, Position, Publish, Recovery, Request, Since, SnapshotFailed, StreamItem,
    Topic, testing::Client,
};
use tokio::sync::Notify;

pub(crate) fn open_engine() -> EngineBuilder {
    Engine::builder()
        .default_namespace(Namespace::open().history(10, Duration::from_secs(60)))
        .namespace("plain", plain())
        .namespace("quiet", quiet(10))
        .with_settings(|settings| settings.anonymous = true)
}

/// Open, with so much history, without join and leave.
pub(crate) fn quiet(history_size: usize) -> Namespace {
    let mut namespace = Namespace::open().history(history_size, Duration::from_secs(600));
    namespace.join_leave = false;
    namespace
}

/// Open, without history, presence, join and leave.
fn plain() -> Namespace {
    let mut namespace = quiet(0);
    namespace.presence = false;
    namespace
}

pub(crate) fn topic(name: &str) -> Topic {
    name.parse().unwrap()
}

pub(crate) fn json(text: &str) -> Publish {
    Publish::new(Payload::json(text.to_owned()))
}

async fn top(engine: &Engine, name: &str) -> Position {
    engine.history(&topic(name), HistoryQuery::default()).await.unwrap().position
}

#[tokio::test]
async fn a_publication_reaches_every_subscriber_in_order() {
    let engine = open_engine().build().unwrap();
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(&engine).await;
        client.subscribe("quiet:news");
        assert!(client.next().await.starts_with("subscribed quiet:news"));
        clients.push(client);
    }
    for n in 1..=20 {
        engine.publish(&topic("quiet:news"), json(&n.to_string())).await.unwrap();
    }
    let expected: Vec<String> = (1..=20).map(|n| format!("quiet:news {n}:{n}")).collect();
    for client in &mut clients {
        assert_eq!(client.take(20).await, expected);
    }
}

#[tokio::test]
async fn publications_of_one_moment_share_a_write() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("plain:news");
    client.next().await;
    let before = client.writes();
    for n in 0..16 {
        engine.publish(&topic("plain:news"), json(&n.to_string())).await.unwrap();
    }
    client.take(16).await;
    assert_eq!(client.writes() - before, 1);
}

#[tokio::test]
async fn a_resume_brings_what_was_missed_and_then_what_is_live() {
    let engine = open_engine().build().unwrap();
    for n in 1..=4 {
        engine.publish(&topic("quiet:a"), json(&n.to_string())).await.unwrap();
    }
    let epoch = top(&engine, "quiet:a").await.epoch;
    let mut client = Client::connect(&engine).await;
    client.resume("quiet:a", Since::Position(Position { offset: 2, epoch }));
    assert_eq!(client.take(3).await, ["subscribed quiet:a at 4 recovered", "quiet:a 3:3", "quiet:a 4:4"]);
    engine.publish(&topic("quiet:a"), json("5")).await.unwrap();
    assert_eq!(client.next().await, "quiet:a 5:5");
}

#[tokio::test]
async fn a_resume_that_is_not_whole_says_so() {
    let engine = open_engine().build().unwrap();
    for n in 1..=15 {
        engine.publish(&topic("quiet:a"), json(&n.to_string())).await.unwrap();
    }
    let epoch = top(&engine, "quiet:a").await.epoch;
    let mut client = Client::connect(&engine).await;
    client.resume("quiet:a", Since::Position(Position { offset: 2, epoch }));
    assert_eq!(client.next().await, "subscribed quiet:a at 15 not recovered");
    client.unsubscribe("quiet:a");
    assert_eq!(client.next().await, "unsubscribed quiet:a");
    client.resume("quiet:a", Since::Position(Position { offset: 14, epoch: "other".parse().unwrap() }));
    assert_eq!(client.next().await, "subscribed quiet:a at 15 not recovered");
    client.unsubscribe("quiet:a");
    client.next().await;
    client.resume("quiet:a", Since::Beginning);
    assert_eq!(client.next().await, "subscribed quiet:a at 15 not recovered");
    assert_eq!(client.next().await, "quiet:a 6:6", "all that is kept is sent all the same");
}

#[tokio::test]
async fn cache_recovery_brings_the_newest_only() {
    let cache = quiet(1).recovery(Recovery::Cache);
    let engine = open_engine().namespace("cache", cache).build().unwrap();
    for n in 1..=3 {
        engine.publish(&topic("cache:a"), json(&n.to_string())).await.unwrap();
    }
    let epoch = top(&engine, "cache:a").await.epoch;
    let mut client = Client::connect(&engine).await;
    client.resume("cache:a", Since::Position(Position { offset: 1, epoch }));
    assert_eq!(client.take(2).await, ["subscribed cache:a at 3 recovered", "cache:a 3:3"]);
    client.unsubscribe("cache:a");
    client.next().await;
    client.resume("cache:a", Since::Position(Position { offset: 3, epoch }));
    assert_eq!(client.next().await, "subscribed cache:a at 3 recovered");
    engine.publish(&topic("cache:a"), json("4")).await.unwrap();
    assert_eq!(client.next().await, "cache:a 4:4", "nothing was sent twice");
}

#[tokio::test]
async fn a_publisher_that_listens_gets_its_publication_before_the_answer() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("quiet:a");
    client.next().await;
    client.publish("quiet:a", "1");
    assert_eq!(client.take(2).await, ["quiet:a 1:1", "published quiet:a at 1"]);
}

#[tokio::test]
async fn publishes_that_come_together_share_a_write_also_for_their_publisher() {
    let engine = open_engine().build().unwrap();
    let mut listener = Client::connect(&engine).await;
    let mut publisher = Client::connect(&engine).await;
    for client in [&mut listener, &mut publisher] {
        client.subscribe("quiet:a");
        client.next().await;
    }
    let before = listener.writes();
    publisher.send_all((1..=16).map(|n| Request::Publish {
        topic: topic("quiet:a"),
        data: Payload::json(n.to_string()),
        key: None,
        idempotency_key: None,
        removed: false,
    }));
    assert_eq!(listener.take(16).await, (1..=16).map(|n| format!("quiet:a {n}:{n}")).collect::<Vec<_>>());
    assert_eq!(listener.writes() - before, 1);
    let publications: Vec<String> = (1..=16).map(|n| format!("quiet:a {n}:{n}")).collect();
    let answers: Vec<String> = (1..=16).map(|n| format!("published quiet:a at {n}")).collect();
    assert_eq!(publisher.take(32).await, [publications, answers].concat());
}

#[tokio::test]
async fn after_the_answer_to_unsubscribe_nothing_comes() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("quiet:a");
    client.next().await;
    client.unsubscribe("quiet:a");
    assert_eq!(client.next().await, "unsubscribed quiet:a");
    engine.publish(&topic("quiet:a"), json("1")).await.unwrap();
    client.subscribe("quiet:a");
    assert_eq!(client.next().await, "subscribed quiet:a at 1");
}

#[tokio::test]
async fn a_thousand_simultaneous_subscribers_cost_one_snapshot() {
    let calls = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(Notify::new());
    let (counted, gate) = (calls.clone(), release.clone());
    let engine = open_engine()
        .snapshot("quiet:state", move |_| {
            let (counted, gate) = (counted.clone(), gate.clone());
            async move {
                counted.fetch_add(1, Relaxed);
                gate.notified().await;
                Ok(Payload::json("{\"state\":0}"))
            }
        })
        .build()
        .unwrap();
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let client = Client::connect(&engine).await;
        client.subscribe("quiet:state");
        clients.push(client);
    }
    engine.publish(&topic("quiet:state"), json("1")).await.unwrap();
    release.notify_one();
    for client in &mut clients {
        // Published while the application was asked: perhaps in the snapshot already, never missing.
        assert_eq!(client.take(3).await, ["subscribed quiet:state at 1", "snapshot quiet:state {\"state\":0}", "quiet:state 1:1"]);
    }
    let mut late = Client::connect(&engine).await;
    late.subscribe("quiet:state");
    assert_eq!(late.take(3).await, ["subscribed quiet:state at 1", "snapshot quiet:state {\"state\":0}", "quiet:state 1:1"]);
    assert_eq!(calls.load(Relaxed), 1);
    engine.publish(&topic("quiet:state"), json("2")).await.unwrap();
    assert_eq!(clients[999].next().await, "quiet:state 2:2");
}

#[tokio::test]
async fn a_snapshot_that_fails_is_a_temporary_refusal() {
    let engine = open_engine().snapshot("plain", |_| async { Err::<Payload, _>(SnapshotFailed::new("no database")) }).build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("plain:a");
    assert_eq!(client.next().await, "refused Unavailable: the current state is not available, try again");
    client.subscribe("plain:a");
    assert!(client.next().await.starts_with("refused Unavailable"), "the session lives");
}

#[tokio::test]
async fn subscribers_are_told_who_comes_and_goes() {
    let engine = open_engine().build().unwrap();
    let mut first = Client::connect(&engine).await;
    first.subscribe("room");
    assert_eq!(first.take(2).await, ["subscribed room at 0", "join room "]);
    let mut second = Client::connect(&engine).await;
    second.subscribe("room");
    assert_eq!(second.take(2).await, ["subscribed room at 0", "join room "]);
    assert_eq!(first.next().await, "join room ");
    first.send(Request::PresenceStats { topic: topic("room") });
    assert_eq!(first.next().await, "presence room 2 2");
    drop(second);
    assert_eq!(first.next().await, "leave room ");
    assert_eq!(engine.presence_stats(&topic("room")).await.unwrap().sessions, 1);
}

#[tokio::test]
async fn a_stream_inside_the_process_gets_publications_and_gaps() {
    let engine = open_engine().with_settings(|settings| settings.stream_max_len = 3).build().unwrap();
    let mut stream = engine.subscribe(&topic("quiet:a")).unwrap();
    assert!(matches!(stream.next().await, Some(StreamItem::Live { position: Some(_) })));
    let mut witness = engine.subscribe(&topic("quiet:a")).unwrap();
    witness.next().await;
    for n in 1..=5 {
        engine.publish(&topic("quiet:a"), json(&n.to_string())).await.unwrap();
        // The witness is served by another shard perhaps; both must have it before the next.
        assert!(matches!(witness.next().await, Some(StreamItem::Publication(_))));
    }
    let Some(StreamItem::Gap(gap)) = stream.next().await else { panic!("the two oldest are gone") };
    assert_eq!((gap.from.map(|at| at.offset), gap.to.map(|at| at.offset)), (Some(1), Some(2)));
    for n in 3..=5 {
        let Some(StreamItem::Publication(publication)) = stream.next().await else { panic!("three are kept") };
        assert_eq!(publication.position.unwrap().offset, n);
    }
    let before = engine.topics().await;
    assert_eq!(before[0].sessions, 2);
}
