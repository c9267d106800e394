//! More waits on the node than may: who is closed, whose shard sleeps or not, and who is not.

use std::time::Duration;

use broker_core::{Engine, testing::Client};
use tokio::time::{advance, sleep};

use crate::delivering::{json, open_engine, quiet, topic};

const KIB: usize = 1024;
const SHARDS: usize = 4;

/// An engine whose connections may let a megabyte wait together, and each as much as it likes.
fn engine() -> Engine {
    let settings = |settings: &mut broker_core::Settings| {
        settings.shards = SHARDS;
        settings.backlogs_max_bytes = KIB * KIB;
        settings.backlog_max_bytes = 16 * KIB * KIB;
        settings.ping_interval = Duration::from_secs(3600);
    };
    open_engine().namespace("slow", quiet(1)).with_settings(settings).build().unwrap()
}

/// Connections, each in another shard and subscribed to a topic of its own, that take nothing.
async fn stuck(engine: &Engine) -> Vec<Client> {
    let mut clients = Vec::new();
    for n in 0..SHARDS {
        let mut client = Client::connect(engine).await;
        client.subscribe(&format!("slow:{n}"));
        assert_eq!(client.next().await, format!("subscribed slow:{n} at 0"));
        client.set_capacity(Some(0));
        clients.push(client);
    }
    clients
}

async fn publish(engine: &Engine, n: usize, kib: usize) {
    let text = format!("\"{}\"", "x".repeat(10 * KIB));
    for _ in 0..kib / 10 {
        engine.publish(&topic(&format!("slow:{n}")), json(&text)).await.unwrap();
    }
    // Every task that can go on does: time passes when nobody can.
    sleep(Duration::from_millis(1)).await;
}

fn closed(engine: &Engine) -> u64 {
    engine.stats().closes().find(|(cause, _)| *cause == "slow_consumer").unwrap().1
}

/// How a stuck connection ends, or how many publications it gets once it reads.
async fn outcome(mut client: Client) -> Result<usize, String> {
    client.set_capacity(None);
    sleep(Duration::from_millis(1)).await;
    let lines: Vec<String> = std::iter::from_fn(|| client.try_next().filter(|line| line != "finished")).collect();
    match lines.last() {
        Some(last) if last.starts_with("closed") => Err(last.clone()),
        _ => Ok(lines.len()),
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_is_closed_also_where_its_shard_sleeps_and_nobody_else() {
    let engine = engine();
    let clients = stuck(&engine).await;
    let mut healthy = Client::connect(&engine).await;
    healthy.subscribe("slow:3");
    healthy.next().await;
    for (n, kib) in [(0, 200), (1, 400), (2, 150), (3, 100)] {
        publish(&engine, n, kib).await;
    }
    assert_eq!(closed(&engine), 0, "within the bound everybody may be slow");
    publish(&engine, 3, 200).await;
    advance(Duration::from_secs(1)).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(closed(&engine), 1);
    healthy.take(30).await;
    let mut outcomes = Vec::new();
    for client in clients {
        outcomes.push(outcome(client).await);
    }
    assert_eq!(outcomes, [Ok(20), Err("closed slow_consumer".to_owned()), Ok(15), Ok(30)]);
}

#[tokio::test(start_paused = true)]
async fn the_lists_of_what_waits_count_where_the_publications_are_shared_and_small() {
    const CLIENTS: usize = 64;
    let small = |settings: &mut broker_core::Settings| {
        settings.shards = SHARDS;
        settings.backlogs_max_bytes = 6 * KIB * KIB;
        settings.ping_interval = Duration::from_secs(3600);
    };
    let engine = open_engine().namespace("slow", quiet(0)).with_settings(small).build().unwrap();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(&engine).await;
        for name in ["slow:a", "slow:b"] {
            client.subscribe(name);
            client.next().await;
        }
        client.set_capacity(Some(0));
        clients.push(client);
    }
    // In memory once: a megabyte with everything around it. The lists are each connection's own.
    for n in 0..1_600 {
        for name in ["slow:a", "slow:b"] {
            engine.publish(&topic(name), json(&n.to_string())).await.unwrap();
        }
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_secs(1)).await;
    assert!((1..CLIENTS as u64).contains(&closed(&engine)), "{} were closed", closed(&engine));
}

#[tokio::test(start_paused = true)]
async fn as_many_are_closed_as_it_takes() {
    let engine = engine();
    let clients = stuck(&engine).await;
    // Whoever sits in the same shard shares what waits.
    let _in_the_first = Client::connect(&engine).await;
    let mut twin = Client::connect(&engine).await;
    twin.subscribe("slow:1");
    twin.next().await;
    twin.set_capacity(Some(0));
    for (n, kib) in [(0, 200), (1, 400), (2, 150), (3, 100)] {
        publish(&engine, n, kib).await;
    }
    assert_eq!(closed(&engine), 0, "what two wait for counts once");
    publish(&engine, 3, 200).await;
    assert_eq!(closed(&engine), 2, "only the end of both gives it back");
    let mut outcomes = vec![outcome(twin).await.is_ok()];
    for client in clients {
        outcomes.push(outcome(client).await.is_ok());
    }
    assert_eq!(outcomes, [false, true, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn when_nothing_happens_any_more_the_bound_is_still_looked_at() {
    let engine = engine();
    let clients = stuck(&engine).await;
    for (n, kib) in [(0, 200), (1, 400), (2, 150), (3, 100)] {
        publish(&engine, n, kib).await;
    }
    publish(&engine, 3, 200).await;
    assert_eq!(closed(&engine), 1);
    publish(&engine, 0, 400).await;
    assert_eq!(closed(&engine), 1, "a round has just been made");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(closed(&engine), 2);
    let mut outcomes = Vec::new();
    for client in clients {
        outcomes.push(outcome(client).await.is_ok());
    }
    assert_eq!(outcomes, [false, false, true, true]);
}
