//! How the server treats connections before they are WebSockets: deadlines, bounds, and its own end.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use broker_ws::{HandshakeError, WsLimits, serve};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

#[tokio::test]
async fn a_request_is_answered_and_the_connection_is_kept() {
    let server = Server::start(WsLimits::default()).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 426 "));
        client = server.connect().await;
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_a_head_is_dropped_at_the_deadline() {
    let server = Server::start(WsLimits::default().handshake_timeout(Duration::from_millis(30))).await;
    for half in [&b""[..], b"G", b"GET / HTTP/1.1\r\nhost: x\r\n"] {
        let mut client = server.connect().await;
        client.write_all(half).await.unwrap();
        let answer = answer(&mut client).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    }
}

#[tokio::test]
async fn connections_over_the_bound_are_told_to_come_back_and_a_free_seat_is_used_again() {
    let server = Server::start(WsLimits::default().connections_max(1)).await;
    let mut first = server.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut second = server.connect().await;
    let refusal = answer(&mut second).await;
    let (head, body) = refusal.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: "), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())) || head.ends_with(&format!("Content-Length: {}", body.len())));
    first.write_all(b"host: x\r\n\r\n").await.unwrap();
    assert!(answer(&mut first).await.starts_with("HTTP/1.1 426 "));
    for _ in 0..1_000 {
        let mut again = server.connect().await;
        again.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        if answer(&mut again).await.starts_with("HTTP/1.1 426 ") {
            return;
        }
    }
    panic!("the seat was never free again");
}

#[tokio::test]
async fn bytes_that_are_no_http_are_refused() {
    let server = Server::start(WsLimits::default()).await;
    for bytes in [&b"\x16\x03\x01\x00\xa5"[..], b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        let mut client = server.connect().await;
        client.write_all(bytes).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 400 "), "{}", String::from_utf8_lossy(bytes));
    }
    let mut client = server.connect().await;
    let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'x'; 20_000]].concat();
    // The server may close before it has read everything.
    let _ = client.write_all(&endless).await;
    let answer = answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_stop_ends_the_server_when_its_answers_are_out() {
    let server = Server::start(WsLimits::default().handshake_timeout(Duration::from_secs(600))).await;
    let _silent = server.connect().await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    answer(&mut client).await;
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.addr).await.is_err());
}

/// A server whose every answer is 426.
struct Server {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: WsLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let service = tower::service_fn(|_: Request<hyper::body::Incoming>| async {
            Ok::<_, Infallible>(HandshakeError::NoUpgrade.response().map(Full::<Bytes>::new)) as Result<Response<_>, _>
        });
        let task = tokio::spawn(serve(listener, service, Arc::new(limits), async {
            let _ = stopped.await;
        }));
        Self { addr, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }
}

/// Everything until the server closes; a reset counts as the end.
async fn answer(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}
