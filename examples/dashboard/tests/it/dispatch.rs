use std::{sync::atomic::Ordering, time::Duration};

use dashboard::{
    dispatch::Database,
    live::{ALERTS_PATH, STATISTICS_PATH},
};
use serde_json::Value;
use tokio_tungstenite::tungstenite;

use crate::parts::{Dashboard, soon};

#[tokio::test]
async fn the_first_frame_is_the_data_and_more_follow() {
    let dashboard = Dashboard::start().await;
    let mut viewer = dashboard.view(STATISTICS_PATH).await;
    let first = viewer.frame().await;
    assert_eq!((&first["total_orders"], &first["pending_orders"]), (&Value::from(1), &Value::from(0)), "{first}");
    let second = viewer.frame().await;
    assert!(second["total_orders"].as_u64() >= Some(1) && second["pace_ms"] == 5000, "{second}");
}

#[tokio::test]
async fn the_first_frame_of_the_alerts_is_those_that_were() {
    let dashboard = Dashboard::start().await;
    let first = dashboard.view(ALERTS_PATH).await.frame().await;
    assert_eq!((first["type"].as_str(), first["alerts"].is_array()), (Some("alerts"), true), "{first}");
}

#[tokio::test]
async fn three_hundred_viewers_cost_a_few_readings_and_not_one_each() {
    let dashboard = Dashboard::start().await;
    let viewers: Vec<_> = (0..300).map(|_| async { dashboard.view(STATISTICS_PATH).await.frame().await }).collect();
    let frames = soon(futures_util::future::join_all(viewers)).await;
    assert!(frames.iter().all(|frame| frame["total_orders"].is_number()));
    // A slow machine may need more than a second for them all; a reading each would be three hundred.
    let (readings, calls) = (dashboard.board.readings(), dashboard.broker.stats().snapshot_calls.value());
    assert!(readings <= 10 && calls <= 10, "{readings} readings, {calls} calls");
}

#[tokio::test]
async fn a_failing_database_closes_no_socket_and_its_numbers_are_called_stale() {
    let dashboard = Dashboard::start().await;
    let mut viewer = dashboard.view(STATISTICS_PATH).await;
    assert_eq!(viewer.frame().await["stale"], Value::Null);
    dashboard.counter.fails.store(true, Ordering::Relaxed);
    let is_stale = |frame: &Value| !frame["stale"].is_null();
    let stale = viewer.frame_where(is_stale).await;
    assert!(stale["total_orders"].is_number() && stale["stale"]["error"] == "a call of the dispatch database broke", "{stale}");
    let of_another = dashboard.view(STATISTICS_PATH).await.frame_where(is_stale).await;
    assert_eq!(of_another["stale"], stale["stale"]);
    dashboard.counter.fails.store(false, Ordering::Relaxed);
    viewer.frame_where(|frame| frame["stale"].is_null()).await;
}

#[tokio::test]
async fn reading_stops_soon_after_the_last_viewer_leaves() {
    let dashboard = Dashboard::start().await;
    let mut viewer = dashboard.view(STATISTICS_PATH).await;
    viewer.frame().await;
    let mut watched = dashboard.board.watched();
    soon(watched.wait_for(|watched| *watched)).await.unwrap();
    drop(viewer);
    soon(watched.wait_for(|watched| !*watched)).await.unwrap();
}

#[tokio::test]
async fn a_wrong_address_is_told_the_right_one() {
    let dashboard = Dashboard::start().await;
    for wrong in ["/api/v1/ws/ws/dashboard", "/api/v1/dispatch/ws/dashboard"] {
        let Err(tungstenite::Error::Http(answer)) = dashboard.connect(wrong, None).await.map(drop) else { panic!("{wrong} is let in") };
        let said = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
        assert!(said.contains(&format!("did you mean {STATISTICS_PATH}?")), "{said}");
    }
}

#[tokio::test]
async fn every_order_is_in_one_state_and_every_open_one_in_a_region() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    for _ in 0..100 {
        database.step().await.unwrap();
    }
    let counted = database.statistics().unwrap();
    let open = counted.pending_orders + counted.assigned_orders + counted.in_transit_orders;
    assert_eq!(open + counted.delivered_orders, counted.total_orders, "{counted:?}");
    assert_eq!(counted.regions.iter().map(|region| region.pending + region.moving).sum::<i64>(), open, "{counted:?}");
}

#[tokio::test]
async fn one_node_at_a_time_has_a_lease_and_another_when_it_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Database::open(folder.path()).unwrap(), Database::open(folder.path()).unwrap());
    let (long, over) = (Duration::from_secs(60), Duration::ZERO);
    assert!(one.lease("bridge", "n1", long).await.unwrap());
    assert!(!other.lease("bridge", "n2", long).await.unwrap());
    assert!(one.lease("bridge", "n1", over).await.unwrap(), "who has it may have it again");
    soon(async { while !other.lease("bridge", "n2", long).await.unwrap() {} }).await;
    assert!(!one.lease("bridge", "n1", long).await.unwrap());
}
