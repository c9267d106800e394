//! Hostile input over real sockets, beside a client that behaves: the server answers each mistake, and nobody else notices.
//!
//! What is sent and what must come back is generated in `broker_protocol::testing`; broken WebSocket frames stand in `raw`. The number of
//! cases is `HOSTILE_CASES` (10,000 by default), the seed `HOSTILE_SEED`.

mod healthy;
mod peer;
mod raw;
mod server;

use std::time::{Duration, Instant};

use broker_protocol::testing::{HostileFrame, HostileProtocol, hostile_frames};

use healthy::Healthy;
use peer::Peer;
use server::Server;

/// The longest that one answer may take. Generous: what is looked for are answers that never come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lines about sessions that a server with two shards writes in a second, by default.
const SESSION_LINES_PER_SECOND: usize = 2 * 50;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_answered_and_a_healthy_client_notices_nothing() {
    let (seed, cases) = (setting("HOSTILE_SEED", 7), setting("HOSTILE_CASES", 10_000) as usize);
    // The limit of mistakes per session has its own test.
    // Every case is to be answered for what it is, as fast as it comes; rates have tests of their own.
    let rates = ["COMMANDS", "PUBLISHES", "SUBSCRIBES", "BYTES", "ERRORS"].map(|kind| format!("BROKER_CLIENT__RATE__{kind}"));
    let mut variables = vec![("BROKER_CLIENT__MISTAKES_PER_MINUTE", "100000")];
    variables.extend(rates.iter().map(|name| (name.as_str(), "off")));
    let server = Server::start(&variables).await;
    let healthy = Healthy::start(&server.address).await;
    let started = Instant::now();

    let mut closed = 0;
    for protocol in [HostileProtocol::Centrifuge, HostileProtocol::Plain] {
        let mut peer = Peer::open(&server.address, protocol).await;
        for frame in hostile_frames(seed, cases).filter(|frame| frame.protocol == protocol) {
            if peer.send_and_expect(&frame).await.unwrap_or_else(|problem| panic!("{}", told(&frame, &problem))) {
                closed += 1;
                peer = Peer::open(&server.address, protocol).await;
            }
        }
        peer.expect_alive().await;
    }
    let took = started.elapsed();

    let stream = healthy.stop().await;
    let log = server.stop().await;
    println!("{cases} cases, {closed} connections closed, in {took:.1?}; {stream}; {} log lines", log.lines().count());
    assert!(stream.heard > 0, "the healthy client heard nothing");
    assert!(!log.contains("panicked"), "{}", tail(&log));
    // What sessions say, opened, refused, closed, is bounded for each second; the rest is the start block and what is said at most once in a while.
    let lines_max = SESSION_LINES_PER_SECOND * (took.as_secs() as usize + 2) + 200;
    assert!(log.lines().count() <= lines_max, "{} log lines in {took:.1?}:\n{}", log.lines().count(), tail(&log));
    assert!(log.lines().all(|line| line.len() < 4096), "a log line is longer than 4 KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_websocket_frames_end_their_connection_and_nothing_else() {
    let server = Server::start(&[]).await;
    let healthy = Healthy::start(&server.address).await;
    for case in raw::cases() {
        for path in ["/connection/websocket", "/ws/hostile"] {
            raw::check(&server.address, path, &case).await.unwrap_or_else(|problem| panic!("{} on {path}: {problem}", case.what));
        }
    }
    let stream = healthy.stop().await;
    let log = server.stop().await;
    assert!(stream.heard > 0, "the healthy client heard nothing");
    assert!(!log.contains("panicked"), "{}", tail(&log));
}

#[tokio::test]
async fn too_many_mistakes_in_a_minute_end_the_session() {
    let server = Server::start(&[("BROKER_CLIENT__MISTAKES_PER_MINUTE", "20")]).await;
    for (protocol, codes) in [(HostileProtocol::Centrifuge, [3509, 3013]), (HostileProtocol::Plain, [3509, 3013])] {
        let mut peer = Peer::open(&server.address, protocol).await;
        let mistake = match protocol {
            HostileProtocol::Centrifuge => r#"{"id":9,"subscribe":{"channel":7}}"#,
            HostileProtocol::Plain => r#"{"broker":"subscribe","id":9,"topic":7}"#,
        };
        let (answered, code) = peer.repeat_until_closed(mistake, 100).await;
        assert!((20..=21).contains(&answered), "{protocol:?}: {answered} mistakes were answered");
        assert!(codes.contains(&code), "{protocol:?}: closed with {code}");
    }
    server.stop().await;
}

fn told(frame: &HostileFrame, problem: &str) -> String {
    let shown = frame.bytes.escape_ascii().to_string();
    let shown = shown.get(..400).unwrap_or(&shown);
    format!(
        "{:?}, {}: {problem}\nsent ({} bytes, {}): {shown}\nexpected: {:?}",
        frame.protocol,
        frame.what,
        frame.bytes.len(),
        if frame.text { "text" } else { "binary" },
        frame.answer
    )
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
