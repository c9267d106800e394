//! A client without a socket: commands go in as values, lines of text come out.

use std::{io, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    CloseFrame, CloseReason, Command, CommandId, Connect, Connection, Engine, FrameKind, FrameWriter, Framing, Head, Inbound, Opening,
    Outlet, Payload, Protocol, Push, Reply, Request, Since, Start, Subscribe, Subscribed, Topic,
};

/// A protocol of lines for people: what a test compares with. Every command is answered, ids are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineProtocol {
    /// Whether a gap ends the subscription, as for the Centrifuge protocol.
    pub gap_ends: bool,
    /// Whether clients cannot answer pings, as over server-sent events.
    pub only_listens: bool,
    /// Data whose encoding panics; `close` panics when the connection closes.
    pub poison: Option<&'static str>,
}

impl Protocol for LineProtocol {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn encoding(&self) -> u8 {
        200 + u8::from(self.gap_ends) + 2 * u8::from(self.poison.is_some()) + 4 * u8::from(self.only_listens)
    }

    fn decode(&self, _message: Inbound<'_>, _commands: &mut Vec<Command>) {}

    fn encode_reply(&self, _id: &CommandId, reply: &Reply, out: &mut FrameWriter<'_>) {
        match reply {
            Reply::Connected(connected) => {
                out.text(format!("connected {}", connected.user).as_bytes());
                for subscribed in connected.subscriptions.iter().filter(|subscribed| subscribed.topic.namespace() != Some("user")) {
                    self.subscribed(subscribed, out);
                }
            }
            Reply::Subscribed(subscribed) => self.subscribed(subscribed, out),
            Reply::Unsubscribed { topic } => out.text(format!("unsubscribed {}", topic.local()).as_bytes()),
            Reply::Published { topic, position } => {
                let at = position.map_or_else(String::new, |position| format!(" at {}", position.offset));
                out.text(format!("published {}{at}", topic.local()).as_bytes());
            }
            Reply::Presence { topic, sessions } => {
                let mut users: Vec<&str> = sessions.iter().map(|info| info.user.as_str()).collect();
                users.sort_unstable();
                out.text(format!("presence {} {users:?}", topic.local()).as_bytes());
            }
            Reply::PresenceStats { topic, sessions, users } => {
                out.text(format!("presence {} {sessions} {users}", topic.local()).as_bytes());
            }
            Reply::History { topic, position, publications } => {
                let all: Vec<String> = publications.iter().map(|publication| text(&publication.data)).collect();
                out.text(format!("history {} at {} {}", topic.local(), position.offset, all.join(",")).as_bytes());
            }
            Reply::Refreshed { user, left, joined, .. } if !left.is_empty() || !joined.is_empty() => {
                out.text(format!("identity {user} left {left:?} joined {joined:?}").as_bytes());
            }
            Reply::Refreshed { .. } => out.text(b"refreshed"),
            Reply::SubscriptionRefreshed { topic, .. } => out.text(format!("refreshed {}", topic.local()).as_bytes()),
            Reply::CallResult(data) => out.text(format!("result {}", text(data)).as_bytes()),
            Reply::Pong { .. } => out.text(b"pong"),
            Reply::Refused(refusal) => out.text(format!("refused {:?}: {}", refusal.kind, refusal.message).as_bytes()),
        }
    }

    fn encode_push(&self, push: &Push, out: &mut FrameWriter<'_>) {
        match push {
            Push::Publication(publication) => {
                assert_ne!(self.poison, Some(text(&publication.data).as_str()), "planted");
                let at = publication.position.map_or_else(String::new, |position| format!("{}:", position.offset));
                let what = match &publication.key {
                    Some(key) if publication.removed => format!("removed {key}{}", text(&publication.data)),
                    _ => text(&publication.data),
                };
                out.text(format!("{} {at}{what}", publication.topic.local()).as_bytes());
            }
            Push::Join { topic, who } => out.text(format!("join {} {}", topic.local(), who.user).as_bytes()),
            Push::Leave { topic, who } => out.text(format!("leave {} {}", topic.local(), who.user).as_bytes()),
            Push::Gap { topic, gap } => {
                let offset =
                    |position: Option<crate::Position>| position.map_or_else(|| "?".to_owned(), |position| position.offset.to_string());
                out.text(format!("gap {} {}-{} {:?}", topic.local(), offset(gap.from), offset(gap.to), gap.reason).as_bytes());
            }
            Push::Refused(refusal) => out.text(format!("refused {:?}: {}", refusal.kind, refusal.message).as_bytes()),
            Push::Message(data) => out.text(format!("message {}", text(data)).as_bytes()),
            Push::Unsubscribed { topic, reason } => out.text(format!("unsubscribed {} {reason:?}", topic.local()).as_bytes()),
            Push::Subscribed(subscribed) if subscribed.topic.namespace() == Some("user") => {}
            Push::Subscribed(subscribed) => self.subscribed(subscribed, out),
            Push::Refreshed { ttl } => out.text(format!("refreshed for {ttl:?}").as_bytes()),
            Push::Identity { user, left, joined } => {
                out.text(format!("identity {user} left {left:?} joined {joined:?}").as_bytes());
            }
            Push::Expiring { within } => out.text(format!("expiring in {within:?}").as_bytes()),
            Push::Ping => out.text(b"ping"),
            Push::Closing(CloseReason::Refused(refusal)) => self.encode_push(&Push::Refused((**refusal).clone()), out),
            Push::Closing(_) => {}
        }
    }

    fn answers_without_id(&self) -> bool {
        true
    }

    fn gap_ends_subscription(&self) -> bool {
        self.gap_ends
    }

    fn changes_user_in_place(&self) -> bool {
        !self.gap_ends
    }

    fn answers_pings(&self) -> bool {
        !self.only_listens
    }

    fn close_frame(&self, reason: &CloseReason) -> CloseFrame {
        assert_ne!(self.poison, Some("close"), "planted");
        CloseFrame { code: 3000, reason: reason.cause().into() }
    }
}

impl LineProtocol {
    fn subscribed(self, subscribed: &Subscribed, out: &mut FrameWriter<'_>) {
        let at = subscribed.position.map_or_else(String::new, |position| format!(" at {}", position.offset));
        let recovered = subscribed.resume.map_or("", |resume| if resume.recovered { " recovered" } else { " not recovered" });
        out.text(format!("subscribed {}{at}{recovered}", subscribed.topic.local()).as_bytes());
        if let Some(snapshot) = &subscribed.snapshot {
            out.text(format!("snapshot {} {}", subscribed.topic.local(), text(snapshot)).as_bytes());
        }
        for publication in &subscribed.missed {
            self.encode_push(&Push::Publication(publication.clone()), out);
        }
    }
}

fn text(data: &Payload) -> String {
    String::from_utf8_lossy(data.bytes()).into_owned()
}

/// One frame is one line.
#[derive(Clone, Copy, Debug)]
pub struct LineFraming;

impl Framing for LineFraming {
    fn encoding(&self) -> u8 {
        200
    }

    fn frame(&self, kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) {
        if kind == FrameKind::Pong {
            out.extend_from_slice(b"transport pong ");
        }
        out.extend_from_slice(payload);
        out.push(b'\n');
    }

    fn close(&self, frame: &CloseFrame, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("closed {}\n", frame.reason).as_bytes());
    }
}

/// What the outlet of a test client writes to.
#[derive(Default)]
struct Pipe {
    state: Mutex<PipeState>,
    changed: Notify,
}

#[derive(Default)]
struct PipeState {
    bytes: BytesMut,
    /// Bytes that may wait here; more is refused until the client reads.
    capacity: Option<usize>,
    /// The outlet was refused and wants to know when there is room.
    wanted: bool,
    finished: bool,
    /// Calls that took bytes.
    writes: usize,
}

struct PipeOutlet(Arc<Pipe>);

impl Outlet for PipeOutlet {
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        let offered: usize = chunks.iter().map(Bytes::len).sum();
        let room = state.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(state.bytes.len()));
        let taken = offered.min(room);
        let mut left = taken;
        for chunk in chunks {
            let part = left.min(chunk.len());
            state.bytes.extend_from_slice(&chunk[..part]);
            left -= part;
        }
        state.wanted = taken < offered;
        state.writes += usize::from(taken > 0);
        drop(state);
        if taken == 0 && offered > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.changed.notify_one();
        Ok(taken)
    }

    fn finish(&mut self) {
        self.0.state.lock().finished = true;
        self.0.changed.notify_one();
    }
}

impl Drop for PipeOutlet {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A client without a socket. Dropping it ends its connection.
pub struct Client {
    connection: Connection,
    pipe: Arc<Pipe>,
}

impl Client {
    /// Opens a connection that waits for its connect command.
    pub fn open(engine: &Engine) -> Self {
        Self::open_with(engine, LineProtocol::default(), Start::AwaitConnect)
    }

    /// Opens a connection. One that is opened at once has no way out until [`Client::attach`].
    pub fn open_with(engine: &Engine, protocol: LineProtocol, start: Start) -> Self {
        open_protocol(engine, Arc::new(protocol), start)
    }

    /// Opens a connection that speaks any protocol; what it writes is cut into lines. Its commands go in as values all the same.
    pub fn speaking(engine: &Engine, protocol: Arc<dyn Protocol>) -> Self {
        open_protocol(engine, protocol, Start::AwaitConnect)
    }

    /// Attaches the way out of a connection that was opened at once.
    pub fn attach(&self) {
        self.connection.attach(Box::new(PipeOutlet(self.pipe.clone())));
    }

    /// Opens a connection and connects without credentials.
    pub async fn connect(engine: &Engine) -> Self {
        Self::connect_as(engine, LineProtocol::default(), None).await
    }

    /// Opens a connection and connects with a token.
    pub async fn connect_as(engine: &Engine, protocol: LineProtocol, token: Option<&str>) -> Self {
        let mut client = Self::open_with(engine, protocol, Start::AwaitConnect);
        client.send(Request::Connect(Connect { token: token.map(str::to_owned), ..Connect::default() }));
        let answer = client.next().await;
        assert!(answer.starts_with("connected"), "{answer}");
        client
    }

    /// Sends a command.
    pub fn send(&self, request: Request) {
        self.connection.post(vec![Command { id: CommandId::Number(1), request }], 16);
    }

    /// Sends several commands in one read.
    pub fn send_all(&self, requests: impl IntoIterator<Item = Request>) {
        let commands = requests.into_iter().map(|request| Command { id: CommandId::Number(1), request }).collect();
        self.connection.post(commands, 16);
    }

    /// Sends a subscribe.
    pub fn subscribe(&self, topic: &str) {
        self.send(Request::Subscribe(Subscribe::new(parse(topic))));
    }

    /// Sends a subscribe from a position.
    pub fn resume(&self, topic: &str, since: Since) {
        self.send(Request::Subscribe(Subscribe::new(parse(topic)).since(since)));
    }

    /// Sends an unsubscribe.
    pub fn unsubscribe(&self, topic: &str) {
        self.send(Request::Unsubscribe { topic: parse(topic) });
    }

    /// Sends a publish of JSON.
    pub fn publish(&self, topic: &str, json: &str) {
        self.send(publish_request(topic, json));
    }

    /// The connection, for everything else.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The next line; `"finished"` when the pipe has ended. Cancel-safe.
    pub async fn next(&mut self) -> String {
        loop {
            if let Some(line) = self.try_next() {
                return line;
            }
            self.pipe.changed.notified().await;
        }
    }

    /// The next line, if there is one.
    pub fn try_next(&mut self) -> Option<String> {
        let mut state = self.pipe.state.lock();
        let Some(end) = state.bytes.iter().position(|byte| *byte == b'\n') else {
            return state.finished.then(|| "finished".to_owned());
        };
        let line = String::from_utf8_lossy(&state.bytes[..end]).into_owned();
        state.bytes.advance(end + 1);
        let wanted = std::mem::take(&mut state.wanted);
        drop(state);
        if wanted {
            self.connection.writable();
        }
        Some(line)
    }

    /// Whether a line waits.
    pub fn has_lines(&self) -> bool {
        self.pipe.state.lock().bytes.contains(&b'\n')
    }

    /// The next `n` lines.
    pub async fn take(&mut self, n: usize) -> Vec<String> {
        let mut lines = Vec::with_capacity(n);
        for _ in 0..n {
            lines.push(self.next().await);
        }
        lines
    }

    /// Lets the pipe hold only so many bytes until the client reads; `None`: any number.
    pub fn set_capacity(&self, capacity: Option<usize>) {
        let wanted = {
            let mut state = self.pipe.state.lock();
            state.capacity = capacity;
            std::mem::take(&mut state.wanted)
        };
        if wanted {
            self.connection.writable();
        }
    }

    /// How many writes the outlet took.
    pub fn writes(&self) -> usize {
        self.pipe.state.lock().writes
    }
}

/// Opens a connection that speaks any protocol.
pub(crate) fn open_protocol(engine: &Engine, protocol: Arc<dyn Protocol>, start: Start) -> Client {
    let pipe = Arc::new(Pipe::default());
    let opening = Opening {
        protocol,
        framing: Arc::new(LineFraming),
        outlet: matches!(start, Start::AwaitConnect).then(|| Box::new(PipeOutlet(pipe.clone())) as Box<dyn Outlet>),
        head: Head::new("/test"),
        transport: "test",
        start,
    };
    let connection = engine.open(opening).expect("a test engine has room");
    Client { connection, pipe }
}

/// A publish command.
pub(crate) fn publish_request(topic: &str, json: &str) -> Request {
    Request::Publish { topic: parse(topic), data: Payload::json(json.to_owned()), key: None, idempotency_key: None, removed: false }
}

fn parse(topic: &str) -> Topic {
    topic.parse().expect("a test names its topics right")
}
