//! The load: many subscribers of one topic on one thread, which check that every publication comes once and in order, and one publisher.

use std::io::{ErrorKind, Read, Write};
use std::net::{self, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::frames;

/// Silence that ends the bench.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that are opened between two looks at those that are open.
const OPENED_AT_ONCE: usize = 256;

/// Whom the load talks to.
#[derive(Clone, Copy)]
pub(crate) enum Peer<'a> {
    /// A broker, over the plain protocol, with this topic.
    Broker { topic: &'a str },
    /// A broker, over server-sent events, with this topic.
    Events { topic: &'a str },
    /// The bare loop, which knows no handshake.
    Floor,
}

/// Subscribers of one topic.
pub(crate) struct Subscribers {
    poll: Poll,
    events: Events,
    all: Vec<Subscriber>,
    scratch: Box<[u8]>,
}

struct Subscriber {
    stream: TcpStream,
    first: fn(&[u8]) -> Option<frames::Frame<'_>>,
    /// Number of the last frame.
    received: u64,
    /// The beginning of a frame.
    rest: Vec<u8>,
}

impl Subscribers {
    /// Connects and subscribes.
    pub(crate) fn connect(address: SocketAddr, peer: Peer<'_>, count: usize) -> Result<Self> {
        let scratch = vec![0; 64 * 1024].into();
        let mut subscribers = Self { poll: Poll::new()?, events: Events::with_capacity(1024), all: Vec::with_capacity(count), scratch };
        for place in 0..count {
            let (stream, rest) = open(address, peer).with_context(|| format!("subscriber {place} of {count}"))?;
            let mut stream = TcpStream::from_std(stream);
            subscribers.poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
            let first = if let Peer::Events { .. } = peer { frames::first_event } else { frames::first };
            subscribers.all.push(Subscriber { stream, first, received: 0, rest });
            if place % OPENED_AT_ONCE == 0 {
                subscribers.read(Duration::ZERO, u64::MAX)?;
            }
        }
        Ok(subscribers)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Answers pings for a while, in which nothing is published.
    pub(crate) fn idle(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while let Some(rest) = end.checked_duration_since(Instant::now()) {
            self.read(rest, u64::MAX)?;
        }
        Ok(())
    }

    /// Reads until every subscriber has every frame up to this number.
    fn wait_for(&mut self, number: u64) -> Result<()> {
        let mut missing = self.all.iter().filter(|subscriber| subscriber.received < number).count();
        let mut heard_at = Instant::now();
        while missing > 0 {
            let completed = self.read(Duration::from_secs(1), number)?;
            if completed > 0 {
                heard_at = Instant::now();
            }
            missing -= completed;
            ensure!(heard_at.elapsed() < PATIENCE, "{missing} subscribers have not got number {number}");
        }
        Ok(())
    }

    /// Reads what is there, or comes within `timeout`. Says how many subscribers have reached `number` by it.
    fn read(&mut self, timeout: Duration, number: u64) -> Result<usize> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            polled => polled?,
        }
        let mut completed = 0;
        for event in &self.events {
            let subscriber = &mut self.all[event.token().0];
            let before = subscriber.received;
            subscriber.read(&mut self.scratch)?;
            completed += usize::from(before < number && number <= subscriber.received);
        }
        Ok(completed)
    }
}

impl Subscriber {
    fn read(&mut self, scratch: &mut [u8]) -> Result<()> {
        loop {
            let len = match self.stream.read(scratch) {
                Ok(0) => bail!("a subscriber was disconnected"),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("a subscriber was cut off"),
            };
            if self.rest.is_empty() {
                let taken = self.take(&scratch[..len])?;
                self.rest.extend(&scratch[taken..len]);
            } else {
                let mut bytes = std::mem::take(&mut self.rest);
                bytes.extend(&scratch[..len]);
                let taken = self.take(&bytes)?;
                self.rest.extend(&bytes[taken..]);
            }
            // A short read emptied the socket: epoll tells when there is more.
            if len < scratch.len() {
                return Ok(());
            }
        }
    }

    /// Takes whole frames. Says how many bytes they were.
    fn take(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut taken = 0;
        while let Some(frame) = (self.first)(&bytes[taken..]) {
            match frame.opcode {
                frames::TEXT => {
                    self.received += 1;
                    frames::check(frame.payload, self.received)?;
                }
                frames::PING => self.stream.write_all(&frames::pong(frame.payload))?,
                _ => bail!("a subscriber was told to go: {:?}", String::from_utf8_lossy(frame.payload)),
            }
            taken += frame.len;
        }
        Ok(taken)
    }
}

/// Who publishes.
pub(crate) struct Publisher<'a> {
    stream: net::TcpStream,
    peer: Peer<'a>,
    published: u64,
    /// The beginning of a frame.
    rest: Vec<u8>,
}

impl<'a> Publisher<'a> {
    pub(crate) fn connect(address: SocketAddr, peer: Peer<'a>) -> Result<Self> {
        // Nothing can be published over a stream of events.
        let (connects_to, peer) = match peer {
            Peer::Broker { topic } | Peer::Events { topic } => (Peer::Broker { topic: "" }, Peer::Broker { topic }),
            Peer::Floor => (peer, peer),
        };
        let (stream, rest) = open(address, connects_to).context("the publisher")?;
        Ok(Self { stream, peer, published: 0, rest })
    }

    /// Publishes `bursts` times `size` publications; each burst when all subscribers have the one before.
    pub(crate) fn publish(&mut self, subscribers: &mut Subscribers, bursts: u64, size: u64) -> Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..bursts {
            bytes.clear();
            for number in self.published + 1..=self.published + size {
                bytes.extend(match self.peer {
                    Peer::Broker { topic } | Peer::Events { topic } => frames::publish(topic, number),
                    Peer::Floor => frames::to_subscriber(number),
                });
            }
            self.published += size;
            self.stream.write_all(&bytes).context("a burst was not taken at once")?;
            subscribers.wait_for(self.published)?;
            self.take_answers()?;
        }
        Ok(())
    }

    /// Reads what the server says, and answers its pings.
    pub(crate) fn take_answers(&mut self) -> Result<()> {
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => bail!("the publisher was disconnected"),
            Ok(len) => self.rest.extend(&part[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(frame) = frames::first(&self.rest) {
            let text = String::from_utf8_lossy(frame.payload);
            match frame.opcode {
                frames::TEXT => ensure!(text.starts_with(r#"{"broker":"ok""#), "a publish was refused: {text}"),
                frames::PING => self.stream.write_all(&frames::pong(frame.payload))?,
                _ => bail!("the publisher was told to go: {text}"),
            }
            self.rest.drain(..frame.len);
        }
        Ok(())
    }
}

/// Connects; with a broker, asks for a WebSocket or a stream of events that listens to the topic. Gives what came behind the answer, too.
fn open(address: SocketAddr, peer: Peer<'_>) -> Result<(net::TcpStream, Vec<u8>)> {
    let (stream, rest) = ask(net::TcpStream::connect(address)?, address, peer)?;
    stream.set_nonblocking(true)?;
    Ok((stream, rest))
}

/// A blocking WebSocket that listens to the topic, whose client holds no more than so many bytes (as the kernel counts them).
pub(crate) fn open_small(address: SocketAddr, topic: &str, receive_buffer: Option<usize>) -> Result<net::TcpStream> {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt::set_socket_recv_buffer_size};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        set_socket_recv_buffer_size(&socket, bytes)?;
    }
    connect(&socket, &address)?;
    let (stream, rest) = ask(socket.into(), address, Peer::Broker { topic })?;
    ensure!(rest.is_empty(), "nobody has published yet");
    Ok(stream)
}

/// A blocking WebSocket that listens to the topic, with what it was sent already.
pub(crate) fn open_reading(address: SocketAddr, topic: &str) -> Result<(net::TcpStream, Vec<u8>)> {
    ask(net::TcpStream::connect(address)?, address, Peer::Broker { topic })
}

/// Asks for what the peer serves. Gives what came behind the answer, too.
fn ask(mut stream: net::TcpStream, address: SocketAddr, peer: Peer<'_>) -> Result<(net::TcpStream, Vec<u8>)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    if let Peer::Broker { topic } = peer {
        let slash = if topic.is_empty() { "" } else { "/" };
        let request = format!(
            "GET /ws{slash}{topic} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
    }
    if let Peer::Events { topic } = peer {
        stream.write_all(format!("GET /sse/{topic} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
    }
    // The floor says as little as can be said: that it has accepted the connection.
    let (end, granted): (&[u8], &[u8]) = match peer {
        Peer::Broker { .. } => (b"\r\n\r\n", b"HTTP/1.1 101 "),
        Peer::Events { .. } => (b"\r\n\r\n", b"HTTP/1.1 200 "),
        Peer::Floor => (b"!", b""),
    };
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 1024];
        let len = stream.read(&mut part).context("no answer")?;
        ensure!(len > 0, "disconnected after {:?}", String::from_utf8_lossy(&answer));
        answer.extend(&part[..len]);
        if let Some(at) = answer.windows(end.len()).position(|window| window == end) {
            let rest = answer.split_off(at + end.len());
            ensure!(answer.starts_with(granted), "refused: {}", String::from_utf8_lossy(&answer));
            return Ok((stream, rest));
        }
    }
}
