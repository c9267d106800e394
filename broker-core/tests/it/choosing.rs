//! Subscriptions that want a part of a topic, or the newest at a pace.

use std::{sync::Arc, time::Duration};

use broker_core::{
    Backplane, Engine, EngineBuilder, Filter, FilterNode, Keep, MemoryBackplane, Publish, Request, Selection, Since, Subscribe,
    testing::Client,
};
use tokio::time::Instant;

use crate::delivering::{json, open_engine, quiet, topic};

const PACE: Duration = Duration::from_millis(250);

fn engine() -> EngineBuilder {
    open_engine().namespace("news", quiet(100).filter())
}

fn high() -> Selection {
    Selection::ALL.filter(Filter::new(FilterNode::test("priority", "eq", ["high"])).unwrap())
}

fn tagged(n: u32, priority: &str) -> Publish {
    json(&n.to_string()).tags([("priority".to_owned(), priority.to_owned())].into())
}

async fn choose(engine: &Engine, subscribe: Subscribe) -> Client {
    let mut client = Client::connect(engine).await;
    client.send(Request::Subscribe(subscribe));
    assert!(client.next().await.starts_with("subscribed"));
    client
}

#[tokio::test]
async fn a_filter_holds_live_in_recovery_and_in_history() {
    let engine = engine().build().unwrap();
    let news = topic("news:a");
    let mut some = choose(&engine, Subscribe::new(news.clone()).selection(high())).await;
    let mut all = choose(&engine, Subscribe::new(news.clone())).await;
    for n in 1..=60 {
        engine.publish(&news, tagged(n, if n % 3 == 0 { "high" } else { "low" })).await.unwrap();
    }
    engine.publish(&news, json("61")).await.unwrap();
    for n in (3..=60).step_by(3) {
        assert_eq!(some.next().await, format!("news:a {n}:{n}"));
    }
    for n in 1..=61 {
        assert_eq!(all.next().await, format!("news:a {n}:{n}"));
    }
    some.send(Request::History { topic: news.clone(), since: None, limit: Some(10), reverse: true });
    assert_eq!(some.next().await, "history news:a at 61 60,57,54");
    some.unsubscribe("news:a");
    some.next().await;
    some.send(Request::Subscribe(Subscribe::new(news).since(Since::Beginning).selection(high())));
    assert_eq!(some.next().await, "subscribed news:a at 61 recovered");
    assert_eq!(some.take(2).await, ["news:a 3:3", "news:a 6:6"]);
}

#[tokio::test]
async fn a_namespace_without_filters_says_so_and_the_connection_stays() {
    let engine = open_engine().build().unwrap();
    let mut client = Client::connect(&engine).await;
    client.send(Request::Subscribe(Subscribe::new(topic("quiet:a")).selection(high())));
    assert_eq!(client.next().await, "refused NotAvailable: quiet:a cannot be filtered by tags");
    client.subscribe("quiet:a");
    assert_eq!(client.next().await, "subscribed quiet:a at 0");
}

#[tokio::test(start_paused = true)]
async fn at_a_pace_the_first_comes_at_once_and_the_newest_always() {
    let engine = engine().build().unwrap();
    let prices = topic("quiet:prices");
    let mut paced = choose(&engine, Subscribe::new(prices.clone()).selection(Selection::ALL.pace(PACE))).await;
    let started = Instant::now();
    let mut heard = Vec::new();
    for n in 1..=100 {
        engine.publish(&prices, json(&n.to_string())).await.unwrap();
        tokio::time::advance(Duration::from_millis(10)).await;
        while let Some(line) = paced.try_next() {
            heard.push((line, started.elapsed()));
        }
    }
    heard.push((paced.next().await, started.elapsed()));
    assert_eq!(heard[0].0, "quiet:prices 1:1", "{heard:?}");
    assert_eq!(heard.last().unwrap().0, "quiet:prices 100:100", "{heard:?}");
    assert!((4..=6).contains(&heard.len()), "a second at four updates: {heard:?}");
    let paces = heard.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1));
    assert!(paces.into_iter().all(|pace| pace + Duration::from_millis(10) >= PACE), "{heard:?}");
    tokio::time::advance(PACE).await;
    engine.publish(&prices, json("101")).await.unwrap();
    let rested = Instant::now();
    assert_eq!(paced.next().await, "quiet:prices 101:101");
    assert!(rested.elapsed() < Duration::from_millis(5), "after a rest the next comes at once");
}

#[tokio::test(start_paused = true)]
async fn a_pace_holds_for_each_key() {
    let engine = engine().build().unwrap();
    let prices = topic("quiet:prices");
    let mut paced = choose(&engine, Subscribe::new(prices.clone()).selection(Selection::ALL.pace(PACE))).await;
    engine.publish(&prices, json("1").key("b")).await.unwrap();
    assert_eq!(paced.next().await, "quiet:prices 1:1");
    for n in 2..=9 {
        engine.publish(&prices, json(&n.to_string()).key(["a", "b", "c"][n % 3])).await.unwrap();
    }
    assert_eq!(paced.take(3).await, ["quiet:prices 7:7", "quiet:prices 8:8", "quiet:prices 9:9"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_conflated_too_and_who_leaves_hears_nothing_late() {
    let engine = engine().build().unwrap();
    let prices = topic("quiet:prices");
    for n in 1..=5 {
        engine.publish(&prices, json(&n.to_string())).await.unwrap();
    }
    let subscribe = Subscribe::new(prices.clone()).since(Since::Beginning).selection(Selection::ALL.pace(PACE));
    let mut paced = choose(&engine, subscribe).await;
    assert_eq!(paced.next().await, "quiet:prices 5:5");
    engine.publish(&prices, json("6")).await.unwrap();
    assert_eq!(paced.next().await, "quiet:prices 6:6");
    engine.publish(&prices, json("7")).await.unwrap();
    paced.unsubscribe("quiet:prices");
    assert_eq!(paced.next().await, "unsubscribed quiet:prices");
    paced.subscribe("quiet:prices");
    assert_eq!(paced.next().await, "subscribed quiet:prices at 7");
    tokio::time::advance(PACE * 2).await;
    engine.publish(&prices, json("8")).await.unwrap();
    assert_eq!(paced.next().await, "quiet:prices 8:8");
}

#[tokio::test(start_paused = true)]
async fn a_gap_comes_after_what_waited_for_its_time() {
    let backplane = Arc::new(MemoryBackplane::new());
    let settings = |settings: &mut broker_core::Settings| (settings.inbox_share_max_bytes, settings.shards) = (600, 1);
    let engine = engine().backplane(backplane.clone()).namespace("slow", quiet(5)).with_settings(settings).build().unwrap();
    let prices = topic("slow:a");
    let mut paced = choose(&engine, Subscribe::new(prices.clone()).selection(Selection::ALL.pace(PACE))).await;
    engine.publish(&prices, json("1")).await.unwrap();
    assert_eq!(paced.next().await, "slow:a 1:1");
    let keep = Keep::history(5, Duration::from_secs(60));
    for n in 2..=50 {
        // Past the engine, as another node would: nobody asks whether the inbox has room.
        backplane.publish(&prices, json(&n.to_string()), keep).await.unwrap();
    }
    assert_eq!(paced.take(2).await, ["slow:a 5:5", "gap slow:a 6-50 SlowConsumer"]);
    engine.publish(&prices, json("51")).await.unwrap();
    assert_eq!(paced.next().await, "slow:a 51:51");
}
