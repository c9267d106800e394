//! Many threads at once: one order per topic, no loss, no doubles, whoever joins and leaves meanwhile.

use std::time::Duration;

use broker_core::{Count, Engine, Grant, HistoryQuery, Position, Request, Since, StreamItem, testing::Client};

use crate::delivering::{json, open_engine, quiet, topic};

fn engine() -> Engine {
    open_engine().namespace("kept", quiet(100_000)).with_settings(|settings| settings.shards = 4).build().unwrap()
}

async fn publish_all(engine: &Engine, publishers: usize, each: usize) {
    let tasks: Vec<_> = (0..publishers)
        .map(|publisher| {
            let engine = engine.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    while engine.publish(&topic("kept:a"), json(&format!("\"{publisher}:{n}\""))).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                    if n % 16 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscribers_that_come_and_go_see_one_contiguous_order() {
    const ALL: u64 = 8_000;
    let engine = engine();
    let readers: Vec<_> = (0..16)
        .map(|reader: u64| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut last: Option<Position> = None;
                let mut seen = Vec::new();
                let epoch = engine.history(&topic("kept:a"), HistoryQuery::default()).await.unwrap().position.epoch;
                while last.is_none_or(|last| last.offset < ALL) {
                    let mut client = Client::connect(&engine).await;
                    let since = last.unwrap_or(Position { offset: 0, epoch });
                    client.resume("kept:a", Since::Position(since));
                    let answer = client.next().await;
                    assert!(answer.ends_with(" recovered") && !answer.ends_with("not recovered"), "{answer}");
                    // Leaves after a while, mostly in the midst of traffic, and comes back.
                    for _ in 0..(100 + reader * 37) {
                        let line = client.next().await;
                        let (offset, data) = line.strip_prefix("kept:a ").unwrap().split_once(':').unwrap();
                        let offset: u64 = offset.parse().unwrap();
                        assert_eq!(offset, last.map_or(1, |last| last.offset + 1), "contiguous, without doubles");
                        last = Some(Position { offset, epoch });
                        seen.push(data.to_owned());
                        if offset == ALL {
                            break;
                        }
                    }
                }
                seen
            })
        })
        .collect();
    publish_all(&engine, 4, ALL as usize / 4).await;
    let mut orders = Vec::new();
    for reader in readers {
        orders.push(reader.await.unwrap());
    }
    for order in &orders {
        assert_eq!(order, &orders[0], "one order for everybody");
    }
    for publisher in 0..4 {
        let prefix = format!("\"{publisher}:");
        let of_one: Vec<usize> = orders[0].iter().filter_map(|data| data.strip_prefix(&prefix)?.strip_suffix('"')?.parse().ok()).collect();
        assert!(of_one.is_sorted(), "a publisher's own order holds");
        assert_eq!(of_one.len(), ALL as usize / 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn topics_end_with_their_last_listener_and_begin_again() {
    let engine = engine();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move {
                for _ in 0..300 {
                    let mut stream = engine.subscribe(&topic("plain:a")).unwrap();
                    assert!(matches!(stream.next().await, Some(StreamItem::Live { .. })));
                    engine.publish(&topic("plain:a"), json("1")).await.unwrap();
                    assert!(matches!(stream.next().await, Some(StreamItem::Publication(_))));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    while !engine.topics().await.is_empty() || engine.info().await[0].topics > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscribes_and_unsubscribes_that_race_leave_nothing_behind() {
    const CLIENTS: u64 = 32;
    const ROUNDS: usize = 40;
    const TOPICS: [&str; 3] = ["plain:a", "kept:b", "room"];
    let engine = open_engine()
        .namespace("kept", quiet(100))
        .with_settings(|settings| {
            settings.shards = 4;
            settings.leave_delay = Duration::ZERO;
            settings.rates = broker_core::Rates::OFF;
            settings.mistakes_per_minute = u32::MAX;
        })
        // Some answers come when nobody waits for them any more.
        .on_subscribe(|_| async {
            for _ in 0..fastrand::usize(0..4) {
                tokio::task::yield_now().await;
            }
            Ok(Grant::plain())
        })
        .build()
        .unwrap();
    let publishing = tokio::spawn({
        let engine = engine.clone();
        async move {
            loop {
                for name in TOPICS {
                    // Where an inbox is full it is refused, and goes on.
                    let _ = engine.publish(&topic(name), json("1")).await;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let (engine, mut rng) = (engine.clone(), fastrand::Rng::with_seed(seed));
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    let mut client = Client::connect(&engine).await;
                    let mut answers = 0;
                    for _ in 0..rng.usize(1..20) {
                        let name = TOPICS[rng.usize(0..TOPICS.len())];
                        if rng.bool() {
                            client.subscribe(name);
                        } else {
                            client.unsubscribe(name);
                        }
                        answers += 1;
                    }
                    // A half go in the midst of it, the others when each command has its answer.
                    if rng.bool() {
                        continue;
                    }
                    client.send(Request::Ping { bare: false });
                    while answers > 0 {
                        let line = client.next().await;
                        assert_ne!(line, "finished");
                        answers -= usize::from(["subscribed", "unsubscribed", "refused"].iter().any(|word| line.starts_with(word)));
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    publishing.abort();
    let _ = publishing.await;
    let gone = async {
        let stats = engine.stats();
        while stats.connections.value() > 0 || engine.info().await[0].topics > 0 {
            tokio::task::yield_now().await;
        }
        [&stats.connections, &stats.sessions, &stats.subscriptions, &stats.backlog_bytes].map(Count::value)
    };
    let gauges = tokio::time::timeout(Duration::from_secs(20), gone).await.expect("everybody is gone");
    assert_eq!(gauges, [0; 4]);
    assert_eq!(engine.topics().await, []);
    // Presence hears of it last, and not for every namespace.
    for name in &TOPICS[1..] {
        let absent = async {
            while engine.presence_stats(&topic(name)).await.unwrap().sessions > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), absent).await.unwrap_or_else(|_| panic!("somebody is left in {name}"));
    }
}
