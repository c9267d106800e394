//! Where clients come from, and how many may come from there.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use broker::{Broker, Builder, ConnectRate, Head, Identity, Namespace, TrustedProxies, WsLimits};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};

use crate::client::{Client, Server, refused};

const FAR: (&str, &str) = ("x-forwarded-for", "203.0.113.7");

#[tokio::test]
async fn hooks_see_the_peer_behind_every_listener() {
    let (builder, mut peers) = watched();
    let server = Server::start(builder).await;
    drop(server.open("/ws/news").await);
    assert!(peers.recv().await.unwrap().unwrap().ip().is_loopback());

    let (builder, mut peers) = watched();
    let broker = builder.peer_from(|extensions| extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0)).build().unwrap();
    let app = Router::new().nest_service("/live", broker.service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await });
    let client = tokio::net::TcpStream::connect(addr).await.unwrap();
    let own = client.local_addr().unwrap();
    drop(Client::over(client, &format!("ws://{addr}/live/ws/news"), &[]).await.unwrap());
    assert_eq!(peers.recv().await.unwrap(), Some(own));

    let (builder, mut peers) = watched();
    let mut head = Head::new("/ws/news");
    head.peer = Some(own);
    let (io, _pipe) = tokio::io::duplex(1_000);
    builder.build().unwrap().accept(io, head).await.unwrap();
    assert_eq!(peers.recv().await.unwrap(), Some(own));
}

#[tokio::test]
async fn a_proxys_word_about_the_client_is_taken_only_where_it_is_trusted() {
    for (proxies, seen) in [(&["127.0.0.1"][..], "203.0.113.7"), (&["10.0.0.0/8"], "127.0.0.1"), (&[], "127.0.0.1")] {
        let (builder, mut peers) = watched();
        let server = Server::start(builder.trusted_proxies(TrustedProxies::parse(proxies).unwrap())).await;
        for path in ["/ws/news", "/connection/websocket"] {
            let mut client = Client::open(server.addr, path, &[("x-forwarded-for", "6.6.6.6, 203.0.113.7")]).await.unwrap();
            if path.starts_with("/connection") {
                client.send(r#"{"id":1,"connect":{}}"#).await;
            }
            assert_eq!(peers.recv().await.unwrap().unwrap().ip().to_string(), seen, "{path} {proxies:?}");
        }
    }
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_told_when_to_come_back() {
    let rate = ConnectRate::new(1, Duration::from_secs(3600)).burst(2);
    let server = Server::start(behind_a_proxy(WsLimits::default().connects_per_address(rate)).allow_origin("https://app.test")).await;
    let _clients = [open(&server, "/ws/news", &[FAR]).await, open(&server, "/connection/websocket", &[FAR]).await];
    for path in ["/ws/news", "/connection/websocket", "/nowhere"] {
        let (status, body) = refused(Client::open(server.addr, path, &[FAR]).await);
        assert_eq!((status, &body["error"]["code"], &body["error"]["error"]), (429, &Value::from(111), &Value::from("too_many_requests")));
        assert!(body["error"]["retry_after_ms"].as_u64().unwrap() > 3_000_000, "{body}");
    }
    // A page's script cannot read the answer to a handshake.
    let page = [FAR, ("origin", "https://app.test")];
    let mut plain = open(&server, "/ws/news", &page).await;
    let frame = plain.json().await;
    assert_eq!((&frame["broker"], &frame["error"]), (&Value::from("error"), &Value::from("too_many_requests")), "{frame}");
    assert_eq!(plain.close_code().await, 3013);
    assert_eq!(open(&server, "/connection/websocket", &page).await.close_code().await, 3013);
    // Neither a foreign page, nor another address, nor this machine itself is mistaken for it.
    assert_eq!(refused(Client::open(server.addr, "/ws/news", &[FAR, ("origin", "https://evil.test")]).await).0, 403);
    open(&server, "/ws/news", &[("x-forwarded-for", "203.0.113.8")]).await;
}

#[tokio::test]
async fn the_answer_says_in_whole_seconds_when_to_come_back() {
    let rate = ConnectRate::new(1, Duration::from_secs(3600));
    let server = Server::start(behind_a_proxy(WsLimits::default().connects_per_address(rate))).await;
    let request = "GET /ws/news HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.7\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    server.exchange(&[request.as_bytes(), &[0x88, 0x80, 0, 0, 0, 0]].concat()).await;
    let answer = server.exchange(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nretry-after: 3600\r\n"), "{answer}");
}

#[tokio::test]
async fn this_machine_connects_as_often_as_it_likes() {
    let limits = WsLimits::default().connects_per_address(ConnectRate::new(1, Duration::from_secs(3600))).pending_max_per_address(1);
    let server = Server::start(Broker::builder().dev().limits(limits)).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(server.open("/connection/websocket").await);
    }
}

#[tokio::test]
async fn sockets_that_never_say_who_they_are_are_bounded_and_their_place_is_free_when_they_do() {
    let server = Server::start(behind_a_proxy(WsLimits::default().pending_max_per_address(2).pending_max(3))).await;
    let mut first = open(&server, "/connection/websocket", &[FAR]).await;
    let _second = open(&server, "/connection/websocket", &[FAR]).await;
    let (status, body) = refused(Client::open(server.addr, "/connection/websocket", &[FAR]).await);
    assert_eq!((status, &body["error"]["error"]), (429, &Value::from("too_many_requests")), "{body}");
    let _third = open(&server, "/connection/websocket", &[("x-forwarded-for", "203.0.113.8")]).await;
    let (status, _) = refused(Client::open(server.addr, "/connection/websocket", &[("x-forwarded-for", "203.0.113.9")]).await);
    assert_eq!(status, 503, "the node is crowded, and no one address is to blame");
    first.send(r#"{"id":1,"connect":{}}"#).await;
    assert!(first.json().await["connect"]["client"].is_string());
    // The plain protocol says who it is at once, so its place is free when it is open.
    for _ in 0..3 {
        open(&server, "/ws/news", &[("x-forwarded-for", "203.0.113.9")]).await;
    }
    open(&server, "/connection/websocket", &[FAR]).await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_bounded_before_their_request_is_read() {
    use tokio::io::AsyncReadExt;
    let server = Server::start(Broker::builder().dev().limits(WsLimits::default().pending_max(2))).await;
    let mut silent =
        [tokio::net::TcpStream::connect(server.addr).await.unwrap(), tokio::net::TcpStream::connect(server.addr).await.unwrap()];
    let answer = server.exchange(b"").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 5\r\n"), "{answer}");
    assert!(answer.contains("too many connections have not said who they are"), "{answer}");
    // Whoever has asked something is silent no longer.
    tokio::io::AsyncWriteExt::write_all(&mut silent[0], b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    silent[0].read_u8().await.unwrap();
    server.open("/ws/news").await;
}

/// A broker whose hook hands out the peers that it sees.
fn watched() -> (Builder, mpsc::UnboundedReceiver<Option<SocketAddr>>) {
    let (seen, peers) = mpsc::unbounded_channel();
    let seen = Arc::new(seen);
    let builder = Broker::builder().default_namespace(Namespace::open()).on_connect(move |request| {
        let _ = seen.send(request.head.peer);
        async { Ok(Identity::anonymous()) }
    });
    (builder, peers)
}

/// A broker that believes this machine when it names clients.
fn behind_a_proxy(limits: WsLimits) -> Builder {
    Broker::builder().dev().limits(limits).trusted_proxies(TrustedProxies::parse(["127.0.0.1"]).unwrap())
}

async fn open(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> Client {
    Client::open(server.addr, path, headers).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}
