//! Plain WebSockets that come back with the positions of several topics, and of topics that the server chooses.

use std::time::Duration;

use broker::{Broker, Builder, Identity, Namespace, Verb};
use serde_json::{Value, json};

use crate::{
    client::{Client, Server, refused},
    events::{publish, with_history},
    events_client::Events,
};

/// Kim is a nurse, has a topic of her own, and reads the news.
fn hospital() -> Builder {
    let kept = || Namespace::default().history(100, Duration::from_secs(600));
    Broker::builder()
        .on_connect(|_| async { Ok(Identity::user("kim").group("nurses")) })
        .settings(|settings| settings.user_topics = true)
        .default_namespace(kept().allow(Verb::Subscribe))
        .namespace("group", kept())
        .namespace("user", kept())
}

/// Frames up to the first publication of `last`, but `connected`: topic, and position, `recovered` or reason.
async fn told(client: &mut Client, last: &Value) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let frame = client.json().await;
        let topic = frame["topic"].as_str().unwrap_or_default().to_owned();
        match frame["broker"].as_str().unwrap() {
            "connected" | "join" | "leave" => {}
            "subscribed" => told.push(format!("{topic} {}", frame.get("recovered").map_or("begins".to_owned(), Value::to_string))),
            "gap" => told.push(format!("{topic} {}", frame["reason"].as_str().unwrap())),
            "publication" => {
                told.push(format!("{topic} {}", frame["data"]));
                if frame["data"] == *last {
                    return told;
                }
            }
            other => panic!("{other}: {frame}"),
        }
    }
}

/// The positions of a fresh envelope, by topic.
async fn positions(client: &mut Client, count: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while found.len() < count {
        let frame = client.json().await;
        if frame["broker"] == "subscribed" {
            found.push((frame["topic"].as_str().unwrap().to_owned(), frame["position"].as_str().unwrap().to_owned()));
        }
    }
    found
}

fn resuming(positions: &[(String, String)]) -> String {
    positions.iter().map(|(topic, position)| format!("&resume={topic},{position}")).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn topics_that_the_server_chooses_are_resumed_without_a_gap() {
    let server = Server::start(hospital()).await;
    let mut client = server.open("/ws/news?format=envelope").await;
    let places = positions(&mut client, 3).await;
    assert_eq!(places.iter().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>(), ["group:nurses", "user:kim", "news"]);
    drop(client);
    for topic in ["group:nurses", "user:kim", "group:nurses", "news"] {
        publish(&server, topic, json!(topic)).await;
    }
    let mut client = server.open(&format!("/ws/news?format=envelope{}", resuming(&places))).await;
    let expected = [
        "group:nurses true",
        r#"group:nurses "group:nurses""#,
        r#"group:nurses "group:nurses""#,
        "user:kim true",
        r#"user:kim "user:kim""#,
        "news true",
        r#"news "news""#,
    ];
    assert_eq!(told(&mut client, &json!("news")).await, expected);
    // What is live follows what was missed.
    publish(&server, "group:nurses", json!("live")).await;
    assert_eq!(told(&mut client, &json!("live")).await, [r#"group:nurses "live""#]);
}

#[tokio::test]
async fn a_restart_is_told_for_each_of_them_in_both_formats() {
    let server = Server::start(hospital()).await;
    let mut client = server.open("/ws?format=envelope").await;
    let places = positions(&mut client, 2).await;
    let restarted = Server::start(hospital()).await;
    for format in ["envelope", "raw"] {
        let mut client = restarted.open(&format!("/ws?format={format}{}", resuming(&places))).await;
        let mut gaps = Vec::new();
        while gaps.len() < 2 {
            let frame = client.json().await;
            match frame["broker"].as_str().unwrap() {
                "subscribed" => assert_eq!(frame["recovered"], false, "{frame}"),
                "gap" => gaps.push(format!("{} {}", frame["topic"].as_str().unwrap(), frame["reason"].as_str().unwrap())),
                _ => assert_eq!(format, "envelope", "{frame}"),
            }
        }
        assert_eq!(gaps, ["group:nurses epoch", "user:kim epoch"], "{format}");
    }
}

#[tokio::test]
async fn a_raw_socket_gets_what_it_missed_and_no_word_more() {
    let server = Server::start(hospital()).await;
    let mut client = server.open("/ws?format=envelope").await;
    let places = positions(&mut client, 2).await;
    for n in 1..4 {
        publish(&server, "group:nurses", json!(n)).await;
    }
    let mut client = server.open(&format!("/ws?{}", resuming(&places))).await;
    for n in 1..4 {
        assert_eq!(client.text().await, n.to_string());
    }
}

#[tokio::test]
async fn inside_a_tenant_names_are_those_that_the_client_knows() {
    let kept = || Namespace::default().history(100, Duration::from_secs(600));
    let builder = Broker::builder()
        .on_connect(|_| async { Ok(Identity::user("kim").group("nurses").tenant("acme".parse().unwrap())) })
        .namespace("group", kept());
    let server = Server::start(builder).await;
    let mut client = server.open("/ws?format=envelope").await;
    let places = positions(&mut client, 1).await;
    drop(client);
    publish(&server, "group:nurses", json!("nobody's")).await;
    publish(&server, "tenant:acme/group:nurses", json!("acme's")).await;
    let mut client = server.open(&format!("/ws?format=envelope{}", resuming(&places))).await;
    assert_eq!(told(&mut client, &json!("acme's")).await, ["group:nurses true", r#"group:nurses "acme's""#]);
}

#[tokio::test]
async fn several_topics_of_one_url_resume_each_from_its_own_place() {
    let server = Server::start(with_history()).await;
    let mut client = server.open("/ws?topic=a&topic=b&format=envelope").await;
    let mut places = positions(&mut client, 2).await;
    drop(client);
    for n in 1..3 {
        publish(&server, "a", json!(n)).await;
        publish(&server, "b", json!(n + 10)).await;
    }
    // A topic that nobody chooses is nobody's mistake: the server may have changed its mind.
    places.push(("group:nobody".to_owned(), "7@x".to_owned()));
    let mut client = server.open(&format!("/ws?topic=a&topic=b&topic=c&format=envelope{}", resuming(&places))).await;
    publish(&server, "c", json!(20)).await;
    assert_eq!(told(&mut client, &json!(20)).await, ["a true", "a 1", "a 2", "b true", "b 11", "b 12", "c begins", "c 20"]);
}

#[tokio::test]
async fn a_position_that_cannot_be_read_is_a_bad_request_and_a_stream_of_events_has_its_id() {
    let server = Server::start(with_history()).await;
    for query in ["resume=17@x", "resume=a,17", "resume=a,1@x&resume=a,2@x", "topic=a&since=0&resume=a,1@x"] {
        let (status, body) = refused(Client::open(server.addr, &format!("/ws?{query}"), &[]).await);
        assert_eq!((status, body["error"]["error"].as_str()), (400, Some("bad_request")), "{query}");
    }
    let (status, _, body) = Events::refused(server.addr, "/sse/a?resume=a,1@x", &[]).await;
    assert_eq!((status, body["error"]["error"].as_str()), (400, Some("bad_request")));
    assert!(body["error"]["hint"].as_str().unwrap().contains("`since`"), "{body}");
}
