//! Cuts, restarts, refusals: the client comes back, and says what it missed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use broker_client::{Client, ClientConfig, Closed, Event, Gap, GapReason, State, SubscribeConfig, Tokens, Unsubscribed};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{fake::FakeServer, fast, next, publication, soon, subscribed};

#[tokio::test]
async fn a_cut_is_recovered_without_loss_or_doubles() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let mut news = client.subscribe("news", SubscribeConfig::default()).unwrap();

    let mut peer = server.accept_and_greet().await;
    peer.answer("subscribe", json!({"recoverable": true, "epoch": "e", "offset": 0})).await;
    peer.publish("news", "a", 1).await;
    assert_eq!(subscribed(&mut news).await.recovered, None);
    assert_eq!(publication(&mut news).await.data.as_str(), r#""a""#);
    drop(peer);

    let mut peer = server.accept_and_greet().await;
    let missed = json!([{"data": "b", "offset": 2}, {"data": "c", "offset": 3}]);
    let result = json!({"recoverable": true, "epoch": "e", "offset": 1, "recovered": true, "publications": missed});
    let request = peer.answer("subscribe", result).await;
    assert_eq!((&request["recover"], &request["offset"], &request["epoch"]), (&json!(true), &json!(1), &json!("e")));
    peer.publish("news", "c", 3).await;
    peer.publish("news", "d", 4).await;

    assert_eq!(subscribed(&mut news).await.recovered, Some(true));
    for expected in ["b", "c", "d"] {
        assert_eq!(publication(&mut news).await.data.read::<String>().unwrap(), expected);
    }
    assert_eq!(news.position().map(ToString::to_string).as_deref(), Some("4@e"));
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again_and_a_new_epoch_is_a_gap() {
    let server = FakeServer::start().await;
    let address = server.address();
    let client = Client::connect(&server.url(), fast()).unwrap();
    let mut news = client.subscribe("news", SubscribeConfig::default()).unwrap();
    let mut peer = server.accept_and_greet().await;
    peer.answer("subscribe", json!({"recoverable": true, "epoch": "e", "offset": 9})).await;
    subscribed(&mut news).await;
    let mut states = client.states();
    drop((peer, server));
    let refused = soon(async {
        loop {
            match states.next().await.expect("the client goes on") {
                State::Reconnecting { why, .. } if why.contains("refused") => return why,
                _ => {}
            }
        }
    });
    assert!(refused.await.contains(&address.to_string()));

    let server = FakeServer::start_at(address).await;
    let mut peer = server.accept_and_greet().await;
    peer.answer("subscribe", json!({"recoverable": true, "epoch": "f", "offset": 2})).await;
    assert_eq!(subscribed(&mut news).await.recovered, Some(false));
    assert!(matches!(next(&mut news).await, Event::Gap(Gap { reason: GapReason::NotRecovered, .. })));
    soon(client.live()).await.unwrap();
}

#[tokio::test]
async fn a_final_close_code_ends_client_and_subscriptions() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let mut news = client.subscribe("news", SubscribeConfig::default()).unwrap();
    let mut peer = server.accept_and_greet().await;
    peer.command().await;
    peer.close(3503, "force disconnect").await;
    let Event::Unsubscribed(Unsubscribed::Closed(Closed { code, reason, .. })) = next(&mut news).await else { panic!("not closed") };
    assert_eq!((code, &*reason), (3503, "force disconnect"));
    assert_eq!(soon(news.next()).await, None);
    assert!(matches!(client.state(), State::Closed(_)));
    assert!(client.subscribe("news", SubscribeConfig::default()).is_err());
    assert!(soon(client.publish("news", "1".parse().unwrap())).await.is_err());
}

#[tokio::test]
async fn a_refused_token_is_replaced_by_a_fresh_one() {
    let server = FakeServer::start().await;
    let asked = Arc::new(AtomicU32::new(0));
    let tokens = Tokens::fetch(move || {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        async move { Ok(format!("token-{number}")) }
    });
    let client = Client::connect(&server.url(), fast().tokens(tokens)).unwrap();
    for number in 0..3 {
        let mut peer = server.accept().await;
        assert_eq!(peer.command().await["connect"]["token"], format!("token-{number}"));
        peer.close(3500, "invalid token").await;
    }
    let mut peer = server.accept().await;
    peer.greet(json!({"client": "s"})).await;
    soon(client.live()).await.unwrap();
}

#[tokio::test]
async fn a_token_of_another_user_makes_the_client_come_back_as_that_user() {
    let server = FakeServer::start().await;
    let asked = Arc::new(AtomicU32::new(0));
    let tokens = Tokens::fetch(move || {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        async move { Ok(format!("token-{number}")) }
    });
    let client = Client::connect(&server.url(), fast().tokens(tokens)).unwrap();
    let mut news = client.subscribe("news", SubscribeConfig::default()).unwrap();
    let mut peer = server.accept().await;
    peer.greet(json!({"client": "s1", "expires": true, "ttl": 0})).await;
    peer.answer("subscribe", json!({"recoverable": true, "epoch": "e", "offset": 4})).await;
    subscribed(&mut news).await;
    let refresh = peer.command().await;
    assert_eq!(refresh["refresh"]["token"], "token-1");
    peer.close(3014, "state invalidated").await;

    let mut peer = server.accept().await;
    let connect = peer.command().await;
    assert_eq!(connect["connect"]["token"], "token-2");
    peer.send(json!({"id": connect["id"], "connect": {"client": "s2"}})).await;
    let request = peer.answer("subscribe", json!({"recoverable": true, "epoch": "e", "offset": 9})).await;
    assert_eq!(request.get("recover"), None, "{request}");
    assert_eq!(subscribed(&mut news).await.recovered, None);
    assert!(matches!(next(&mut news).await, Event::Gap(Gap { reason: GapReason::NoHistory, .. })));
}

#[tokio::test]
async fn the_reason_of_a_refused_upgrade_is_told() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let mut states = client.states();
    let mut raw = server.accept_raw().await;
    let mut head = [0; 1024];
    let _ = raw.read(&mut head).await.unwrap();
    let body = "did you mean /connection/websocket?";
    let answer = format!("HTTP/1.1 404 Not Found\r\nretry-after: 30\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    raw.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(soon(states.next()).await, Some(State::Connecting));
    let Some(State::Reconnecting { why, next_in }) = soon(states.next()).await else { panic!("not reconnecting") };
    assert!(why.contains("404 Not Found") && why.contains("did you mean"), "{why}");
    assert_eq!(next_in, Duration::from_secs(30));
}

#[tokio::test]
async fn a_server_that_never_finishes_the_upgrade_is_given_up() {
    let server = FakeServer::start().await;
    let mut config = fast();
    config.dial_timeout = Duration::from_millis(20);
    let client = Client::connect(&server.url(), config).unwrap();
    let _deaf = server.accept_raw().await;
    let mut peer = server.accept().await;
    // The second attempt may be given up as well before this server has answered it.
    while !matches!(client.state(), State::Live { .. }) {
        let greeted = tokio::time::timeout(Duration::from_secs(1), peer.greet(json!({"client": "s"}))).await;
        if greeted.is_ok() && tokio::time::timeout(Duration::from_secs(1), client.live()).await.is_ok() {
            break;
        }
        peer = server.accept().await;
    }
}

#[tokio::test]
async fn dropping_a_subscription_unsubscribes_and_the_topic_is_free_again() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let mut news = client.subscribe("news", SubscribeConfig::default()).unwrap();
    assert!(client.subscribe("news", SubscribeConfig::default()).is_err());
    let mut peer = server.accept_and_greet().await;
    peer.answer("subscribe", json!({})).await;
    subscribed(&mut news).await;
    drop(news);
    let mut news = client.subscribe("news", SubscribeConfig::default()).unwrap();
    peer.answer("unsubscribe", json!({})).await;
    peer.answer("subscribe", json!({"data": {"state": 1}})).await;
    assert_eq!(subscribed(&mut news).await.snapshot.unwrap().as_str(), r#"{"state":1}"#);
}

#[tokio::test]
async fn the_last_handle_closes_the_connection_politely() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), ClientConfig::default()).unwrap();
    let news = client.subscribe("news", SubscribeConfig::default()).unwrap();
    let mut peer = server.accept_and_greet().await;
    soon(client.live()).await.unwrap();
    drop(client);
    peer.answer("subscribe", json!({})).await;
    drop(news);
    assert_eq!(peer.end().await, Some(1000));
}
