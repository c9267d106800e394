//! Publishing and listening as a terminal program does.

use broker_client::{
    Client,
    terminal::{Heard, LineFormat, Listen, ListenError, PublishError, listen, publish_lines},
};
use serde_json::json;

use crate::{fake::FakeServer, fast, soon};

fn news(format: LineFormat, count: u64) -> Listen {
    Listen { topics: vec!["news".into()], since: None, format, count: Some(count) }
}

#[tokio::test]
async fn listening_goes_on_over_a_cut_and_ends_after_the_wanted_number() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let (mut out, mut status) = (Vec::new(), Vec::new());
    let serving = async {
        let mut peer = server.accept_and_greet().await;
        peer.answer("subscribe", json!({"recoverable": true, "epoch": "e", "offset": 0})).await;
        peer.publish("news", json!({"n": 1}), 1).await;
        drop(peer);
        let mut peer = server.accept_and_greet().await;
        let missed = json!([{"data": "two", "offset": 2}]);
        peer.answer("subscribe", json!({"recoverable": true, "epoch": "e", "recovered": true, "publications": missed})).await;
        peer.publish("news", 3, 3).await;
        peer.publish("news", 4, 4).await;
        peer
    };
    let listening = listen(&client, news(LineFormat::Envelope, 3), &mut out, &mut status, std::future::pending());
    let (heard, _peer) = soon(async { tokio::join!(listening, serving) }).await;
    assert_eq!(heard.unwrap(), Heard::Enough);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"broker\":\"publication\",\"topic\":\"news\",\"position\":\"1@e\",\"data\":{\"n\":1}}\n\
         {\"broker\":\"publication\",\"topic\":\"news\",\"position\":\"2@e\",\"data\":\"two\"}\n\
         {\"broker\":\"publication\",\"topic\":\"news\",\"position\":\"3@e\",\"data\":3}\n"
    );
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("news: subscribed at 0@e\n") && status.contains("news: subscribed at 2@e, nothing missed\n"), "{status}");
}

#[tokio::test]
async fn a_refused_topic_is_told_and_ends_listening() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let mut status = Vec::new();
    let serving = async {
        let mut peer = server.accept_and_greet().await;
        let command = peer.command().await;
        peer.send(json!({"id": command["id"], "error": {"code": 103, "message": "permission denied"}})).await;
        peer
    };
    let listening = listen(&client, news(LineFormat::Raw, 1), tokio::io::sink(), &mut status, std::future::pending());
    let (heard, _peer) = soon(async { tokio::join!(listening, serving) }).await;
    assert!(matches!(heard, Err(ListenError::NothingLeft)));
    assert!(String::from_utf8(status).unwrap().ends_with("news: refused: permission denied (103)\n"));
}

#[tokio::test]
async fn lines_are_published_in_order_and_a_refused_one_is_named() {
    let server = FakeServer::start().await;
    let client = Client::connect(&server.url(), fast()).unwrap();
    let input: String = (0..200).flat_map(|number| [number.to_string(), "\n\n".to_owned()]).collect();
    let serving = async {
        let mut peer = server.accept_and_greet().await;
        for number in 0..200 {
            assert_eq!(peer.answer("publish", json!({})).await["data"], number);
        }
        for text in ["ok", "bad"] {
            let command = peer.command().await;
            assert_eq!(command["publish"]["data"], text);
            let answer = if text == "ok" { json!({"publish": {}}) } else { json!({"error": {"code": 107, "message": "bad request"}}) };
            let mut answer = answer;
            answer["id"] = command["id"].clone();
            peer.send(answer).await;
        }
        peer
    };
    let publishing = async {
        let published = publish_lines(&client, "t", input.as_bytes()).await.unwrap();
        let refused = publish_lines(&client, "t", &b"ok\nbad\n"[..]).await;
        (published, refused)
    };
    let ((published, refused), _peer) = soon(async { tokio::join!(publishing, serving) }).await;
    assert_eq!(published, 200);
    assert!(matches!(refused, Err(PublishError::Line { line: 2, .. })), "{refused:?}");
}
