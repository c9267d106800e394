//! Clients that break the transport's rules or try to hold resources; a healthy one beside them notices nothing.

use std::time::Duration;

use broker::{Broker, WsLimits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Server};

#[tokio::test]
async fn every_broken_rule_has_its_close_code() {
    let server = Server::dev().await;
    for (bytes, code) in [
        (vec![0x81, 0x01, b'x'], 1002),
        (frame(0xc1, b"x"), 1002),
        (frame(0x83, b"x"), 1002),
        (frame(0x80, b"x"), 1002),
        (frame(0x09, b"x"), 1002),
        (frame(0x88, b"\x03"), 1002),
        (frame(0x88, b"\x03\xec"), 1002),
        (frame(0x81, b"\xff"), 1007),
        ([frame(0x01, b"\xc3"), frame(0x80, b"x")].concat(), 1007),
        (vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], 1009),
        (frame(0x88, b"\x03\xe8"), 1000),
    ] {
        assert_eq!(close_code_after(&server, &bytes).await, code, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_message_that_never_ends_is_cut() {
    let limits = WsLimits::default().message_timeout(Duration::from_millis(30));
    let server = Server::start(Broker::builder().dev().limits(limits)).await;
    for bytes in [&frame(0x01, b"half")[..], &[0x81], &[0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0, b'x']] {
        assert_eq!(close_code_after(&server, bytes).await, 1002, "{bytes:?}");
    }
}

#[tokio::test]
async fn floods_of_pings_and_fragments_are_cut_and_a_healthy_client_notices_nothing() {
    let server = Server::dev().await;
    let mut healthy = server.open("/ws/news").await;
    let pings = frame(0x89, b"").repeat(50_000);
    assert_eq!(close_code_after(&server, &pings).await, 3013);
    let fragments = [frame(0x01, b""), frame(0x00, b"").repeat(100_000)].concat();
    assert_eq!(close_code_after(&server, &fragments).await, 1002);
    server.broker.publish(&"news".parse().unwrap(), broker::Publish::new(broker::Payload::json("1"))).await.unwrap();
    assert_eq!(healthy.text().await, "1");
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let server = Server::dev().await;
    let mut client = server.open("/ws/news").await;
    client.send_message(Message::Ping("abc".into())).await.unwrap();
    loop {
        match client.next().await {
            Some(Ok(Message::Pong(payload))) => return assert_eq!(&payload[..], b"abc"),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn half_open_handshakes_are_dropped_and_hold_no_seat() {
    let limits = WsLimits::default().handshake_timeout(Duration::from_millis(50)).connections_max(40);
    let server = Server::start(Broker::builder().dev().limits(limits)).await;
    let mut half_open = Vec::new();
    for round in 0..40 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        if round % 2 == 0 {
            stream.write_all(b"GET /ws/news HTTP/1.1\r\nhost:").await.unwrap();
        }
        half_open.push(stream);
    }
    for stream in &mut half_open {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
    let mut tries = 0;
    while Client::open(server.addr, "/ws/news", &[]).await.is_err() {
        tries += 1;
        assert!(tries < 1_000, "the seats were not free again");
    }
}

#[tokio::test]
async fn a_websocket_holds_its_seat_until_it_ends() {
    let server = Server::start(Broker::builder().dev().limits(WsLimits::default().connections_max(1))).await;
    let client = server.open("/ws/news").await;
    assert!(Client::open(server.addr, "/ws/news", &[]).await.is_err());
    drop(client);
    let mut tries = 0;
    while Client::open(server.addr, "/ws/news", &[]).await.is_err() {
        tries += 1;
        assert!(tries < 1_000, "the seat was not free again");
    }
}

/// Opens a WebSocket by hand, sends bytes, and gives the code of the close frame.
async fn close_code_after(server: &Server, bytes: &[u8]) -> u16 {
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let head = "GET /ws/other HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let bytes = [head.as_bytes(), bytes].concat();
    let writing = tokio::spawn(async move {
        // The server may have closed before it has read everything.
        let _ = write.write_all(&bytes).await;
        write
    });
    let mut answer = Vec::new();
    let _ = read.read_to_end(&mut answer).await;
    drop(writing.await);
    let start = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the handshake is answered") + 4;
    let mut frames = &answer[start..];
    loop {
        let [first, len, rest @ ..] = frames else { panic!("no close frame in {:?}", String::from_utf8_lossy(&answer[start..])) };
        let (len, rest) = match *len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            len => (usize::from(len), rest),
        };
        if *first == 0x88 {
            return u16::from_be_bytes([rest[0], rest[1]]);
        }
        frames = &rest[len..];
    }
}

/// A mask of zeroes is legal and leaves the payload readable.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}
