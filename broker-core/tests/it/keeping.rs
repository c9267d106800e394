//! What is kept, how long, and what it takes when there is no room: bytes, ttl, versions, pages.

use std::{sync::Arc, time::Duration};

use broker_core::{
    Backplane, Engine, HistoryQuery, Keep, LogQuery, MemoryBackplane, Payload, Position, Publish, PublishError, PublishFailed, RefusalKind,
    Since, StreamItem, Version, testing::Client,
};

use crate::delivering::{json, open_engine, quiet, topic};

const HOUR: Duration = Duration::from_secs(3600);

fn offsets(publications: &[Arc<broker_core::Publication>]) -> Vec<u64> {
    publications.iter().map(|publication| publication.position.unwrap().offset).collect()
}

async fn kept_offsets(engine: &Engine, name: &str) -> Vec<u64> {
    let query = HistoryQuery { limit: 100, ..HistoryQuery::default() };
    offsets(&engine.history(&topic(name), query).await.unwrap().publications)
}

#[tokio::test]
async fn a_history_is_bounded_in_bytes_and_keeps_the_newest_whatever_it_weighs() {
    let engine = open_engine().namespace("small", quiet(100).history_bytes(3_000)).build().unwrap();
    for n in 1..=5 {
        engine.publish(&topic("small:a"), json(&format!("\"{}\"", "x".repeat(800)))).await.unwrap();
        assert_eq!(kept_offsets(&engine, "small:a").await.last(), Some(&n));
    }
    assert_eq!(kept_offsets(&engine, "small:a").await, [3, 4, 5]);
    engine.publish(&topic("small:a"), json(&format!("\"{}\"", "x".repeat(9_000)))).await.unwrap();
    assert_eq!(kept_offsets(&engine, "small:a").await, [6]);
}

#[tokio::test]
async fn without_room_a_publish_is_refused_whole_and_says_which_setting_is_the_bound() {
    let engine = open_engine().namespace("full", quiet(1_000).memory_max(10_000)).build().unwrap();
    let mut listener = Client::connect(&engine).await;
    listener.subscribe("full:a");
    listener.next().await;
    let large = || json(&format!("\"{}\"", "x".repeat(3_000))).idempotency_key("k").version(Version::new(9));
    engine.publish(&topic("full:a"), json(&format!("\"{}\"", "x".repeat(6_000)))).await.unwrap();
    listener.next().await;
    let kept = engine.kept().bytes;
    let error = engine.publish(&topic("full:a"), large()).await.unwrap_err();
    assert!(matches!(&error, PublishError::Backplane(PublishFailed::Full(_))), "{error:?}");
    let refusal = error.into_refusal();
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    assert_eq!(refusal.rule.as_deref(), Some("raise namespaces.full.memory_max"));
    assert!(refusal.retry_after.is_some() && refusal.hint.is_some());
    assert_eq!((engine.kept().bytes, engine.stats().publishes_without_room.value()), (kept, 1), "nothing of it is remembered");
    engine.publish(&topic("full:a"), json("\"not kept\"").skip_history()).await.unwrap();
    assert_eq!(listener.next().await, "full:a \"not kept\"", "nothing of the refused one was delivered");
    engine.remove_history(&topic("full:a")).await.unwrap();
    let published = engine.publish(&topic("full:a"), large()).await.unwrap();
    assert!(published.is_new(), "neither its key nor its version was remembered");
    assert_eq!(published.position.unwrap().offset, 2);
}

#[tokio::test]
async fn the_bound_of_the_node_holds_for_all_namespaces_together() {
    let engine = open_engine().with_settings(|settings| settings.memory_max_bytes = 8_000).build().unwrap();
    let large = || json(&format!("\"{}\"", "x".repeat(4_000)));
    engine.publish(&topic("quiet:a"), large()).await.unwrap();
    let refusal = engine.publish(&topic("other"), large()).await.unwrap_err().into_refusal();
    assert_eq!(refusal.rule.as_deref(), Some("raise server.memory_max"));
}

#[tokio::test(start_paused = true)]
async fn what_expires_gives_its_bytes_back() {
    let keyed = quiet(100).keyed().state_ttl(HOUR);
    let engine = open_engine().namespace("rows", keyed).build().unwrap();
    assert_eq!(engine.kept().bytes, 0);
    for n in 0..50 {
        let publish =
            json("1").key(format!("k{}", n % 7)).idempotency_key(format!("i{n}")).version(Version::new(n)).ttl(HOUR * (n as u32 % 3));
        engine.publish(&topic("rows:a"), publish).await.unwrap();
        engine.publish(&topic("quiet:a"), json("2").idempotency_key(format!("i{n}"))).await.unwrap();
        engine.publish(&topic("plain:a"), json("3").version(Version::new(n)).key(n.to_string())).await.unwrap();
    }
    engine.publish(&topic("rows:a"), Publish::remove("k1")).await.unwrap();
    let kept = engine.kept();
    assert_eq!(kept.bytes, kept.namespaces.iter().map(|(_, bytes)| bytes).sum::<usize>());
    assert!(kept.bytes > 50 * 3 * 100, "{kept:?}");
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(engine.kept().bytes, 0, "{:?}", engine.kept());
}

#[tokio::test(start_paused = true)]
async fn a_publication_whose_ttl_has_passed_is_nowhere_and_no_gap() {
    let engine = open_engine().build().unwrap();
    for n in 1..=4 {
        let publish = json(&n.to_string());
        let publish = if n == 2 || n == 4 { publish.ttl(Duration::from_secs(5)) } else { publish };
        engine.publish(&topic("quiet:a"), publish).await.unwrap();
    }
    let page = engine.history(&topic("quiet:a"), HistoryQuery { limit: 10, ..HistoryQuery::default() }).await.unwrap();
    assert_eq!(offsets(&page.publications), [1, 2, 3, 4]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(kept_offsets(&engine, "quiet:a").await, [1, 3]);
    let mut client = Client::connect(&engine).await;
    client.resume("quiet:a", Since::Position(Position { offset: 1, ..page.position }));
    assert_eq!(client.take(2).await, ["subscribed quiet:a at 4 recovered", "quiet:a 3:3"]);
    engine.publish(&topic("quiet:a"), json("5")).await.unwrap();
    assert_eq!(client.next().await, "quiet:a 5:5");
}

#[tokio::test]
async fn an_older_or_equal_version_is_not_taken_and_a_new_epoch_begins_the_count_anew() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("quiet:a");
    client.next().await;
    let publish = async |key: &str, version: Version| {
        let publish = json("1").version(version);
        let publish = if key.is_empty() { publish } else { publish.key(key) };
        let published = engine.publish(&topic("quiet:a"), publish).await.unwrap();
        (published.position.unwrap().offset, published.is_new())
    };
    assert_eq!(publish("", Version::new(2)).await, (1, true));
    assert_eq!(publish("", Version::new(2)).await, (1, false), "the answer is the present top");
    assert_eq!(publish("k", Version::new(1)).await, (2, true), "each key has its own count");
    assert_eq!(publish("", Version::new(1)).await, (2, false));
    assert_eq!(publish("", Version::new(1).epoch("b")).await, (3, true));
    assert_eq!(publish("", Version::new(3)).await, (4, true));
    assert_eq!(publish("k", Version::new(1)).await, (4, false));
    assert_eq!(client.take(4).await, ["quiet:a 1:1", "quiet:a 2:1", "quiet:a 3:1", "quiet:a 4:1"]);
    assert_eq!(engine.stats().publishes_outdated.value(), 3);
    let unkept = engine.publish(&topic("plain:a"), json("1").version(Version::new(5))).await.unwrap();
    let older = engine.publish(&topic("plain:a"), json("1").version(Version::new(4))).await.unwrap();
    assert!(unkept.is_new() && !older.is_new() && older.position.is_none(), "a version needs no history");
}

#[tokio::test]
async fn keys_that_are_kept_have_a_bound() {
    let engine = open_engine().build().unwrap();
    let long = "x".repeat(256);
    for publish in [json("1").key(&*long), json("1").idempotency_key(&*long), json("1").version(Version::new(1).epoch(&*long))] {
        let refusal = engine.publish(&topic("quiet:a"), publish).await.unwrap_err().into_refusal();
        assert_eq!(refusal.kind, RefusalKind::BadRequest);
    }
}

#[tokio::test]
async fn pages_of_a_history_are_bounded_in_bytes_and_go_on_from_the_last_position() {
    for reverse in [false, true] {
        let engine =
            open_engine().namespace("long", quiet(100)).with_settings(|settings| settings.history_max_bytes = 3_000).build().unwrap();
        for n in 1..=20 {
            engine.publish(&topic("long:a"), json(&format!("\"{}\"", "x".repeat(100 * (n % 7))))).await.unwrap();
        }
        let mut query = HistoryQuery { limit: 50, reverse, ..HistoryQuery::default() };
        let mut read = Vec::new();
        let mut pages = 0;
        loop {
            let page = engine.history(&topic("long:a"), query).await.unwrap();
            assert_eq!(page.position.offset, 20);
            let weight: usize = page.publications.iter().map(|publication| publication.weight_bytes()).sum();
            assert!(weight <= 3_000);
            let Some(last) = page.publications.last() else { break };
            query.since = last.position.map(Since::Position);
            read.extend(offsets(&page.publications));
            pages += 1;
        }
        let expected: Vec<u64> = if reverse { (1..=20).rev().collect() } else { (1..=20).collect() };
        assert_eq!((read, pages > 2), (expected, true));
    }
}

/// A client that missed more than its backlog may hold.
#[tokio::test]
async fn a_long_resume_comes_in_pages_without_a_hole() {
    let engine =
        open_engine().namespace("long", quiet(1_000)).with_settings(|settings| settings.backlog_max_bytes = 4_000).build().unwrap();
    let epoch = engine.publish(&topic("long:a"), json("1")).await.unwrap().position.unwrap().epoch;
    for n in 2..=300 {
        engine.publish(&topic("long:a"), json(&n.to_string())).await.unwrap();
    }
    let mut client = Client::connect(&engine).await;
    client.set_capacity(Some(200));
    client.resume("long:a", Since::Position(Position { offset: 1, epoch }));
    assert_eq!(client.next().await, "subscribed long:a at 1 recovered", "who is cut now has missed everything still");
    for n in 2..=200 {
        assert_eq!(client.next().await, format!("long:a {n}:{n}"));
        assert!(engine.stats().backlog_bytes.value() <= 4_000);
    }
    for n in 301..=310 {
        engine.publish(&topic("long:a"), json(&n.to_string())).await.unwrap();
    }
    for n in 201..=310 {
        assert_eq!(client.next().await, format!("long:a {n}:{n}"));
    }
    assert_eq!(engine.stats().resumes_paged.value(), 1);
    engine.publish(&topic("long:a"), json("311")).await.unwrap();
    assert_eq!(client.next().await, "long:a 311:311");
    client.unsubscribe("long:a");
    assert_eq!(client.next().await, "unsubscribed long:a");
    assert!(engine.topics().await.is_empty(), "it was released once");
}

#[tokio::test]
async fn who_leaves_between_two_pages_is_released_once() {
    let engine =
        open_engine().namespace("long", quiet(1_000)).with_settings(|settings| settings.backlog_max_bytes = 4_000).build().unwrap();
    for n in 1..=300 {
        engine.publish(&topic("long:a"), json(&n.to_string())).await.unwrap();
    }
    for cut in [false, true] {
        let mut client = Client::connect(&engine).await;
        client.set_capacity(Some(300));
        client.resume("long:a", Since::Beginning);
        client.take(20).await;
        if cut {
            drop(client);
            while engine.stats().connections.value() > 0 {
                tokio::task::yield_now().await;
            }
        } else {
            client.unsubscribe("long:a");
            while client.next().await != "unsubscribed long:a" {}
            client.subscribe("long:a");
            assert_eq!(client.next().await, "subscribed long:a at 300");
            client.unsubscribe("long:a");
            client.next().await;
        }
        assert!(engine.topics().await.is_empty());
        assert_eq!(engine.stats().subscriptions.value(), 0);
    }
}

#[tokio::test]
async fn a_stream_gets_all_that_was_kept_however_little_it_holds_itself() {
    let engine = open_engine().namespace("long", quiet(1_000)).with_settings(|settings| settings.stream_max_len = 4).build().unwrap();
    for n in 1..=100 {
        engine.publish(&topic("long:a"), json(&n.to_string())).await.unwrap();
    }
    let mut stream = engine.subscribe_since(&topic("long:a"), Some(Since::Beginning)).unwrap();
    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
    for n in 1..=100 {
        let Some(StreamItem::Publication(publication)) = stream.next().await else { panic!("publication {n}") };
        assert_eq!(publication.position.unwrap().offset, n);
    }
}

#[tokio::test]
async fn a_log_says_from_where_on_it_is_whole() {
    let backplane = MemoryBackplane::new();
    let keep = Keep::history(3, HOUR);
    for n in 1..=5 {
        backplane.publish(&topic("a"), Publish::new(Payload::json(n.to_string())), keep).await.unwrap();
    }
    assert_eq!(backplane.history(&topic("a"), LogQuery::default(), keep).await.unwrap().kept_from, 2);
    backplane.remove_history(&topic("a")).await.unwrap();
    assert_eq!(backplane.history(&topic("a"), LogQuery::default(), keep).await.unwrap().kept_from, 5);
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_is_remembered_for_its_time_however_many_there_are() {
    let backplane = MemoryBackplane::new();
    let publish = |n: usize| Publish::new(Payload::json("1")).idempotency_key(format!("key-{n}"));
    for n in 0..12_000 {
        assert!(backplane.publish(&topic("plain:a"), publish(n), Keep::NOTHING).await.unwrap().is_new());
    }
    tokio::time::advance(Duration::from_secs(299)).await;
    for n in [0, 1, 11_999] {
        let again = backplane.publish(&topic("plain:a"), publish(n), Keep::NOTHING).await.unwrap();
        assert!(again.duplicate, "key {n} was forgotten");
    }
    let kept = backplane.kept().bytes;
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(backplane.publish(&topic("plain:a"), publish(0), Keep::NOTHING).await.unwrap().is_new());
    assert!(backplane.kept().bytes < kept / 1000, "what is over gives its bytes back");
}

#[tokio::test(start_paused = true)]
async fn when_idempotency_keys_fill_the_memory_new_ones_are_refused_and_old_ones_answered() {
    let engine = open_engine().namespace("full", quiet(5).memory_max(50_000)).build().unwrap();
    let mut listener = Client::connect(&engine).await;
    listener.subscribe("full:a");
    listener.next().await;
    let publish = |n: u64| json(&n.to_string()).idempotency_key(format!("key-{n}"));
    let mut taken = 0;
    let error = loop {
        match engine.publish(&topic("full:a"), publish(taken + 1)).await {
            Ok(published) => {
                taken += 1;
                assert_eq!(published.position.unwrap().offset, taken);
                assert_eq!(listener.next().await, format!("full:a {taken}:{taken}"));
            }
            Err(error) => break error,
        }
    };
    let refusal = error.into_refusal();
    assert_eq!((refusal.kind, refusal.rule.as_deref()), (RefusalKind::Unavailable, Some("raise namespaces.full.memory_max")));
    assert!(refusal.hint.is_some_and(|hint| hint.contains("idempotency key")) && refusal.retry_after.is_some());
    assert_eq!(engine.stats().publishes_without_room.value(), 1);
    for n in 1..=taken {
        let again = engine.publish(&topic("full:a"), publish(n)).await.unwrap();
        assert_eq!((again.duplicate, again.position.unwrap().offset), (true, n), "what was taken is still known");
    }
    engine.publish(&topic("full:a"), json("\"no key\"").skip_history()).await.unwrap();
    assert_eq!(listener.next().await, "full:a \"no key\"", "nothing was delivered that was refused or a retry");
    tokio::time::advance(Duration::from_secs(300)).await;
    let retried = engine.publish(&topic("full:a"), publish(taken + 1)).await.unwrap();
    assert_eq!((retried.is_new(), retried.position.unwrap().offset), (true, taken + 1), "the refused one was never half done");
}
