//! A client that sends hostile frames and knows what must come back.

use std::collections::VecDeque;

use broker_protocol::testing::{HostileAnswer, HostileFrame, HostileProtocol};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::{
    Frame,
    coding::{Data, OpCode},
};

use crate::PATIENCE;

/// What the server said: an object, or how it closed.
#[derive(Debug)]
enum Heard {
    Object(Value),
    Closed { code: u16, reason: String },
}

pub(crate) struct Peer {
    protocol: HostileProtocol,
    socket: WebSocketStream<TcpStream>,
    /// Objects of a frame that held several.
    waiting: VecDeque<Value>,
    /// Numbers the questions of [`Peer::expect_alive`], far from what is generated.
    asked: u64,
}

impl Peer {
    /// Connects; on Centrifuge with the first command answered.
    pub(crate) async fn open(address: &str, protocol: HostileProtocol) -> Self {
        let path = match protocol {
            HostileProtocol::Centrifuge => "/connection/websocket",
            HostileProtocol::Plain => "/ws/hostile",
        };
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("a socket has options");
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}{path}"), stream).await.expect("the handshake is fine");
        let mut peer = Self { protocol, socket, waiting: VecDeque::new(), asked: 1 << 40 };
        if protocol == HostileProtocol::Centrifuge {
            peer.send_text(r#"{"id":1,"connect":{}}"#).await;
            let answer = peer.hear().await;
            assert!(matches!(&answer, Ok(Heard::Object(value)) if value["id"] == 1 && value["connect"].is_object()), "{answer:?}");
        }
        peer
    }

    /// Sends a frame and waits for what it must be answered with. `true` when that was the end of the connection.
    pub(crate) async fn send_and_expect(&mut self, frame: &HostileFrame) -> Result<bool, String> {
        let code = OpCode::Data(if frame.text { Data::Text } else { Data::Binary });
        let message = Message::Frame(Frame::message(frame.bytes.clone(), code, true));
        self.socket.send(message).await.map_err(|error| format!("the connection was gone before: {error}"))?;
        let heard = self.hear().await?;
        match (&frame.answer, &heard) {
            (HostileAnswer::Error { id }, Heard::Object(value)) => self.is_error(value, Some(id)).map(|()| false),
            (HostileAnswer::ErrorWithoutId, Heard::Object(value)) => self.is_error(value, None).map(|()| false),
            (HostileAnswer::Close, Heard::Closed { code: 3501, reason }) if !reason.is_empty() => Ok(true),
            (HostileAnswer::Violation, Heard::Closed { code: 1007 | 1002, .. }) => Ok(true),
            _ => Err(format!("answered with {heard:?}")),
        }
    }

    fn is_error(&self, value: &Value, id: Option<&str>) -> Result<(), String> {
        let expected: Value = id.map_or(Value::Null, |text| serde_json::from_str(text).expect("generated ids are JSON"));
        let error = match self.protocol {
            HostileProtocol::Centrifuge => &value["error"],
            HostileProtocol::Plain if value["broker"] == "error" => value,
            HostileProtocol::Plain => &Value::Null,
        };
        let code = error["code"].as_u64().unwrap_or_default();
        let text = error["message"].as_str().unwrap_or_default();
        if (100..=113).contains(&code) && !text.is_empty() && value["id"] == expected {
            Ok(())
        } else {
            Err(format!("answered with {value}"))
        }
    }

    /// Asks something valid and waits for its answer.
    pub(crate) async fn expect_alive(&mut self) {
        self.asked += 1;
        let id = self.asked;
        self.send_text(&match self.protocol {
            HostileProtocol::Centrifuge => format!(r#"{{"id":{id},"history":{{"channel":"alive"}}}}"#),
            HostileProtocol::Plain => format!(r#"{{"broker":"history","id":{id},"topic":"alive"}}"#),
        })
        .await;
        let heard = self.hear().await.expect("the connection lives");
        let Heard::Object(value) = &heard else { panic!("{heard:?}") };
        assert!(value["id"] == id && (value["history"].is_object() || value["broker"] == "ok"), "{value}");
    }

    /// Sends the same mistake again and again, at most `limit` times; answers how many were answered, and the close code.
    pub(crate) async fn repeat_until_closed(&mut self, mistake: &str, limit: usize) -> (usize, u16) {
        for answered in 0..limit {
            self.send_text(mistake).await;
            match self.hear().await.expect("an answer or a close") {
                Heard::Object(_) => {}
                Heard::Closed { code, .. } => return (answered, code),
            }
        }
        panic!("{limit} mistakes were answered");
    }

    async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the connection lives");
    }

    /// The next object or the close. Pings of both kinds are answered and passed over, and so is the farewell before a close.
    async fn hear(&mut self) -> Result<Heard, String> {
        loop {
            if let Some(value) = self.waiting.pop_front() {
                if value["broker"] == "closing" {
                    continue;
                }
                return Ok(Heard::Object(value));
            }
            let next = timeout(PATIENCE, self.socket.next()).await.map_err(|_| "not answered".to_owned())?;
            match next {
                Some(Ok(Message::Text(text))) if text.as_str() == "{}" => self.send_text("{}").await,
                Some(Ok(Message::Text(text))) => {
                    for line in text.lines() {
                        self.waiting.push_back(serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?);
                    }
                }
                Some(Ok(Message::Close(Some(close)))) => {
                    return Ok(Heard::Closed { code: close.code.into(), reason: close.reason.to_string() });
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return Err(format!("the connection ended with {other:?}")),
            }
        }
    }
}
