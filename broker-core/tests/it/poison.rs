//! A codec that panics costs its own clients one publication, and nobody else anything.

use broker_core::{
    CloseReason,
    testing::{Client, LineProtocol},
};

use crate::delivering::{json, open_engine, topic};

async fn subscriber(engine: &broker_core::Engine, protocol: LineProtocol) -> Client {
    let mut client = Client::connect_as(engine, protocol, None).await;
    client.subscribe("quiet:a");
    client.next().await;
    client
}

#[tokio::test]
async fn a_publication_that_cannot_be_encoded_is_a_gap_for_those_clients_only() {
    let engine = open_engine().build().unwrap();
    let mut healthy = subscriber(&engine, LineProtocol::default()).await;
    let mut poisoned = subscriber(&engine, LineProtocol { poison: Some("2"), ..LineProtocol::default() }).await;
    for n in 1..=3 {
        engine.publish(&topic("quiet:a"), json(&n.to_string())).await.unwrap();
    }
    assert_eq!(healthy.take(3).await, ["quiet:a 1:1", "quiet:a 2:2", "quiet:a 3:3"]);
    assert_eq!(poisoned.take(3).await, ["quiet:a 1:1", "gap quiet:a 2-2 Unreadable", "quiet:a 3:3"]);
    assert_eq!(engine.stats().panics.value(), 1);
}

#[tokio::test]
async fn where_a_gap_ends_the_subscription_it_does_so_after_an_unreadable_publication() {
    let engine = open_engine().build().unwrap();
    let protocol = LineProtocol { gap_ends: true, poison: Some("2"), ..LineProtocol::default() };
    let mut poisoned = subscriber(&engine, protocol).await;
    engine.publish(&topic("quiet:a"), json("2")).await.unwrap();
    assert_eq!(poisoned.next().await, "gap quiet:a 1-1 Unreadable");
    engine.publish(&topic("quiet:a"), json("3")).await.unwrap();
    poisoned.subscribe("quiet:a");
    assert_eq!(poisoned.next().await, "subscribed quiet:a at 2");
}

#[tokio::test]
async fn a_close_that_cannot_be_encoded_closes_all_the_same() {
    let engine = open_engine().build().unwrap();
    let mut poisoned = subscriber(&engine, LineProtocol { poison: Some("close"), ..LineProtocol::default() }).await;
    poisoned.connection().close(CloseReason::ForceDisconnect);
    assert_eq!(poisoned.next().await, "closed ");
    let mut healthy = subscriber(&engine, LineProtocol::default()).await;
    engine.publish(&topic("quiet:a"), json("1")).await.unwrap();
    assert_eq!(healthy.next().await, "quiet:a 1:1");
}
