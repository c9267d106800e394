//! A server on a free loopback port that says exactly what a test tells it to.

use std::{collections::VecDeque, net::SocketAddr};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{Message, protocol::CloseFrame},
};

use crate::soon;

pub(crate) struct FakeServer {
    listener: TcpListener,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// A server at an address that was in use before.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self { listener: TcpListener::bind(address).await.unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// The next connection, before its upgrade.
    pub(crate) async fn accept_raw(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }

    /// The next connection, upgraded; nothing is read yet.
    pub(crate) async fn accept(&self) -> Peer {
        let socket = soon(accept_async(self.accept_raw().await)).await.unwrap();
        Peer { socket, commands: VecDeque::new() }
    }

    /// The next connection, greeted.
    pub(crate) async fn accept_and_greet(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.greet(json!({"client": "s1", "ping": 25, "pong": true})).await;
        peer
    }
}

/// The server's end of one connection.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    commands: VecDeque<Value>,
}

impl Peer {
    /// The next command of the client.
    pub(crate) async fn command(&mut self) -> Value {
        while self.commands.is_empty() {
            match soon(self.socket.next()).await.expect("the client is connected").unwrap() {
                Message::Text(text) => self.commands.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap())),
                other => panic!("not a command but {other:?}"),
            }
        }
        self.commands.pop_front().unwrap()
    }

    /// What ends the connection from the client's side: the code of its close frame, or none.
    pub(crate) async fn end(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = soon(self.socket.next()).await {
            if let Message::Close(frame) = message {
                code = frame.map(|frame| frame.code.into());
            }
        }
        code
    }

    pub(crate) async fn greet(&mut self, result: Value) {
        let command = self.command().await;
        assert!(command.get("connect").is_some(), "{command}");
        self.send(json!({"id": command["id"], "connect": result})).await;
    }

    /// Expects this request, and answers it.
    pub(crate) async fn answer(&mut self, name: &str, result: Value) -> Value {
        let mut command = self.command().await;
        let request = command.get_mut(name).unwrap_or_else(|| panic!("{name} expected")).take();
        self.send(json!({"id": command["id"], name: result})).await;
        request
    }

    pub(crate) async fn publish(&mut self, topic: &str, data: impl serde::Serialize, offset: u64) {
        self.send(json!({"push": {"channel": topic, "pub": {"data": data, "offset": offset}}})).await;
    }

    pub(crate) async fn send(&mut self, line: Value) {
        self.socket.send(Message::text(line.to_string())).await.unwrap();
    }

    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.socket.send(Message::Close(Some(frame))).await.unwrap();
    }
}
