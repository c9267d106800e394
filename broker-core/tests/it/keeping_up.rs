//! Policies for clients that do not keep up, urgent topics, and clients that take nothing at all.

use std::time::Duration;

use broker_core::{
    Engine, Namespace, Priority, Request, SlowConsumer,
    testing::{Client, LineProtocol},
};

use crate::delivering::{json, open_engine, quiet, topic};

const BACKLOG_MAX: usize = 500;

fn engine(namespace: Namespace) -> Engine {
    let builder = open_engine().namespace("slow", namespace).namespace("alarm", quiet(100).priority(Priority::High));
    builder.with_settings(|settings| settings.backlog_max_bytes = BACKLOG_MAX).build().unwrap()
}

/// A client that has subscribed, and whose pipe holds no more than a line or two.
async fn slow_client(engine: &Engine, protocol: LineProtocol) -> Client {
    let mut client = Client::connect_as(engine, protocol, None).await;
    client.subscribe("slow:a");
    client.next().await;
    client.set_capacity(Some(20));
    client
}

async fn publish(engine: &Engine, name: &str, numbers: std::ops::RangeInclusive<u32>, key: impl Fn(u32) -> Option<String>) {
    for n in numbers {
        let publish = json(&n.to_string());
        let publish = match key(n) {
            Some(key) => publish.key(key),
            None => publish,
        };
        engine.publish(&topic(name), publish).await.unwrap();
        tokio::task::yield_now().await;
    }
}

/// The numbers of the lines up to this one.
async fn numbers_until(client: &mut Client, last: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let line = client.next().await;
        numbers.push(line.rsplit_once(':').unwrap_or_else(|| panic!("{line}")).1.parse().unwrap());
    }
    numbers
}

#[tokio::test]
async fn of_what_waits_only_the_newest_of_each_key_is_kept() {
    let engine = engine(quiet(1000).slow_consumer(SlowConsumer::Latest));
    let mut slow = slow_client(&engine, LineProtocol::default()).await;
    publish(&engine, "slow:a", 1..=3000, |n| Some(format!("k{}", n % 3))).await;
    slow.set_capacity(None);
    let numbers = numbers_until(&mut slow, 3000).await;
    assert!(numbers.is_sorted() && numbers.len() < 200, "{numbers:?}");
    assert_eq!(numbers[numbers.len() - 3..], [2998, 2999, 3000]);
    assert_eq!(engine.stats().gaps.value(), 0, "what a newer one replaces is not missing");
    assert_eq!(engine.stats().conflated.value(), 3000 - numbers.len() as u64);
}

#[tokio::test]
async fn state_that_does_not_fit_ends_the_connection() {
    let engine = engine(quiet(1000).slow_consumer(SlowConsumer::Latest));
    let mut slow = slow_client(&engine, LineProtocol::default()).await;
    publish(&engine, "slow:a", 1..=100, |n| Some(n.to_string())).await;
    slow.set_capacity(None);
    while slow.next().await != "closed slow_consumer" {}
}

#[tokio::test]
async fn who_fell_behind_catches_up_from_the_history_without_a_gap() {
    for gap_ends in [false, true] {
        let engine = engine(quiet(2000).slow_consumer(SlowConsumer::CatchUp));
        let mut slow = slow_client(&engine, LineProtocol { gap_ends, ..LineProtocol::default() }).await;
        publish(&engine, "slow:a", 1..=1000, |_| None).await;
        assert!(engine.stats().catch_ups.value() >= 1 && engine.stats().backlog_bytes.value() <= BACKLOG_MAX as u64 + 50);
        slow.set_capacity(None);
        assert_eq!(numbers_until(&mut slow, 1000).await, (1..=1000).collect::<Vec<_>>());
        publish(&engine, "slow:a", 1001..=1010, |_| None).await;
        assert_eq!(numbers_until(&mut slow, 1010).await, (1001..=1010).collect::<Vec<_>>());
        assert_eq!(engine.stats().gaps.value(), 0);
    }
}

#[tokio::test]
async fn catching_up_goes_on_while_more_is_published_than_the_client_reads() {
    let engine = engine(quiet(5000).slow_consumer(SlowConsumer::CatchUp));
    let mut slow = slow_client(&engine, LineProtocol::default()).await;
    let mut heard = 0;
    for n in 1..=1000 {
        publish(&engine, "slow:a", n..=n, |_| None).await;
        if n % 3 == 0 {
            heard += 1;
            assert_eq!(slow.next().await, format!("slow:a {heard}:{heard}"));
        }
    }
    assert_eq!(numbers_until(&mut slow, 1000).await, (heard + 1..=1000).collect::<Vec<_>>());
    // It falls behind once, and goes on in pages.
    assert!(engine.stats().catch_ups.value() >= 1 && engine.stats().resumes_paged.value() >= 1);
}

#[tokio::test]
async fn where_the_history_does_not_reach_back_the_gap_says_from_where_to_where() {
    let engine = engine(quiet(10).slow_consumer(SlowConsumer::CatchUp));
    let mut slow = slow_client(&engine, LineProtocol::default()).await;
    publish(&engine, "slow:a", 1..=500, |_| None).await;
    slow.set_capacity(None);
    let mut expected = 1;
    let mut line = slow.next().await;
    while line == format!("slow:a {expected}:{expected}") {
        expected += 1;
        line = slow.next().await;
    }
    assert_eq!(line, format!("gap slow:a {expected}-500 Trimmed"));
    publish(&engine, "slow:a", 501..=501, |_| None).await;
    assert_eq!(slow.next().await, "slow:a 501:501");
}

#[tokio::test]
async fn who_leaves_while_catching_up_is_gone() {
    let engine = engine(quiet(2000).slow_consumer(SlowConsumer::CatchUp));
    for ends in 0..3 {
        let mut slow = slow_client(&engine, LineProtocol::default()).await;
        publish(&engine, "slow:a", 1..=200, |_| None).await;
        if ends == 0 {
            drop(slow);
            continue;
        }
        slow.unsubscribe("slow:a");
        slow.set_capacity(None);
        while slow.next().await != "unsubscribed slow:a" {}
        if ends == 2 {
            slow.subscribe("slow:a");
            assert!(slow.next().await.starts_with("subscribed slow:a at"));
            publish(&engine, "slow:a", 201..=201, |_| None).await;
            assert!(slow.next().await.ends_with(":201"));
        }
    }
    while engine.stats().connections.value() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((engine.stats().subscriptions.value(), engine.stats().backlog_bytes.value()), (0, 0));
}

#[tokio::test]
async fn an_alarm_overtakes_what_waits_and_keeps_its_own_order() {
    let engine = engine(quiet(100));
    let mut client = slow_client(&engine, LineProtocol::default()).await;
    client.set_capacity(None);
    client.subscribe("alarm:fire");
    client.next().await;
    client.set_capacity(Some(0));
    publish(&engine, "slow:a", 1..=20, |_| None).await;
    client.publish("quiet:mine", "1");
    publish(&engine, "alarm:fire", 1..=2, |_| None).await;
    publish(&engine, "slow:a", 21..=22, |_| None).await;
    publish(&engine, "alarm:fire", 3..=3, |_| None).await;
    client.set_capacity(None);
    assert_eq!(client.take(3).await, ["alarm:fire 1:1", "alarm:fire 2:2", "alarm:fire 3:3"]);
    for n in 1..=20 {
        assert_eq!(client.next().await, format!("slow:a {n}:{n}"));
    }
    assert_eq!(client.take(3).await, ["published quiet:mine at 1", "slow:a 21:21", "slow:a 22:22"]);
}

#[tokio::test]
async fn nothing_overtakes_the_answer_that_announces_it() {
    let engine = engine(quiet(100));
    let mut client = slow_client(&engine, LineProtocol::default()).await;
    client.set_capacity(Some(0));
    publish(&engine, "slow:a", 1..=5, |_| None).await;
    client.subscribe("alarm:fire");
    while engine.stats().subscriptions.value() < 2 {
        tokio::task::yield_now().await;
    }
    publish(&engine, "alarm:fire", 1..=1, |_| None).await;
    client.set_capacity(None);
    let lines = client.take(7).await;
    assert_eq!(lines[5..], ["subscribed alarm:fire at 0", "alarm:fire 1:1"]);
}

#[tokio::test]
async fn signs_of_life_do_not_wait_behind_publications() {
    let engine = engine(quiet(100));
    let mut client = slow_client(&engine, LineProtocol::default()).await;
    client.set_capacity(Some(0));
    publish(&engine, "slow:a", 1..=20, |_| None).await;
    client.send(Request::Ping { bare: false });
    while engine.stats().commands.value() < 3 {
        tokio::task::yield_now().await;
    }
    client.set_capacity(None);
    assert_eq!(client.next().await, "pong");
    assert_eq!(client.next().await, "slow:a 1:1");
}

#[tokio::test]
async fn the_answer_to_an_unsubscribe_proves_that_everything_before_it_has_come() {
    let engine = engine(quiet(100));
    let mut client = slow_client(&engine, LineProtocol::default()).await;
    client.set_capacity(Some(0));
    publish(&engine, "slow:a", 1..=2, |_| None).await;
    client.send(Request::Unsubscribe { topic: topic("-") });
    while engine.stats().commands.value() < 3 {
        tokio::task::yield_now().await;
    }
    client.set_capacity(None);
    assert_eq!(client.take(3).await, ["slow:a 1:1", "slow:a 2:2", "unsubscribed -"], "a topic that nobody has");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_gone_after_the_write_timeout_and_one_that_takes_little_stays() {
    let engine = open_engine()
        .namespace("slow", quiet(100))
        .with_settings(|settings| {
            settings.write_timeout = Duration::from_secs(10);
            settings.ping_interval = Duration::from_secs(600);
        })
        .build()
        .unwrap();
    let mut stuck = slow_client(&engine, LineProtocol::default()).await;
    let mut slow = slow_client(&engine, LineProtocol::default()).await;
    let started = tokio::time::Instant::now();
    publish(&engine, "slow:a", 1..=20, |_| None).await;
    for n in 1..=8 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(slow.next().await, format!("slow:a {n}:{n}"));
    }
    while stuck.next().await != "finished" {}
    assert_eq!(engine.stats().closes().find(|(cause, _)| *cause == "slow_consumer").unwrap().1, 1);
    assert!(started.elapsed() >= Duration::from_secs(10));
    assert_eq!(slow.next().await, "slow:a 9:9");
}

#[tokio::test]
async fn over_the_bound_of_the_node_those_go_that_most_waits_for() {
    const ROOM: usize = 1 << 20;
    let engine = open_engine()
        .namespace("slow", quiet(0).slow_consumer(SlowConsumer::DropOldest))
        .with_settings(|settings| {
            settings.backlogs_max_bytes = ROOM;
            settings.shards = 1;
        })
        .build()
        .unwrap();
    let mut clients = Vec::new();
    for n in 0..8 {
        let mut client = Client::connect(&engine).await;
        client.subscribe(&format!("slow:{n}"));
        client.next().await;
        client.set_capacity(Some(0));
        clients.push(client);
    }
    let mut healthy = Client::connect(&engine).await;
    healthy.subscribe("slow:8");
    healthy.next().await;
    let filler = format!("\"{}\"", "x".repeat(10_000));
    for round in 0..60 {
        for n in 0..=8 {
            engine.publish(&topic(&format!("slow:{n}")), json(&filler)).await.unwrap();
        }
        assert_eq!(healthy.next().await.len(), "slow:8 ".len() + filler.len(), "round {round}");
    }
    let closed = engine.stats().closes().find(|(cause, _)| *cause == "slow_consumer").unwrap().1;
    assert!(closed >= 1, "more than {ROOM} bytes would wait");
    assert!(engine.stats().backlog_bytes.value() <= (ROOM + 256 * 1024) as u64, "{}", engine.stats().backlog_bytes.value());
}
