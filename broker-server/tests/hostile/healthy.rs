//! A client that behaves: it publishes a number, waits until it hears it, and publishes the next.

use std::fmt;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::PATIENCE;

/// What the healthy client saw.
pub(crate) struct Stream {
    /// Publications heard, each in its place.
    pub(crate) heard: u64,
    slowest: Duration,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the healthy client heard {} publications in order, the slowest after {:.1?}", self.heard, self.slowest)
    }
}

/// The running client.
pub(crate) struct Healthy {
    enough: oneshot::Sender<()>,
    task: JoinHandle<Stream>,
}

impl Healthy {
    /// Connects, subscribes, and goes on in the background. Anything unexpected panics there, and in [`Healthy::stop`].
    pub(crate) async fn start(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("a socket has options");
        let url = format!("ws://{address}/connection/websocket");
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("the handshake is fine");
        send(&mut socket, r#"{"id":1,"connect":{}}"#).await;
        send(&mut socket, r#"{"id":2,"subscribe":{"channel":"healthy"}}"#).await;
        let mut answers = Vec::new();
        while answers.len() < 2 {
            answers.extend(next(&mut socket).await);
        }
        assert!(answers[1]["subscribe"].is_object(), "{answers:?}");
        let (enough, stop) = oneshot::channel();
        Self { enough, task: tokio::spawn(go_on(socket, stop)) }
    }

    /// Ends the client; answers what it saw.
    pub(crate) async fn stop(self) -> Stream {
        let _ = self.enough.send(());
        self.task.await.expect("the healthy client was not disturbed")
    }
}

async fn go_on(mut socket: WebSocketStream<TcpStream>, mut stop: oneshot::Receiver<()>) -> Stream {
    let mut stream = Stream { heard: 0, slowest: Duration::ZERO };
    while stop.try_recv().is_err() {
        let number = stream.heard + 1;
        let started = Instant::now();
        send(&mut socket, &format!(r#"{{"id":{},"publish":{{"channel":"healthy","data":{number}}}}}"#, number + 2)).await;
        let (mut pushed, mut replied) = (false, false);
        while !(pushed && replied) {
            for value in next(&mut socket).await {
                if value["push"].is_object() {
                    assert_eq!(
                        (&value["push"]["pub"]["data"], &value["push"]["pub"]["offset"]),
                        (&Value::from(number), &Value::from(number))
                    );
                    pushed = true;
                } else {
                    assert!(value["id"] == number + 2 && value["publish"].is_object(), "{value}");
                    replied = true;
                }
            }
        }
        stream.heard = number;
        stream.slowest = stream.slowest.max(started.elapsed());
    }
    stream
}

async fn send(socket: &mut WebSocketStream<TcpStream>, text: &str) {
    socket.send(Message::text(text)).await.expect("the healthy client is connected");
}

/// The objects of the next frame that is no ping.
async fn next(socket: &mut WebSocketStream<TcpStream>) -> Vec<Value> {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("the healthy client is answered");
        match message.expect("the healthy client is connected").expect("its frames are fine") {
            Message::Text(text) if text.as_str() == "{}" => send(socket, "{}").await,
            Message::Text(text) => return text.lines().map(|line| serde_json::from_str(line).expect("lines are JSON")).collect(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("the healthy client got {other:?}"),
        }
    }
}
