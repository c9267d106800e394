//! Faults: killed servers, half-open connections, stopped processes, bytes that are no RESP.

use std::time::{Duration, Instant};

use broker_resp::{
    CallError, ConnectError, DisconnectReason, Link, NoAnswer, Options, Target,
    testing::{Direction, Proxy, Server},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{SOON, command, connected, disconnected, impatient, linked, text};

/// A link is back within this after the cure.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_killed_server_is_connected_again_when_it_is_back() {
    let mut server = Server::start().await;
    let (link, mut events) = linked(server.target(), Options::default()).await;
    server.kill();
    disconnected(&mut events).await;
    // Long enough for the longest wait between tries.
    while link.state().counters.connect_failures < 9 {
        let failed = matches!(link.state().connect_error, None | Some(ConnectError::Unreachable(_)));
        assert!(failed, "{:?}", link.state());
        assert_eq!(link.connected(Duration::from_millis(50)).await, None);
    }
    assert!(link.state().trouble().expect("there is no connection").contains("refused"));
    server.restart().await;
    let back = Instant::now();
    assert_eq!(connected(&mut events).await, 2);
    assert!(back.elapsed() < BACK_WITHIN, "back after {:?}", back.elapsed());
    assert_eq!(link.call(&command("ECHO again"), SOON).await, Ok(text("again")));
    assert_eq!(link.state().trouble(), None);
}

#[tokio::test]
async fn a_call_that_was_written_when_the_server_died_is_unknown() {
    let mut server = Server::start().await;
    let (link, mut events) = linked(server.target(), Options::default()).await;
    server.pause();
    let call = link.call(&command("INCR visits"), SOON);
    while link.state().counters.queue_bytes > 0 || link.state().counters.writes == 0 {
        tokio::task::yield_now().await;
    }
    server.kill();
    assert_eq!(call.await, Err(CallError::Unknown(NoAnswer::Lost)));
    disconnected(&mut events).await;
}

/// The link notices the fault within the time for pings and is back soon after the cure.
async fn check_silence(fault: impl FnOnce(&Server, &Proxy), cure: impl FnOnce(&Server, &Proxy)) {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let options = impatient();
    let noticed_within = options.ping_interval + options.ping_timeout * 3 + Duration::from_secs(1);
    let (link, mut events) = linked(proxy.target(), options).await;
    link.send(&[command("SUBSCRIBE news")], SOON).await[0].clone().expect("subscribed");
    fault(&server, &proxy);
    let broken = Instant::now();
    let reason = disconnected(&mut events).await;
    assert!(matches!(reason, DisconnectReason::Silent(_)), "{reason}");
    assert!(broken.elapsed() < noticed_within, "noticed after {:?}", broken.elapsed());
    cure(&server, &proxy);
    let cured = Instant::now();
    assert_eq!(connected(&mut events).await, 2);
    assert!(cured.elapsed() < BACK_WITHIN, "back after {:?}", cured.elapsed());
    link.call(&command("PING"), SOON).await.expect("it works again");
}

#[tokio::test]
async fn a_connection_that_swallows_everything_is_dropped() {
    check_silence(|_, proxy| proxy.black_hole(Direction::Both), |_, proxy| proxy.cure()).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_dropped() {
    check_silence(|_, proxy| proxy.black_hole(Direction::ToClient), |_, proxy| proxy.cure()).await;
}

#[tokio::test]
async fn a_server_that_stands_still_is_dropped() {
    check_silence(|server, _| server.pause(), |server, _| server.resume()).await;
}

#[tokio::test]
async fn a_connection_that_pushes_and_never_answers_is_dropped() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let (link, mut events) = linked(proxy.target(), impatient()).await;
    link.send(&[command("SUBSCRIBE news")], SOON).await[0].clone().expect("subscribed");
    let (publisher, _events) = linked(server.target(), Options::default()).await;
    proxy.black_hole(Direction::ToServer);
    let publishing = tokio::spawn(async move {
        while publisher.call(&command("PUBLISH news hello"), SOON).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    let reason = disconnected(&mut events).await;
    assert!(matches!(reason, DisconnectReason::Silent(_)), "{reason}");
    publishing.abort();
}

#[tokio::test]
async fn a_cut_connection_comes_back() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    let (link, mut events) = linked(proxy.target(), Options::default()).await;
    for generation in 2..6 {
        proxy.cut();
        disconnected(&mut events).await;
        assert_eq!(connected(&mut events).await, generation);
        link.call(&command("PING"), SOON).await.expect("it works again");
    }
    assert_eq!(link.state().counters.connects, 5);
}

#[tokio::test]
async fn a_try_that_hangs_ends_in_time() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.address()).await;
    proxy.black_hole(Direction::Both);
    let mut options = Options::default();
    options.connect_timeout = Duration::from_millis(100);
    let (link, mut events) = Link::open(proxy.target(), options);
    while link.state().connect_error.is_none() {
        assert_eq!(link.connected(Duration::from_millis(20)).await, None);
    }
    assert_eq!(link.state().connect_error, Some(ConnectError::TimedOut(Duration::from_millis(100))));
    proxy.cure();
    assert_eq!(connected(&mut events).await, 1);
}

/// A server that says hello as Redis does, and then something else.
async fn liar(lie: &'static [u8]) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let port = listener.local_addr().expect("a listener has an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = Vec::new();
            while !heard.ends_with(b"hello\r\n") {
                stream.read_buf(&mut heard).await.expect("the greeting");
            }
            stream.write_all(b"%1\r\n$5\r\nproto\r\n:3\r\n+PONG\r\n$5\r\nhello\r\n").await.expect("a hello");
            stream.write_all(lie).await.expect("a lie");
            // Until the link has enough of it.
            stream.read_to_end(&mut heard).await.ok();
        }
    });
    Target::tcp("127.0.0.1", port)
}

#[tokio::test]
async fn what_is_no_answer_to_anything_ends_the_connection() {
    for (lie, words) in [
        (&b"+OK\r\n"[..], "do not match"),
        (b"HTTP/1.1 400 Bad Request\r\n", "unreadable: byte 0x48"),
        (b"*1000000000\r\n", "more than 1048576 values"),
        (b"$99999999999\r\n", "larger than"),
    ] {
        let (link, mut events) = Link::open(liar(lie).await, Options::default());
        let reason = disconnected(&mut events).await.to_string();
        assert!(reason.contains(words), "{reason}");
        drop(link);
    }
}
