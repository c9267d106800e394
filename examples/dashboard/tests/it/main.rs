//! The dashboard as browsers meet it: over real WebSockets on a free loopback port.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use broker::Broker;
use dashboard::{
    board::Board,
    live,
    machine::{CollectError, Source},
    statistics::{Host, Statistics},
};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// A machine whose clock is the number of readings, and that can be told to fail.
struct Counter {
    readings: u64,
    fails: Arc<AtomicBool>,
}

impl Source for Counter {
    fn read(&mut self) -> Result<Statistics, CollectError> {
        self.readings += 1;
        if self.fails.load(Ordering::Relaxed) {
            return Err(CollectError::NoMemory);
        }
        Ok(Statistics { at_ms: self.readings, ..Statistics::default() })
    }
}

struct Dashboard {
    board: Board,
    broker: Broker,
    address: std::net::SocketAddr,
    fails: Arc<AtomicBool>,
}

impl Dashboard {
    async fn start() -> Self {
        let fails = Arc::new(AtomicBool::new(false));
        let board = Board::new(Counter { readings: 0, fails: fails.clone() }, Host::default(), "test");
        let broker = live::broker(&board).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(live::publish(board.clone(), broker.clone()));
        tokio::spawn({
            let broker = broker.clone();
            async move { broker.serve(listener).await }
        });
        Self { board, broker, address, fails }
    }

    async fn view(&self) -> Viewer {
        self.view_at(live::PATH).await
    }

    async fn view_at(&self, path: &str) -> Viewer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("ws://{}{path}", self.address);
        // The headers of a browser: only then are refusals said over the socket.
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(request).unwrap();
        request.headers_mut().insert("origin", format!("http://{}", self.address).parse().unwrap());
        Viewer(client_async(request, stream).await.unwrap().0)
    }
}

struct Viewer(WebSocketStream<TcpStream>);

impl Viewer {
    async fn frame(&mut self) -> Value {
        loop {
            match soon(self.0.next()).await.expect("the connection lives").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a frame but {other:?}"),
            }
        }
    }

    /// The next frame that says that its numbers are old.
    async fn stale_frame(&mut self) -> Value {
        let waiting = async {
            loop {
                let frame = self.frame().await;
                if !frame["stale"].is_null() {
                    return frame;
                }
            }
        };
        soon(waiting).await
    }
}

/// What a test waits for comes in a few seconds; this bound only ends tests that fail.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

#[tokio::test]
async fn the_first_frame_is_the_data_and_the_pace_follows() {
    let dashboard = Dashboard::start().await;
    let mut viewer = dashboard.view().await;
    let first = viewer.frame().await;
    assert_eq!(first["statistics"]["at_ms"], 1, "{first}");
    let second = viewer.frame().await;
    assert!(second["statistics"]["at_ms"].as_u64().unwrap() >= 1 && second["pace_ms"] == 5000, "{second}");
}

#[tokio::test]
async fn three_hundred_viewers_cost_a_few_readings_and_not_one_each() {
    let dashboard = Dashboard::start().await;
    let viewers: Vec<_> = (0..300).map(|_| async { dashboard.view().await.frame().await }).collect();
    let frames = soon(futures_util::future::join_all(viewers)).await;
    let first = frames[0]["statistics"].clone();
    assert!(frames.iter().all(|frame| frame["statistics"].is_object()), "{first}");
    // A slow machine may need more than a second for them all; a reading each would be three hundred.
    let (readings, calls) = (dashboard.board.readings(), dashboard.broker.stats().snapshot_calls.value());
    assert!(readings <= 10 && calls <= 10, "{readings} readings, {calls} calls");
}

#[tokio::test]
async fn a_failing_machine_closes_no_socket_and_its_numbers_are_called_stale() {
    let dashboard = Dashboard::start().await;
    let mut viewer = dashboard.view().await;
    assert_eq!(viewer.frame().await["stale"], Value::Null);
    dashboard.fails.store(true, Ordering::Relaxed);
    let stale = viewer.stale_frame().await;
    assert!(stale["statistics"].is_object() && stale["stale"]["error"] == "the system reports no memory", "{stale}");
    assert_eq!(dashboard.view().await.stale_frame().await["stale"], stale["stale"]);
    dashboard.fails.store(false, Ordering::Relaxed);
    soon(async { while !viewer.frame().await["stale"].is_null() {} }).await;
}

#[tokio::test]
async fn reading_stops_soon_after_the_last_viewer_leaves() {
    let dashboard = Dashboard::start().await;
    let mut viewer = dashboard.view().await;
    viewer.frame().await;
    let mut watched = dashboard.board.watched();
    soon(watched.wait_for(|watched| *watched)).await.unwrap();
    drop(viewer);
    soon(watched.wait_for(|watched| !*watched)).await.unwrap();
}

#[tokio::test]
async fn a_wrong_address_is_told_the_right_one() {
    let dashboard = Dashboard::start().await;
    for wrong in ["/live/dashbord", "/live/live/dashboard", "/ws/live/dashboard"] {
        let said = dashboard.view_at(wrong).await.frame().await;
        assert_eq!(said["broker"], "error", "{said}");
        assert!(said["hint"].as_str().is_some_and(|hint| hint.contains("did you mean")), "{said}");
    }
}
