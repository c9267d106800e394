//! Server-sent events as a page and a program meet them: heads, events, ids, refusals.

use std::time::Duration;

use broker::{Broker, Builder, Namespace, Payload, Publish, Route};
use serde_json::json;

use crate::{client::Server, events_client::Events, refusing::guarded};

#[tokio::test]
async fn a_stream_begins_with_retry_and_the_first_id_and_then_goes_on_for_ever() {
    let server = Server::start(with_history()).await;
    let mut events = Events::open(server.addr, "/sse/news", &[]).await;
    for (name, value) in [("content-type", "text/event-stream"), ("cache-control", "no-store"), ("x-accel-buffering", "no")] {
        assert_eq!(events.header(name), Some(value));
    }
    assert_eq!(events.header("content-length"), None);
    let retry = events.block().await.unwrap();
    let retry: u64 = retry.strip_prefix("retry: ").unwrap().trim().parse().unwrap();
    assert!((1_000..3_000).contains(&retry), "{retry}");
    let first = events.first_id().await;
    assert!(first.starts_with("0@"), "a position of an empty history, not {first}");
    publish(&server, "news", json!({"n": 1})).await;
    let event = events.next().await.unwrap();
    assert_eq!((event.kind.as_str(), event.data.as_str()), ("message", r#"{"n":1}"#));
    assert_eq!(event.last_event_id, first.replace("0@", "1@"));
}

#[tokio::test]
async fn not_everybody_comes_back_at_the_same_time() {
    let server = Server::dev().await;
    let mut retries = std::collections::HashSet::new();
    for _ in 0..10 {
        retries.insert(Events::open(server.addr, "/sse/news", &[]).await.block().await.unwrap());
    }
    assert!(retries.len() > 1);
}

#[tokio::test]
async fn what_is_published_after_the_head_arrives() {
    let server = Server::dev().await;
    for n in 0..50 {
        let mut events = Events::open(server.addr, "/sse?topic=news&topic=other", &[]).await;
        publish(&server, if n % 2 == 0 { "news" } else { "other" }, json!(n)).await;
        assert_eq!(events.data().await, n.to_string());
    }
}

#[tokio::test]
async fn every_payload_survives() {
    let server = Server::dev().await;
    let mut raw = Events::open(server.addr, "/sse/news", &[]).await;
    let mut envelope = Events::open(server.addr, "/sse/news?format=envelope", &[]).await;
    for text in ["hello", "", " one space", "two\nlines", "ends\n", "\n\nbegins", "colon: x", "data: y", "ünï", "\u{0}"] {
        server.broker.publish(&"news".parse().unwrap(), Publish::new(Payload::text(text))).await.unwrap();
        assert_eq!(raw.data().await, text, "{text:?}");
        assert_eq!(envelope.publication().await["data"], text, "{text:?}");
    }
    // The format knows no carriage return.
    for text in ["a\r\nb", "\r", "a\rb\n"] {
        server.broker.publish(&"news".parse().unwrap(), Publish::new(Payload::text(text))).await.unwrap();
        let event = raw.next().await.unwrap();
        assert_eq!((event.kind.as_str(), &event.json()["broker"], &event.json()["data"]), ("message", &json!("publication"), &json!(text)));
        assert_eq!(envelope.publication().await["data"], text);
    }
    server.broker.publish(&"news".parse().unwrap(), Publish::new(Payload::json("{\r\n \"a\": 1,\n\"b\":\r2}"))).await.unwrap();
    assert_eq!(raw.next().await.unwrap().json(), json!({"a": 1, "b": 2}));
    assert_eq!(envelope.publication().await["data"], json!({"a": 1, "b": 2}));
    server.broker.publish(&"news".parse().unwrap(), Publish::new(Payload::binary(&b"\0\xff\r\n"[..]))).await.unwrap();
    for events in [&mut raw, &mut envelope] {
        assert_eq!(events.publication().await["b64data"], "AP8NCg==");
    }
}

#[tokio::test]
async fn the_envelope_names_topic_position_and_time() {
    let server = Server::start(with_history()).await;
    let mut events = Events::open(server.addr, "/sse/news?format=envelope", &[]).await;
    let connected = events.notice().await;
    assert!(connected["session"].is_string(), "{connected}");
    assert_eq!(events.notice().await["topic"], "news");
    publish(&server, "news", json!(1)).await;
    let publication = events.publication().await;
    assert_eq!((&publication["broker"], &publication["topic"]), (&json!("publication"), &json!("news")));
    assert_eq!(publication["position"], events.last_event_id.as_str());
    assert!(publication["time"].is_u64());
}

#[tokio::test]
async fn refusals_are_statuses_that_say_why() {
    let server = Server::start(guarded()).await;
    for (path, status, word) in [
        ("/sse/news", 401, "unauthorized"),
        ("/sse/news?token=old", 401, "token_expired"),
        ("/sse/secret?token=kim", 403, "permission_denied"),
        ("/sse/news?token=kim&topic=secret", 403, "permission_denied"),
        ("/sse/nowhere:1?token=kim", 404, "unknown_topic"),
        ("/sse/a%20b?token=kim", 400, "bad_request"),
        ("/sse/news?token=kim&format=xml", 400, "bad_request"),
        ("/sse/news?token=kim&since=42", 400, "bad_request"),
        ("/sse/news?token=kim&since=1.AAAA", 400, "bad_request"),
        ("/sse?token=kim&topic=news&topic=other&since=1@x", 400, "bad_request"),
        ("/sse?token=kim", 400, "bad_request"),
        ("/sse/?token=kim", 400, "bad_request"),
        ("/sse/a/b?token=kim", 404, "unknown_topic"),
        ("/ssse/news?token=kim", 404, "unknown_topic"),
    ] {
        let (found, head, body) = Events::refused(server.addr, path, &[]).await;
        assert_eq!((found, body["error"]["error"].as_str()), (status, Some(word)), "{path}: {body}");
        assert!(head.contains("content-type: application/json"), "{head}");
    }
    let (_, _, body) = Events::refused(server.addr, "/sse?token=kim", &[]).await;
    assert!(body["error"]["hint"].as_str().unwrap().contains("/sse/{topic}"), "{body}");
    let (_, _, body) = Events::refused(server.addr, "/sse/a/b?token=kim", &[]).await;
    assert_eq!(body["error"]["hint"], "did you mean /sse/a%2Fb?");
    let (_, _, body) = Events::refused(server.addr, "/ses/news?token=kim", &[]).await;
    assert!(body["error"]["hint"].as_str().unwrap().contains("did you mean /"), "{body}");
}

#[tokio::test]
async fn other_methods_are_told_which_is_right() {
    let server = Server::dev().await;
    for method in ["HEAD", "POST", "PUT", "DELETE"] {
        let answer = server.exchange(format!("{method} /sse/news HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, OPTIONS"), "{answer}");
    }
    let upgrade =
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = server.exchange(format!("GET /sse/news HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("use /ws"), "{answer}");
}

#[tokio::test]
async fn pages_of_allowed_origins_read_everything_and_foreign_ones_nothing() {
    let server = Server::beyond_loopback(guarded().allow_origin("https://app.test")).await;
    let origin = [("Origin", "https://app.test")];
    let events = Events::open(server.addr, "/sse/news?token=kim", &origin).await;
    assert_eq!(events.header("access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(events.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(events.header("vary"), Some("origin"));
    let (status, head, body) = Events::refused(server.addr, "/sse/secret?token=kim", &origin).await;
    assert_eq!((status, &body["error"]["error"]), (403, &json!("permission_denied")));
    assert!(head.contains("access-control-allow-origin: https://app.test"), "a script can read why: {head}");
    let (status, head, body) = Events::refused(server.addr, "/sse/news?token=kim", &[("Origin", "https://evil.test")]).await;
    assert_eq!((status, body), (403, json!(null)));
    assert!(!head.contains("access-control"), "{head}");
    let preflight = "OPTIONS /sse/news HTTP/1.1\r\nhost: x\r\norigin: https://app.test\r\naccess-control-request-method: GET\r\nconnection: close\r\n\r\n";
    let answer = server.exchange(preflight.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.contains("Authorization, Cache-Control, Last-Event-ID"), "{answer}");
}

#[tokio::test]
async fn tokens_come_every_way_and_stay_out_of_the_query_that_hooks_see() {
    let server = Server::start(guarded()).await;
    let ways: [(&str, &[(&str, &str)]); 4] = [
        ("/sse/news?token=kim", &[]),
        ("/sse/news?%74oken=kim", &[]),
        ("/sse/news", &[("Authorization", "Bearer kim")]),
        ("/sse/news", &[("Cookie", "broker_token=kim")]),
    ];
    for (path, headers) in ways {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut events = Events::open(server.addr, &format!("{path}{separator}format=envelope"), headers).await;
        assert_eq!(events.notice().await["user"], "kim", "{path} {headers:?}");
    }
}

#[tokio::test]
async fn configured_routes_speak_events_where_they_are_asked_for() {
    let server = Server::start(
        Broker::builder()
            .dev()
            .route(Route::new("/ws/spc/product/{id}").topic("spc:product.{id}"))
            .route(Route::new("/sse/mine"))
            .route(Route::new("/sse/board").topic("board")),
    )
    .await;
    let mut events = Events::open(server.addr, "/ws/spc/product/7/?format=envelope", &[]).await;
    assert_eq!(events.notice().await["broker"], "connected");
    assert_eq!(events.notice().await["topic"], "spc:product.7");
    let mut events = Events::open(server.addr, "/sse/board?format=envelope", &[]).await;
    events.notice().await;
    assert_eq!(events.notice().await["topic"], "board");
    // Whatever the server sends to the session.
    Events::open(server.addr, "/sse/mine", &[]).await;
    let answer = server.exchange(b"GET /ws/spc/product/7 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 426 "), "who asks for no events is told of the socket: {answer}");
    let (status, ..) = Events::refused(server.addr, "/ws/news", &[]).await;
    assert_eq!(status, 426);
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_told_when_to_come_back() {
    let limits = broker::WsLimits::default().pending_max(0);
    let broker = Broker::builder().dev().limits(limits).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // A listener without a gate: the service has its own.
    tokio::spawn(broker_ws::serve(listener, broker.service(), std::sync::Arc::new(broker::WsLimits::default()), std::future::pending()));
    let (status, head, body) = Events::refused(addr, "/sse/news", &[]).await;
    assert_eq!((status, &body["error"]["error"]), (503, &json!("unavailable")));
    assert!(head.contains("retry-after: 5"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_filled_with_comments_and_ends_nothing() {
    let server = Server::start(Broker::builder().dev().settings(|settings| settings.ping_interval = Duration::from_secs(3))).await;
    let mut events = Events::open(server.addr, "/sse/news", &[]).await;
    events.first_id().await;
    for _ in 0..20 {
        assert_eq!(events.block().await.as_deref(), Some(":\n\n"));
    }
    publish(&server, "news", json!(1)).await;
    assert_eq!(events.data().await, "1");
}

pub(crate) async fn publish(server: &Server, topic: &str, data: serde_json::Value) {
    let publish = Publish::new(Payload::json(data.to_string()));
    server.broker.publish(&topic.parse().unwrap(), publish).await.unwrap();
}

/// Anyone may listen, and everything is kept.
pub(crate) fn with_history() -> Builder {
    Broker::builder().anonymous().default_namespace(Namespace::open().history(100, Duration::from_secs(600)))
}
