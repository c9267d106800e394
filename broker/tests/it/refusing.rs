//! How the opening of a connection is refused: over HTTP to programs, over the socket to pages, and without a word to foreign pages.

use std::time::Duration;

use broker::{Broker, Builder, Identity, Namespace, Refusal, Route, Verb};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::{Client, Server, refused},
    events_client::Events,
};

#[tokio::test]
async fn a_program_reads_the_refusal_in_the_answer() {
    let server = Server::start(guarded()).await;
    check(&server, "/ws/news", &[], 401, "unauthorized").await;
    check(&server, "/ws/news?token=old", &[], 401, "token_expired").await;
    check(&server, "/ws/secret?token=kim", &[], 403, "permission_denied").await;
    check(&server, "/ws/nowhere:1?token=kim", &[], 404, "unknown_topic").await;
    check(&server, "/ws/a%20b?token=kim", &[], 400, "bad_request").await;
    check(&server, "/ws/news?token=kim&format=xml", &[], 400, "bad_request").await;
    check(&server, "/ws/news?token=kim&topic=secret", &[], 403, "permission_denied").await;
    check(&server, "/wss/news", &[], 404, "unknown_topic").await;
}

#[tokio::test]
async fn a_page_reads_the_refusal_over_the_socket() {
    let server = Server::start(guarded().allow_origin("https://app.test")).await;
    for (path, word, code) in [
        ("/ws/news", "unauthorized", 3500),
        ("/ws/news?token=old", "token_expired", 3005),
        ("/ws/secret?token=kim", "permission_denied", 3507),
        ("/ws/a%20b", "bad_request", 3501),
        ("/nowhere", "unknown_topic", 3507),
    ] {
        let mut client = Client::open(server.addr, path, &[("origin", "https://app.test")]).await.unwrap();
        let frame = client.json().await;
        assert_eq!((frame["broker"].as_str(), frame["error"].as_str()), (Some("error"), Some(word)), "{path}: {frame}");
        assert_eq!(client.close_code().await, code, "{path}");
    }
}

#[tokio::test]
async fn a_foreign_page_is_told_nothing_and_pages_of_the_same_host_are_let_in() {
    let server = Server::start(Broker::builder().anonymous().default_namespace(Namespace::open()).allow_origin("https://app.test")).await;
    for origin in ["https://evil.test", "null", "https://app.test.evil", "http://app.test"] {
        let (status, body) = refused(Client::open(server.addr, "/ws/news", &[("origin", origin)]).await);
        assert_eq!((status, body), (403, Value::Null), "{origin}");
    }
    let own = format!("http://{}", server.addr);
    for origin in ["https://app.test", &own, "http://localhost:5173"] {
        assert!(Client::open(server.addr, "/ws/news", &[("origin", origin)]).await.is_ok(), "{origin}");
    }
}

#[tokio::test]
async fn tokens_are_taken_from_everywhere_and_shown_to_no_hook_in_the_query() {
    let server = Server::start(guarded()).await;
    let ways: [(&str, &[(&'static str, &str)]); 5] = [
        ("/ws/news?token=kim&x=1", &[]),
        ("/ws/news", &[("authorization", "Bearer kim")]),
        ("/ws/news", &[("cookie", "broker_token=kim")]),
        ("/ws/news", &[("sec-websocket-protocol", "bearer, kim")]),
        ("/ws/news?%74oken=kim", &[]),
    ];
    for (path, headers) in ways {
        let separator = if path.contains('?') { '&' } else { '?' };
        let opened = Client::open(server.addr, &format!("{path}{separator}format=envelope"), headers).await;
        let mut client = opened.unwrap_or_else(|error| panic!("{path} {headers:?}: {error}"));
        assert_eq!(client.json().await["user"], "kim", "{path} {headers:?}");
    }
}

#[tokio::test]
async fn plain_http_is_told_to_upgrade_and_unknown_paths_name_the_nearest() {
    let server = Server::start(Broker::builder().dev().route(Route::new("/dashboard").topic("dashboard"))).await;
    let answer = server.exchange(b"GET /ws/news HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("sec-websocket-version: 13"), "{answer}");
    let answer = server.exchange(b"GET /dashbord HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("did you mean /dashboard?"), "{answer}");
}

#[tokio::test]
async fn a_configured_route_names_its_topic() {
    let server = Server::start(Broker::builder().dev().route(Route::new("/ws/spc/product/{id}").topic("spc:product.{id}"))).await;
    let mut client = server.open("/ws/spc/product/7/?format=envelope").await;
    assert_eq!(client.json().await["broker"], "connected");
    assert_eq!(client.json().await["topic"], "spc:product.7");
}

#[tokio::test]
async fn what_is_published_after_the_handshake_arrives() {
    let server = Server::dev().await;
    for round in 0..50 {
        let mut client = server.open("/ws/news").await;
        let data = format!(r#"{{"n":{round}}}"#);
        server.broker.publish(&"news".parse().unwrap(), broker::Publish::new(broker::Payload::json(data.clone()))).await.unwrap();
        assert_eq!(client.text().await, data);
    }
}

#[tokio::test]
async fn a_draining_broker_refuses_and_says_when_to_come_back() {
    let broker = Broker::builder().dev().build().unwrap();
    broker.drain(Duration::from_secs(1)).await;
    let (io, pipe) = tokio::io::duplex(1_000);
    let (accepted, mut client) = tokio::join!(broker.accept(io, broker::Head::new("/ws/news")), Client::upgraded(pipe));
    assert!(accepted.is_err());
    assert_eq!(client.json().await["error"], "unavailable");
    assert_eq!(client.close_code().await, 3004);
}

#[tokio::test]
async fn data_that_would_read_as_the_brokers_own_words_is_refused() {
    let server = Server::dev().await;
    let data = broker::Publish::new(broker::Payload::json(r#"{"broker":"gap"}"#));
    assert!(server.broker.publish(&"news".parse().unwrap(), data).await.is_err());
}

/// 403 and 3507 would turn a client away for good that the application asked to come back.
#[tokio::test]
async fn an_error_of_the_application_is_temporary_where_it_says_when_to_come_back() {
    let connect = |request: broker::ConnectRequest| async move {
        let refusal = Refusal::new(broker::RefusalKind::Application(1234), "the ledger is being closed");
        Err::<Identity, _>(if request.head.query.contains("later") { refusal.retry_after(Duration::from_millis(1_500)) } else { refusal })
    };
    let server =
        Server::start(Broker::builder().on_connect(connect).default_namespace(Namespace::open()).allow_origin("https://app.test")).await;
    let (status, body) = refused(Client::open(server.addr, "/ws/news?later", &[]).await);
    let error = &body["error"];
    assert_eq!((status, error["code"].as_u64(), error["error"].as_str()), (503, Some(1234), Some("application")), "{body}");
    assert_eq!(error["retry_after_ms"], 1_500);
    let (status, body) = refused(Client::open(server.addr, "/ws/news", &[]).await);
    assert_eq!((status, &body["error"]["retry_after_ms"]), (403, &Value::Null));
    for (path, close, retry) in [("/ws/news?later", 3004, json!(1_500)), ("/ws/news", 3507, Value::Null)] {
        let mut client = Client::open(server.addr, path, &[("origin", "https://app.test")]).await.unwrap();
        assert_eq!(client.json().await["retry_after_ms"], retry, "{path}");
        assert_eq!(client.close_code().await, close, "{path}");
    }
    let (status, head, _) = Events::refused(server.addr, "/sse/news?later", &[]).await;
    assert!(status == 503 && head.contains("retry-after: 2\r\n"), "{head}");
}

/// Users come with their name as token; `news` may be read, `secret` may not.
pub(crate) fn guarded() -> Builder {
    Broker::builder()
        .on_connect(|request| async move {
            assert!(!request.head.query.contains("oken"), "the query holds a token");
            match request.connect.token.as_deref() {
                Some("old") => Err(Refusal::new(broker::RefusalKind::TokenExpired, "the token is past its end")),
                Some(user) => Ok(Identity::user(user)),
                None => Err(Refusal::unauthorized("a token is needed")),
            }
        })
        .default_namespace(Namespace::default().allow(Verb::Subscribe))
        .authorizer(NoSecrets)
}

/// Everything but `secret`.
struct NoSecrets;

impl broker::Authorizer for NoSecrets {
    fn decide(&self, _: &broker::Subject, _: Verb, topic: &broker::Topic, _: &Namespace) -> broker::Decision {
        if topic.as_str() == "secret" { broker::Decision::Deny(Refusal::permission_denied("no")) } else { broker::Decision::Allow }
    }
}

async fn check(server: &Server, path: &str, headers: &[(&'static str, &str)], status: u16, word: &str) {
    let (found, body) = refused(Client::open(server.addr, path, headers).await);
    assert_eq!((found, body["error"]["error"].as_str()), (status, Some(word)), "{path}: {body}");
}

#[tokio::test]
async fn a_refused_handshake_ends_the_connection() {
    let server = Server::start(guarded()).await;
    let head = "GET /ws/news HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";
    let answer = server.exchange(format!("{head}sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close"), "{answer}");
    let answer = server.exchange(format!("{head}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Sec-WebSocket-Key"), "{answer}");
}

#[tokio::test]
async fn bytes_sent_along_with_the_handshake_are_not_lost() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::dev().await;
    let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let mut bytes =
        b"GET /connection/websocket HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
    let command = br#"{"id":1,"connect":{}}"#;
    bytes.extend([0x81, 0x80 | command.len() as u8, 0, 0, 0, 0]);
    bytes.extend(command);
    stream.write_all(&bytes).await.unwrap();
    let mut seen = Vec::new();
    while !seen.windows(8).any(|bytes| bytes == b"\"client\"") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }
}

#[tokio::test]
async fn the_answer_picks_the_subprotocol_that_is_known() {
    let server = Server::start(guarded()).await;
    for (path, offered, picked) in [
        ("/ws/news", "bearer, kim", Some("bearer")),
        ("/ws/news?token=kim", "mqtt", None),
        ("/connection/websocket", "centrifuge-json", Some("centrifuge-json")),
        ("/connection/websocket", "centrifuge-protobuf, centrifuge-json", Some("centrifuge-json")),
        ("/connection/websocket", "centrifuge-protobuf", Some("centrifuge-protobuf")),
        ("/connection/websocket", "mqtt", None),
    ] {
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
            sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {offered}\r\n\r\n"
        );
        // A masked close frame, so that the server ends the connection.
        let answer = server.exchange(&[head.as_bytes(), &[0x88, 0x80, 0, 0, 0, 0]].concat()).await;
        let found = answer.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!((found, answer.starts_with("HTTP/1.1 101 ")), (picked, true), "{path} {offered}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_speaks_protobuf_is_told_that_json_is_spoken() {
    let server = Server::start(guarded()).await;
    for query in ["?cf_protocol=protobuf", "?format=protobuf"] {
        let mut client = Client::open(server.addr, &format!("/connection/websocket{query}"), &[]).await.unwrap();
        // Its connect, with id 1.
        client.send_message(Message::binary(&b"\x04\x08\x01\x22\x00"[..])).await.unwrap();
        let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("not closed") };
        let text = "inappropriate protocol: JSON is spoken here, and nothing else";
        assert_eq!((u16::from(close.code), close.reason.as_str()), (3506, text), "{query}");
    }
}
