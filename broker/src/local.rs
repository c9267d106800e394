//! A client inside the process: a whole session with every rule and hook, without a socket. For tests of applications.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use broker_core::{
    CloseFrame, CloseReason, Command, CommandId, Connect, Connection, Engine, FrameKind, Framing, Head, Opening, Outlet, Payload, Position,
    Refusal, Request, Start, Subscribe, Topic,
};
use broker_protocol::{Format, Plain};
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

/// Bytes that wait for the client before its session is a slow consumer.
const INBOX_MAX: usize = 64 * 1024;

/// A client without a socket, from [`Broker::connect_local`](crate::Broker::connect_local).
///
/// Frames come in the order they were sent; what is not read waits, within a bound. Dropping the client ends its session.
///
/// ```
/// use broker::{Broker, Connect};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = Broker::builder().dev().build()?;
/// let mut client = broker.connect_local(Connect::default()).await?;
/// client.subscribe("news").await?;
/// client.publish("news", r#"{"hello":1}"#).await?;
/// let publication = client.next_publication().await.unwrap();
/// assert_eq!((publication.topic.as_str(), publication.data.as_str()), ("news", r#"{"hello":1}"#));
/// # Ok(())
/// # }
/// ```
pub struct LocalClient {
    connection: Connection,
    inbox: Arc<Mutex<Inbox>>,
    last_id: u64,
    /// Frames that came while an answer was waited for.
    waiting: VecDeque<Value>,
}

/// A publication as a [`LocalClient`] gets it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LocalPublication {
    /// Where it was sent.
    pub topic: String,
    /// What was sent, as JSON text: binary data is in base64.
    pub data: String,
    /// Its place in the history; `None` where the namespace keeps none.
    pub position: Option<Position>,
}

/// A command was refused, or the session ended before its answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{word}: {message}")]
#[non_exhaustive]
pub struct LocalRefused {
    /// The stable word, as `permission_denied`.
    pub word: String,
    /// What went wrong.
    pub message: String,
    /// After which time trying again can help, where that is known: what is over a rate.
    pub retry_after: Option<Duration>,
}

/// Opens the session of a client and waits until it is connected.
pub(crate) async fn connect(engine: &Engine, connect: Connect) -> Result<LocalClient, Refusal> {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let opening = Opening {
        protocol: Arc::new(Plain { format: Format::Envelope, dev: true, ..Plain::default() }),
        framing: Arc::new(LocalFraming),
        outlet: Some(Box::new(LocalOutlet(Arc::clone(&inbox)))),
        head: Head::new("/local"),
        transport: "local",
        start: Start::AtOnce { connect, subscriptions: Vec::new() },
    };
    let mut connection = engine.open(opening).map_err(|refused| Refusal::unavailable(refused.to_string()))?;
    connection.opened().await?;
    Ok(LocalClient { connection, inbox, last_id: 0, waiting: VecDeque::new() })
}

impl LocalClient {
    /// Subscribes to a topic; returns when it is live.
    pub async fn subscribe(&mut self, topic: &str) -> Result<(), LocalRefused> {
        let topic = parse(topic)?;
        self.ask(Request::Subscribe(Subscribe::new(topic))).await.map(drop)
    }

    /// Ends a subscription.
    pub async fn unsubscribe(&mut self, topic: &str) -> Result<(), LocalRefused> {
        let topic = parse(topic)?;
        self.ask(Request::Unsubscribe { topic }).await.map(drop)
    }

    /// Publishes one JSON value, as a client may where the namespace lets it.
    pub async fn publish(&mut self, topic: &str, json: impl Into<Bytes>) -> Result<(), LocalRefused> {
        let request =
            Request::Publish { topic: parse(topic)?, data: Payload::json(json), key: None, idempotency_key: None, removed: false };
        self.ask(request).await.map(drop)
    }

    /// Calls a method of the application with one JSON value, and gives its answer as JSON text.
    pub async fn call(&mut self, method: &str, json: impl Into<Bytes>) -> Result<String, LocalRefused> {
        let answer = self.ask(Request::Call { method: method.to_owned(), data: Payload::json(json) }).await?;
        Ok(answer.to_string())
    }

    /// The next publication of any topic, other frames left out; `None` when the session has ended. Cancel-safe.
    pub async fn next_publication(&mut self) -> Option<LocalPublication> {
        loop {
            let frame = self.next_value().await?;
            if frame["broker"] == "publication" {
                let data = frame.get("data").map_or_else(|| frame["b64data"].to_string(), Value::to_string);
                let position = frame["position"].as_str().and_then(|position| position.parse().ok());
                return Some(LocalPublication { topic: frame["topic"].as_str().unwrap_or_default().to_owned(), data, position });
            }
        }
    }

    /// The next frame that answers no command of this client, as JSON text; `None` when the session has ended. Cancel-safe.
    pub async fn next_frame(&mut self) -> Option<String> {
        Some(self.next_value().await?.to_string())
    }

    /// The code and text that the session ended with; `None` while it lives.
    pub fn closed(&self) -> Option<(u16, String)> {
        self.inbox.lock().closed.clone()
    }

    async fn next_value(&mut self) -> Option<Value> {
        match self.waiting.pop_front() {
            Some(frame) => Some(frame),
            None => self.receive().await,
        }
    }

    /// Sends a command and waits for its answer; other frames wait for `next_frame`.
    async fn ask(&mut self, request: Request) -> Result<Value, LocalRefused> {
        self.last_id += 1;
        let id = self.last_id;
        self.connection.post(vec![Command { id: CommandId::Number(id), request }], 0);
        while let Some(frame) = self.receive().await {
            if frame["id"] != id {
                self.waiting.push_back(frame);
            } else if frame["broker"] == "error" {
                let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
                let retry_after = frame["retry_after_ms"].as_u64().map(Duration::from_millis);
                return Err(LocalRefused { word: text("error"), message: text("message"), retry_after });
            } else {
                return Ok(frame);
            }
        }
        let message = self.closed().map_or_else(|| "the session ended".to_owned(), |(code, reason)| format!("closed with {code} {reason}"));
        Err(LocalRefused { word: "closed".to_owned(), message, retry_after: None })
    }

    /// The next frame off the inbox.
    async fn receive(&mut self) -> Option<Value> {
        let frame = poll_fn(|cx| self.inbox.lock().poll_frame(cx, &self.connection)).await?;
        // What is no JSON is a message of the application's own, as text.
        Some(serde_json::from_slice(&frame).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&frame))))
    }
}

impl fmt::Debug for LocalClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalClient").field("connection", &self.connection).finish_non_exhaustive()
    }
}

fn parse(topic: &str) -> Result<Topic, LocalRefused> {
    let refused =
        |error: broker_core::InvalidTopic| LocalRefused { word: "bad_request".to_owned(), message: error.to_string(), retry_after: None };
    topic.parse().map_err(refused)
}

/// Frames as the client takes them apart again: kind, length, payload.
#[derive(Debug)]
struct LocalFraming;

const HEADER_LEN: usize = 5;
const MESSAGE: u8 = 0;
const PING: u8 = 1;
const CLOSE: u8 = 2;

impl Framing for LocalFraming {
    fn encoding(&self) -> u8 {
        // No transport of ours has this number.
        250
    }

    fn frame(&self, kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        out.push(match kind {
            FrameKind::Text | FrameKind::Binary => MESSAGE,
            FrameKind::Ping | FrameKind::Pong => PING,
        });
        out.extend((payload.len() as u32).to_be_bytes());
        out.extend_from_slice(payload);
    }

    fn close(&self, frame: &CloseFrame, out: &mut Vec<u8>) {
        out.push(CLOSE);
        out.extend((frame.reason.len() as u32 + 2).to_be_bytes());
        out.extend(frame.code.to_be_bytes());
        out.extend_from_slice(frame.reason.as_bytes());
    }
}

/// What the session wrote and the client has not read.
#[derive(Default)]
struct Inbox {
    bytes: VecDeque<u8>,
    ended: bool,
    /// The last write did not take everything.
    want: bool,
    closed: Option<(u16, String)>,
    reader: Option<Waker>,
}

impl Inbox {
    /// The payload of the next message; pings are answered here.
    fn poll_frame(&mut self, cx: &mut Context<'_>, connection: &Connection) -> Poll<Option<Vec<u8>>> {
        while let Some((kind, payload)) = self.take_frame() {
            if std::mem::take(&mut self.want) {
                connection.writable();
            }
            match (kind, payload.split_first_chunk()) {
                (PING, _) => connection.heard(),
                (CLOSE, Some((code, reason))) => {
                    self.closed = Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()));
                }
                _ => return Poll::Ready(Some(payload)),
            }
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let header: Vec<u8> = self.bytes.iter().take(HEADER_LEN).copied().collect();
        let len: [u8; 4] = header.get(1..HEADER_LEN)?.try_into().expect("four bytes were taken");
        let total = HEADER_LEN + u32::from_be_bytes(len) as usize;
        if self.bytes.len() < total {
            return None;
        }
        let frame: Vec<u8> = self.bytes.drain(..total).collect();
        Some((header[0], frame[HEADER_LEN..].to_vec()))
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

struct LocalOutlet(Arc<Mutex<Inbox>>);

impl Outlet for LocalOutlet {
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize> {
        let mut inbox = self.0.lock();
        let mut taken = 0;
        for chunk in chunks {
            if inbox.bytes.len() >= INBOX_MAX {
                inbox.want = true;
                break;
            }
            // Whole chunks, so that the bound is passed by one at most and a long frame gets through.
            inbox.bytes.extend(chunk);
            taken += chunk.len();
        }
        inbox.wake();
        Ok(taken)
    }

    fn finish(&mut self) {
        let mut inbox = self.0.lock();
        inbox.ended = true;
        inbox.wake();
    }
}

impl Drop for LocalOutlet {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Ends a session as a client that closes its socket does.
impl Drop for LocalClient {
    fn drop(&mut self) {
        self.connection.close(CloseReason::ClientLeft { code: Some(1000) });
    }
}
