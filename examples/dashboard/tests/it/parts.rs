//! A running dashboard without pages, and a client of it.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::Broker;
use dashboard::{
    board::{Board, Source},
    dispatch::{Database, DatabaseError, Statistics},
    live,
    tokens::Tokens,
};
use futures_util::{SinkExt, StreamExt};
use kit::Node;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

/// Statistics whose `total_orders` is the number of the reading, and that can be told to fail.
#[derive(Clone, Default)]
pub(crate) struct Counter {
    readings: Arc<AtomicU64>,
    pub(crate) fails: Arc<AtomicBool>,
}

impl Source for Counter {
    fn read(&self) -> Result<Statistics, DatabaseError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(DatabaseError::Broken);
        }
        let total_orders = i64::try_from(self.readings.fetch_add(1, Ordering::Relaxed)).unwrap() + 1;
        Ok(Statistics { at_ms: total_orders, total_orders, ..Statistics::default() })
    }
}

pub(crate) struct Dashboard {
    pub(crate) board: Board,
    pub(crate) broker: Broker,
    pub(crate) counter: Counter,
    pub(crate) tokens: Tokens,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Dashboard {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let node = Node { name: "test".to_owned(), address, data: folder.path().to_owned(), redis: None };
        let counter = Counter::default();
        let tokens = Tokens::new(&Tokens::fresh_secret().unwrap(), Duration::from_secs(60)).unwrap();
        let board = Board::new(counter.clone());
        let database = Database::open(&node.data).unwrap();
        let parts = live::Parts { database, board: board.clone(), machine: tokio::sync::watch::Sender::new(false), tokens: tokens.clone() };
        let broker = live::broker(&node, &parts).unwrap();
        parts.publish_on(&broker, "test");
        let serving = broker.clone();
        tokio::spawn(async move { serving.serve(listener).await });
        Self { board, broker, counter, tokens, address, _folder: folder }
    }

    pub(crate) async fn connect(&self, path: &str, token: Option<&str>) -> Result<Client, tungstenite::Error> {
        let stream = TcpStream::connect(self.address).await?;
        let mut request = format!("ws://{}{path}", self.address).into_client_request()?;
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Ok(Client(client_async(request, stream).await?.0))
    }

    pub(crate) async fn view(&self, path: &str) -> Client {
        self.connect(path, None).await.unwrap()
    }

    /// At the stock socket, with a token.
    pub(crate) async fn trade(&self) -> Client {
        let token = self.tokens.issue("viewer").into_token();
        self.connect(live::STOCKS_PATH, Some(&token)).await.unwrap()
    }
}

pub(crate) struct Client(WebSocketStream<TcpStream>);

impl Client {
    pub(crate) async fn frame(&mut self) -> Value {
        loop {
            match soon(self.0.next()).await.expect("the connection lives").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a frame but {other:?}"),
            }
        }
    }

    /// The next frame of which this holds.
    pub(crate) async fn frame_where(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        soon(async {
            loop {
                let frame = self.frame().await;
                if holds(&frame) {
                    return frame;
                }
            }
        })
        .await
    }

    pub(crate) async fn send(&mut self, frame: impl ToString) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }
}

/// What a test waits for comes in a few seconds; this bound only ends tests that fail.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}
