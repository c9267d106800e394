//! What happens when a client does not read: bounds, policies, and what others notice of it.

use std::{sync::Arc, time::Duration};

use broker_core::{
    Backplane, Engine, HistoryQuery, Keep, MemoryBackplane, Namespace, SlowConsumer,
    testing::{Client, LineProtocol},
};

use crate::delivering::{json, open_engine, quiet, topic};

fn namespace(policy: SlowConsumer) -> Namespace {
    quiet(1000).slow_consumer(policy)
}

async fn slow_client(engine: &Engine, protocol: LineProtocol) -> Client {
    let mut client = Client::connect_as(engine, protocol, None).await;
    client.subscribe("slow:a");
    client.next().await;
    client.set_capacity(Some(100));
    client
}

#[tokio::test]
async fn a_slow_consumer_is_disconnected_and_others_notice_nothing() {
    let engine = open_engine()
        .namespace("slow", namespace(SlowConsumer::Disconnect))
        .with_settings(|settings| settings.backlog_max_bytes = 1000)
        .build()
        .unwrap();
    let mut slow = slow_client(&engine, LineProtocol::default()).await;
    let mut healthy = Client::connect(&engine).await;
    healthy.subscribe("slow:a");
    healthy.next().await;
    for n in 1..=100 {
        engine.publish(&topic("slow:a"), json(&format!("\"{n:020}\""))).await.unwrap();
        assert_eq!(healthy.next().await, format!("slow:a {n}:\"{n:020}\""));
    }
    let mut last = String::new();
    while last != "finished" {
        let line = slow.next().await;
        if line == "finished" {
            assert_eq!(last, "closed slow_consumer");
        }
        last = line;
    }
    assert_eq!(engine.stats().closes().find(|(cause, _)| *cause == "slow_consumer").unwrap().1, 1);
    drop(slow);
    healthy.unsubscribe("slow:a");
    healthy.next().await;
    assert_eq!(engine.stats().backlog_bytes.value(), 0);
}

#[tokio::test]
async fn drop_oldest_tells_exactly_what_was_dropped() {
    let engine = open_engine()
        .namespace("slow", namespace(SlowConsumer::DropOldest))
        .with_settings(|settings| settings.backlog_max_bytes = 500)
        .build()
        .unwrap();
    let mut slow = slow_client(&engine, LineProtocol::default()).await;
    for n in 1..=200 {
        engine.publish(&topic("slow:a"), json(&n.to_string())).await.unwrap();
        tokio::task::yield_now().await;
    }
    slow.set_capacity(None);
    let mut expected = 1;
    let mut gaps = 0;
    while expected <= 200 {
        let line = slow.next().await;
        if let Some(gap) = line.strip_prefix("gap slow:a ") {
            let (from, rest) = gap.split_once('-').unwrap();
            assert_eq!(from.parse::<u64>().unwrap(), expected, "{line}");
            expected = rest.split_once(' ').unwrap().0.parse::<u64>().unwrap() + 1;
            gaps += 1;
        } else {
            assert_eq!(line, format!("slow:a {expected}:{expected}"));
            expected += 1;
        }
    }
    assert_eq!(gaps, 1, "neighbours are one gap");
    assert!(engine.stats().dropped_slow_consumer.value() > 100);
}

#[tokio::test]
async fn where_a_gap_ends_the_subscription_nothing_follows_it() {
    let engine = open_engine()
        .namespace("slow", namespace(SlowConsumer::DropOldest))
        .with_settings(|settings| settings.backlog_max_bytes = 500)
        .build()
        .unwrap();
    let mut slow = slow_client(&engine, LineProtocol { gap_ends: true, ..LineProtocol::default() }).await;
    for n in 1..=200 {
        engine.publish(&topic("slow:a"), json(&n.to_string())).await.unwrap();
        tokio::task::yield_now().await;
    }
    slow.set_capacity(None);
    let mut last = 0;
    let mut line = slow.next().await;
    while let Some((_, offset)) = line.split_once("slow:a ").filter(|(before, _)| before.is_empty()) {
        last = offset.split_once(':').unwrap().0.parse().unwrap();
        line = slow.next().await;
    }
    assert!(line.starts_with(&format!("gap slow:a {}-", last + 1)), "{line}");
    slow.subscribe("slow:a");
    assert_eq!(slow.next().await, "subscribed slow:a at 200");
}

#[tokio::test]
async fn a_full_inbox_refuses_a_publish_before_the_append() {
    let engine = open_engine()
        .namespace("slow", namespace(SlowConsumer::Disconnect))
        .with_settings(|settings| settings.inbox_share_max_bytes = 600)
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("slow:a");
    client.next().await;
    let mut taken = 0;
    for n in 1..=50 {
        // The shard has no turn between these.
        taken += u64::from(engine.publish(&topic("slow:a"), json(&n.to_string())).await.is_ok());
    }
    assert_eq!(taken, 4);
    for n in 1..=taken {
        assert_eq!(client.next().await, format!("slow:a {n}:{n}"));
    }
    assert_eq!(engine.history(&topic("slow:a"), HistoryQuery::default()).await.unwrap().position.offset, 4);
}

/// Publishes past the engine, as another node would: nobody asks whether the inboxes have room.
async fn flood(history: usize) -> (Engine, Client) {
    let backplane = Arc::new(MemoryBackplane::new());
    let engine = open_engine()
        .backplane(backplane.clone())
        .namespace("slow", quiet(history))
        .with_settings(|settings| {
            settings.inbox_share_max_bytes = 600;
            settings.shards = 1;
        })
        .build()
        .unwrap();
    let mut client = Client::connect(&engine).await;
    client.subscribe("slow:a");
    client.next().await;
    let keep = Keep::history(history, Duration::from_secs(60));
    for n in 1..=50 {
        backplane.publish(&topic("slow:a"), json(&n.to_string()), keep).await.unwrap();
    }
    (engine, client)
}

#[tokio::test]
async fn a_lagging_shard_is_refilled_from_history() {
    let (engine, mut client) = flood(1000).await;
    for n in 1..=50 {
        assert_eq!(client.next().await, format!("slow:a {n}:{n}"));
    }
    assert!(engine.stats().lags.value() >= 1);
    assert_eq!(engine.stats().gaps.value(), 0);
}

#[tokio::test]
async fn a_lagging_shard_that_cannot_be_refilled_tells_one_gap() {
    let (engine, mut client) = flood(5).await;
    let mut line = client.next().await;
    let mut last = 0;
    while let Some(at) = line.strip_prefix("slow:a ") {
        last = at.split_once(':').unwrap().0.parse::<u64>().unwrap();
        line = client.next().await;
    }
    assert_eq!(line, format!("gap slow:a {}-50 SlowConsumer", last + 1));
    engine.publish(&topic("slow:a"), json("51")).await.unwrap();
    assert_eq!(client.next().await, "slow:a 51:51");
}

#[tokio::test]
async fn where_a_gap_ends_the_subscription_what_came_before_it_is_still_sent() {
    let backplane = Arc::new(MemoryBackplane::new());
    let engine = open_engine()
        .backplane(backplane.clone())
        .namespace("slow", quiet(5))
        .with_settings(|settings| settings.inbox_share_max_bytes = 600)
        .build()
        .unwrap();
    let mut client = Client::connect_as(&engine, LineProtocol { gap_ends: true, ..LineProtocol::default() }, None).await;
    client.subscribe("slow:a");
    client.next().await;
    let keep = Keep::history(5, Duration::from_secs(60));
    for n in 1..=50 {
        backplane.publish(&topic("slow:a"), json(&n.to_string()), keep).await.unwrap();
    }
    assert_eq!(client.take(5).await, ["slow:a 1:1", "slow:a 2:2", "slow:a 3:3", "slow:a 4:4", "gap slow:a 5-50 SlowConsumer"]);
    client.subscribe("slow:a");
    assert_eq!(client.next().await, "subscribed slow:a at 50");
}
