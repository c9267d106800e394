//! Which pages may open connections, in both protocols and over real sockets: a foreign one gets a bare 403.

use broker::{Broker, Builder, Namespace};

use crate::client::{Client, Server};

const PATHS: [&str; 2] = ["/ws/news", "/connection/websocket"];

#[tokio::test]
async fn only_named_origins_and_the_brokers_own_pages_are_let_in() {
    let server = Server::beyond_loopback(
        open().allow_origin("https://app.test").allow_origin("https://*.example.org").allow_origin("http://dev:8080"),
    )
    .await;
    let own = format!("http://{}", server.addr);
    for (origin, is_let_in) in [
        // evil_origin
        ("https://evil.test", false),
        ("http://localhost:5173", false),
        // null_origin
        ("null", false),
        ("NULL", false),
        ("", false),
        // suffix
        ("https://app.test.evil", false),
        ("https://app.test.evil.test", false),
        ("https://evil-app.test", false),
        ("https://app.test@evil.test", false),
        ("https://evil.test/https://app.test", false),
        ("https://evilexample.org", false),
        ("https://example.org", false),
        ("https://a.example.org.evil", false),
        ("https://a.example.org", true),
        // case
        ("https://app.test", true),
        ("HTTPS://App.Test", true),
        // port
        ("https://app.test:443", true),
        ("https://app.test:8443", false),
        ("https://app.test:", false),
        ("http://dev:8080", true),
        ("http://dev", false),
        // scheme
        ("http://app.test", false),
        ("wss://app.test", false),
        ("app.test", false),
        // the broker's own
        (&own, true),
        ("http://127.0.0.1:1", false),
    ] {
        for path in PATHS {
            check(&server, path, &[origin], is_let_in).await;
        }
    }
}

#[tokio::test]
async fn two_origins_are_no_origin() {
    let server = Server::start(open().allow_origin("https://app.test")).await;
    for path in PATHS {
        check(&server, path, &["https://app.test", "https://app.test"], false).await;
        check(&server, path, &["https://app.test", "https://evil.test"], false).await;
    }
}

#[tokio::test]
async fn on_loopback_only_pages_of_this_machine_are_the_brokers_own() {
    let server = Server::start(open()).await;
    for (origin, is_let_in) in [
        ("http://localhost:5173", true),
        ("http://127.0.0.1:3000", true),
        ("https://[::1]:3000", true),
        ("http://app.localhost", true),
        ("http://localhost.evil", false),
        ("http://127.0.0.1.evil", false),
        // DNS rebinding: the page's name leads here, and the request names it as its host.
        ("http://rebound.test", false),
        ("null", false),
    ] {
        for path in PATHS {
            check(&server, path, &[origin], is_let_in).await;
        }
    }
}

#[tokio::test]
async fn scripts_of_allowed_pages_read_plain_answers_and_those_of_others_do_not() {
    let server = Server::start(open().allow_origin("https://app.test")).await;
    let ask = async |origin: &str| {
        let request = format!("GET /ws/news HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n\r\n");
        server.exchange(request.as_bytes()).await.to_ascii_lowercase()
    };
    let allowed = ask("https://app.test").await;
    for header in
        ["http/1.1 426", "vary: origin", "access-control-allow-origin: https://app.test", "access-control-allow-credentials: true"]
    {
        assert!(allowed.contains(header), "{header} is missing in {allowed}");
    }
    let foreign = ask("https://evil.test").await;
    assert!(foreign.starts_with("http/1.1 403 ") && !foreign.contains("access-control"), "{foreign}");
}

#[tokio::test]
async fn where_everybody_may_come_no_page_reads_with_its_visitors_cookies() {
    let server = Server::start(open().allow_origin("*")).await;
    let answer = server.exchange(b"GET /ws/news HTTP/1.1\r\nhost: x\r\norigin: https://any.test\r\n\r\n").await;
    assert!(answer.contains("access-control-allow-origin: https://any.test") && !answer.contains("credentials"), "{answer}");
}

fn open() -> Builder {
    Broker::builder().anonymous().default_namespace(Namespace::open())
}

/// A foreign page gets a 403 and nothing to read.
async fn check(server: &Server, path: &str, origins: &[&str], is_let_in: bool) {
    let origins = origins.iter().fold(String::new(), |headers, origin| headers + "origin: " + origin + "\r\n");
    let host = if origins.contains("rebound") { "rebound.test".to_owned() } else { server.addr.to_string() };
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\n{origins}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    // A masked close frame, so that the server ends the connection.
    let answer = server.exchange(&[request.as_bytes(), &[0x88, 0x80, 0, 0, 0, 0]].concat()).await;
    if is_let_in {
        assert!(answer.starts_with("HTTP/1.1 101 "), "{path} {origins}{answer}");
    } else {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.starts_with("HTTP/1.1 403 ") && !head.contains("access-control"), "{path} {origins}{answer}");
        assert_eq!(body, "", "{path} {origins}");
    }
}

#[tokio::test]
async fn a_program_without_an_origin_is_no_page() {
    let server = Server::start(open()).await;
    for path in PATHS {
        assert!(Client::open(server.addr, path, &[]).await.is_ok(), "{path}");
    }
}
