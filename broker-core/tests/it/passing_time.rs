//! Time that passes while the clock of the wall stands still: everything but the ends of credentials counts it. Pings, rates, tickets and timeouts are
//! tested the same way, each in its own file.

use std::time::{Duration, SystemTime};

use broker_core::{Engine, HistoryQuery, Position};
use tokio::time::sleep;

use crate::delivering::{json, open_engine, quiet, topic};

const SECOND: Duration = Duration::from_secs(1);

async fn offsets(engine: &Engine, name: &str) -> Vec<u64> {
    let page = engine.history(&topic(name), HistoryQuery { limit: 100, ..HistoryQuery::default() }).await.unwrap();
    page.publications.iter().filter_map(|publication| publication.position).map(|at| at.offset).collect()
}

async fn retried(engine: &Engine) -> Position {
    engine.publish(&topic("kept:a"), json("1").idempotency_key("k")).await.unwrap().position.unwrap()
}

#[tokio::test(start_paused = true)]
async fn retries_and_what_is_kept_count_time_that_passes() {
    let wall = SystemTime::now();
    let mut kept = quiet(100);
    kept.history_ttl = 900 * SECOND;
    let engine = open_engine().namespace("kept", kept).build().unwrap();

    let first = retried(&engine).await;
    engine.publish(&topic("kept:a"), json("2").ttl(10 * SECOND)).await.unwrap();
    sleep(9 * SECOND).await;
    assert_eq!(offsets(&engine, "kept:a").await, [1, 2]);
    sleep(2 * SECOND).await;
    assert_eq!(offsets(&engine, "kept:a").await, [1], "its ttl is over");

    sleep(281 * SECOND).await;
    assert_eq!(retried(&engine).await, first, "less than five minutes have passed");
    sleep(10 * SECOND).await;
    assert_eq!(retried(&engine).await.offset, first.offset + 2, "more than five minutes have passed");
    sleep(901 * SECOND).await;
    assert_eq!(offsets(&engine, "kept:a").await, [0; 0], "the history's ttl is over");
    assert!(wall.elapsed().unwrap() < 60 * SECOND, "the clock of the wall has stood still");
}
