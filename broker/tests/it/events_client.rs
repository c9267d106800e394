//! A client of server-sent events over a bare socket: reads the head, takes the chunks apart, and reads lines as an `EventSource` does.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Long enough for a loaded machine; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// One event, as a page sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Event {
    /// `message` where the stream says nothing.
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) last_event_id: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A stream of events that fails the test instead of waiting for ever.
pub(crate) struct Events<S = TcpStream> {
    pipe: S,
    /// The head of the answer, in lower case.
    pub(crate) head: String,
    /// What came and is not taken apart.
    chunked: Vec<u8>,
    /// Lines that are not read.
    text: Vec<u8>,
    is_over: bool,
    pub(crate) last_event_id: String,
    pub(crate) retry: Option<u64>,
    /// Everything that the stream said, for tests about bytes.
    pub(crate) raw: String,
}

impl Events {
    /// Asks for a path that must be granted.
    pub(crate) async fn open(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let events = Self::over(stream, path, headers).await;
        assert!(events.head.starts_with("http/1.1 200 "), "{path}: {}", events.head);
        events
    }

    /// Asks for a path that is refused: status, head and body.
    pub(crate) async fn refused(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, String, Value) {
        let mut events = Self::over(TcpStream::connect(addr).await.unwrap(), path, headers).await;
        let status = events.head[9..12].parse().unwrap();
        assert_ne!(status, 200, "{path} is granted");
        let len = events.head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |len| len.parse().unwrap());
        while events.chunked.len() < len {
            assert!(events.read().await, "the body is cut");
        }
        (status, events.head.clone(), serde_json::from_slice(&events.chunked).unwrap_or_default())
    }

    pub(crate) fn pipe(&self) -> &TcpStream {
        &self.pipe
    }
}

impl<S: AsyncRead + tokio::io::AsyncWrite + Unpin> Events<S> {
    pub(crate) async fn over(mut pipe: S, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: broker.test\r\nAccept: text/event-stream\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        pipe.write_all(head.as_bytes()).await.unwrap();
        let mut events = Self {
            pipe,
            head: String::new(),
            chunked: Vec::new(),
            text: Vec::new(),
            is_over: false,
            last_event_id: String::new(),
            retry: None,
            raw: String::new(),
        };
        let end = loop {
            if let Some(at) = events.chunked.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            assert!(events.read().await, "the connection ended before a head came");
        };
        let rest = events.chunked.split_off(end + 4);
        events.head = String::from_utf8(std::mem::replace(&mut events.chunked, rest)).unwrap().to_lowercase();
        events
    }

    /// The value of a header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    async fn read(&mut self) -> bool {
        // A reset counts as the end.
        timeout(PATIENCE, self.pipe.read_buf(&mut self.chunked)).await.expect("something comes").is_ok_and(|len| len > 0)
    }

    /// Takes whole chunks off the front.
    fn dechunk(&mut self) {
        while let Some(end) = self.chunked.windows(2).position(|bytes| bytes == b"\r\n") {
            let len = usize::from_str_radix(std::str::from_utf8(&self.chunked[..end]).unwrap(), 16).unwrap();
            if self.chunked.len() < end + 4 + len {
                return;
            }
            let chunk: Vec<u8> = self.chunked.drain(..end + 4 + len).skip(end + 2).take(len).collect();
            self.is_over |= len == 0;
            self.raw.push_str(&String::from_utf8_lossy(&chunk));
            self.text.extend_from_slice(&chunk);
        }
    }

    /// The next block of lines, comments included; `None`: the stream has ended, or the connection has.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            self.dechunk();
            if let Some(end) = self.text.windows(2).position(|bytes| bytes == b"\n\n") {
                let block = self.text.drain(..end + 2).collect();
                return Some(String::from_utf8(block).unwrap());
            }
            if self.is_over || !self.read().await {
                return None;
            }
        }
    }

    /// The next event.
    ///
    /// spec: HTML, section 9.2.6
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let (mut kind, mut data) = (String::new(), None::<String>);
            for line in block.lines() {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "id" => value.clone_into(&mut self.last_event_id),
                    "event" => value.clone_into(&mut kind),
                    "retry" => self.retry = Some(value.parse().unwrap()),
                    "data" => data = Some(data.map_or_else(|| value.to_owned(), |data| format!("{data}\n{value}"))),
                    "" => {}
                    other => panic!("{other} is no field"),
                }
            }
            if let Some(data) = data {
                let kind = if kind.is_empty() { "message".to_owned() } else { kind };
                return Some(Event { kind, data, last_event_id: self.last_event_id.clone() });
            }
        }
    }

    /// The data of the next event, which is a publication.
    pub(crate) async fn data(&mut self) -> String {
        match self.next().await {
            Some(event) if event.kind == "message" => event.data,
            other => panic!("a publication was expected, not {other:?}"),
        }
    }

    /// The next publication in an envelope; what the broker says before it is left out.
    pub(crate) async fn publication(&mut self) -> Value {
        loop {
            match self.next().await {
                Some(event) if event.kind == "message" => return event.json(),
                Some(_) => {}
                None => panic!("a publication was expected, not the end"),
            }
        }
    }

    /// What the broker says with the next event.
    pub(crate) async fn notice(&mut self) -> Value {
        match self.next().await {
            Some(event) if event.kind == "broker" => event.json(),
            other => panic!("a notice was expected, not {other:?}"),
        }
    }

    /// The first id, which comes before the first publication.
    pub(crate) async fn first_id(&mut self) -> String {
        while self.last_event_id.is_empty() {
            let block = self.block().await.expect("the stream goes on");
            assert!(!block.contains("data:"), "an event precedes the first id: {block}");
            for line in block.lines() {
                if let Some(id) = line.strip_prefix("id: ") {
                    id.clone_into(&mut self.last_event_id);
                }
            }
        }
        self.last_event_id.clone()
    }
}
