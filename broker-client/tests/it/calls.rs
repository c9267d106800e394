//! Commands and their answers.

use broker_client::{CallError, Client, HistoryQuery, Payload, Since};
use serde_json::json;

use crate::{
    fake::{FakeServer, Peer},
    fast, soon,
};

async fn connected() -> (FakeServer, Client, Peer) {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let peer = server.accept_and_greet().await;
    (server, client, peer)
}

fn text(json: &str) -> Payload {
    json.parse().unwrap()
}

#[tokio::test]
async fn every_call_gets_its_own_answer_also_out_of_order() {
    let (_server, client, mut peer) = connected().await;
    let asking = async { tokio::join!(client.call("a", text("1")), client.call("b", text("2"))) };
    let answering = async {
        let (first, second) = (peer.command().await, peer.command().await);
        for command in [second, first] {
            let data = json!({"was": command["rpc"]["method"], "data": command["rpc"]["data"]});
            peer.send(json!({"id": command["id"], "rpc": {"data": data}})).await;
        }
    };
    let ((a, b), ()) = soon(async { tokio::join!(asking, answering) }).await;
    assert_eq!(a.unwrap().as_str(), r#"{"data":1,"was":"a"}"#);
    assert_eq!(b.unwrap().as_str(), r#"{"data":2,"was":"b"}"#);
}

#[tokio::test]
async fn history_and_presence_are_read() {
    let (_server, client, mut peer) = connected().await;
    let query = HistoryQuery::oldest(2).since(Since::Position("3@e".parse().unwrap()));
    let answering = async {
        let result = json!({"epoch": "e", "offset": 9, "publications": [
            {"data": {"n": 4}, "offset": 4, "tags": {"k": "v"}, "info": {"user": "u", "client": "c", "conn_info": {"x": 1}}},
        ]});
        let asked = peer.answer("history", result).await;
        assert_eq!(asked, json!({"channel": "t", "limit": 2, "since": {"offset": 3, "epoch": "e"}}));
        peer.answer("presence", json!({"presence": {"c": {"user": "u", "client": "c"}}})).await;
        peer.answer("presence_stats", json!({"num_clients": 2, "num_users": 1})).await;
    };
    let asking = async {
        let page = client.history("t", query).await.unwrap();
        assert_eq!(page.position.to_string(), "9@e");
        let publication = &page.publications[0];
        assert_eq!(publication.position.as_ref().unwrap().to_string(), "4@e");
        assert_eq!(publication.tags["k"], "v");
        assert_eq!(publication.publisher.as_ref().unwrap().info.as_deref(), Some(r#"{"x":1}"#));
        assert_eq!(&*client.presence("t").await.unwrap()[0].session, "c");
        let stats = client.presence_stats("t").await.unwrap();
        assert_eq!((stats.sessions, stats.users), (2, 1));
    };
    soon(async { tokio::join!(asking, answering) }).await;
}

#[tokio::test]
async fn a_publish_that_is_cut_off_says_so_and_is_not_sent_again() {
    let (server, client, mut peer) = connected().await;
    let publishing = tokio::spawn({
        let client = client.clone();
        async move { client.publish("t", text("1")).await }
    });
    peer.command().await;
    drop(peer);
    let error = soon(publishing).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Cut(_)) && error.is_retryable() && error.may_have_happened(), "{error:?}");

    let mut peer = server.accept_and_greet().await;
    let retrying = async { client.publish("t", text("2")).await };
    let answering = async { peer.answer("publish", json!({})).await };
    let (published, request) = soon(async { tokio::join!(retrying, answering) }).await;
    published.unwrap();
    assert_eq!(request["data"], 2);
}

#[tokio::test]
async fn a_refusal_is_typed_and_a_message_needs_no_answer() {
    let (_server, client, mut peer) = connected().await;
    soon(client.send(text(r#"{"type":"hello"}"#))).await.unwrap();
    assert_eq!(peer.command().await, json!({"send": {"data": {"type": "hello"}}}));
    let answering = async {
        let command = peer.command().await;
        peer.send(json!({"id": command["id"], "error": {"code": 103, "message": "permission denied"}})).await;
    };
    let (refused, ()) = soon(async { tokio::join!(client.publish("t", text("1")), answering) }).await;
    let Err(CallError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.code, refusal.temporary), (103, false));
}

#[tokio::test]
async fn close_writes_what_was_sent_and_says_goodbye() {
    let (_server, client, mut peer) = connected().await;
    soon(client.send(text("1"))).await.unwrap();
    let ((), code) = soon(async { tokio::join!(client.close(), peer.end()) }).await;
    assert_eq!(code, Some(1000));
    assert!(matches!(soon(client.publish("t", text("1"))).await, Err(CallError::Closed(_))));
}
