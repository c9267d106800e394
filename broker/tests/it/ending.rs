//! How connections and servers end.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use broker::{Broker, CloseReason};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::client::Server;

#[tokio::test]
async fn a_drain_closes_with_3001_and_ends_the_server() {
    let server = Server::dev().await;
    let mut plain = server.open("/ws/news").await;
    let mut centrifuge = server.open("/connection/websocket").await;
    centrifuge.send(r#"{"id":1,"connect":{}}"#).await;
    centrifuge.text().await;
    let closing = async { (plain.close_code().await, centrifuge.close_code().await) };
    let ((), codes) = tokio::join!(server.broker.drain(Duration::from_secs(20)), closing);
    assert_eq!(codes, (3001, 3001));
    server.task.await.unwrap();
    assert!(tokio::net::TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn the_application_is_told_why_a_session_ended() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    let (told, mut reasons) = mpsc::unbounded_channel();
    let server = Server::start(Broker::builder().dev().on_disconnect(move |ended| {
        ENDED.fetch_add(1, Ordering::Relaxed);
        let _ = told.send(ended.reason);
        async {}
    }))
    .await;

    let mut client = server.open("/ws/news").await;
    let frame = CloseFrame { code: CloseCode::Library(4_123), reason: "bye".into() };
    client.send_message(Message::Close(Some(frame))).await.unwrap();
    assert_eq!(client.close_code().await, 4_123, "the close is echoed");
    assert_eq!(reasons.recv().await, Some(CloseReason::ClientLeft { code: Some(4_123) }));

    drop(server.open("/ws/news").await);
    assert!(matches!(reasons.recv().await, Some(CloseReason::TransportBroke(_))));
    assert_eq!(ENDED.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn publishing_works_after_every_connection_is_gone_and_stats_return_to_zero() {
    let server = Server::dev().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(server.open("/ws/news").await);
    }
    assert_eq!(server.broker.stats().connections.value(), 20);
    drop(clients);
    while server.broker.stats().connections.value() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.broker.stats().subscriptions.value(), 0);
    let publish = broker::Publish::new(broker::Payload::json("1"));
    assert!(server.broker.publish(&"news".parse().unwrap(), publish).await.is_ok());
}
