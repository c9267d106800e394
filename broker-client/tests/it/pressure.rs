//! An application that does not read: the socket is held up, then the loss is told.

use std::time::Duration;

use broker_client::{Client, Event, Gap, GapReason, SubscribeConfig};
use serde_json::json;

use crate::{
    fake::{FakeServer, Peer},
    fast, next, publication, soon, subscribed,
};

const QUEUE_MAX: usize = 16;

async fn publish_all(peer: &mut Peer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        peer.publish("t", number, 0).await;
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_loses_nothing() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let mut reader = client.subscribe("t", SubscribeConfig::default().queue_max(QUEUE_MAX)).unwrap();
    let mut peer = server.accept_and_greet().await;
    peer.answer("subscribe", json!({})).await;
    subscribed(&mut reader).await;
    let writing = publish_all(&mut peer, 0..5_000);
    let reading = async {
        for number in 0..5_000_u64 {
            assert_eq!(publication(&mut reader).await.data.read::<u64>().unwrap(), number);
        }
    };
    soon(async { tokio::join!(writing, reading) }).await;
}

#[tokio::test]
async fn a_reader_that_stops_gets_a_gap_with_the_number_of_what_it_missed() {
    let server = FakeServer::start().await;
    let mut config = fast();
    config.stall_timeout = Duration::from_millis(1);
    let client = Client::connect(&server.url(), config).unwrap();
    let mut reader = client.subscribe("t", SubscribeConfig::default().queue_max(QUEUE_MAX)).unwrap();
    let mut peer = server.accept_and_greet().await;
    peer.answer("subscribe", json!({})).await;
    subscribed(&mut reader).await;
    publish_all(&mut peer, 0..1_000).await;
    // An answer that follows them shows that they have been handled, one way or the other.
    let answered = async { tokio::join!(client.publish("t", "1".parse().unwrap()), peer.answer("publish", json!({}))) };
    soon(answered).await.0.unwrap();

    let mut told = 0;
    let gap = loop {
        match next(&mut reader).await {
            Event::Publication(publication) => {
                assert_eq!(publication.data.read::<u64>().unwrap(), told);
                told += 1;
            }
            Event::Gap(gap) => break gap,
            other => panic!("{other:?}"),
        }
    };
    let Gap { reason: GapReason::SlowReader, missed: Some(missed), .. } = gap else { panic!("{gap:?}") };
    assert_eq!(told + missed, 1_000);
    publish_all(&mut peer, 1_000..1_001).await;
    assert_eq!(publication(&mut reader).await.data.read::<u64>().unwrap(), 1_000);
}

#[tokio::test]
async fn an_application_that_asks_while_its_queue_is_full_gets_its_answer() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let mut reader = client.subscribe("t", SubscribeConfig::default().queue_max(QUEUE_MAX)).unwrap();
    let mut peer = server.accept_and_greet().await;
    peer.answer("subscribe", json!({})).await;
    subscribed(&mut reader).await;
    publish_all(&mut peer, 0..QUEUE_MAX as u64 + 4).await;
    let answered = async { tokio::join!(client.publish("t", "1".parse().unwrap()), peer.answer("publish", json!({}))) };
    soon(answered).await.0.unwrap();
    for number in 0..QUEUE_MAX as u64 + 4 {
        assert_eq!(publication(&mut reader).await.data.read::<u64>().unwrap(), number);
    }
}

#[tokio::test]
async fn a_dropped_subscription_with_a_full_queue_holds_up_nobody() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let full = client.subscribe("t", SubscribeConfig::default().queue_max(2)).unwrap();
    let mut other = client.subscribe("u", SubscribeConfig::default()).unwrap();
    let mut peer = server.accept_and_greet().await;
    peer.answer("subscribe", json!({})).await;
    peer.answer("subscribe", json!({})).await;
    subscribed(&mut other).await;
    publish_all(&mut peer, 0..10).await;
    peer.publish("u", 1, 0).await;
    drop(full);
    assert_eq!(publication(&mut other).await.data.as_str(), "1");
}
