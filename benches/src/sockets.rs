//! Many WebSockets on one thread, each of which hears whole frames. What the frames say lives in `chatting` and `watching`.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{frames, http};

/// The sockets, by their places.
pub(crate) struct Sockets {
    poll: Poll,
    events: Events,
    all: Vec<Socket>,
    scratch: Box<[u8]>,
}

struct Socket {
    stream: TcpStream,
    /// The beginning of a frame.
    rest: Vec<u8>,
}

impl Sockets {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(1024), all: Vec::new(), scratch: vec![0; 256 * 1024].into() })
    }

    /// Opens one more; what the server says at once is heard with the next [`Sockets::hear`].
    pub(crate) fn open(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        let (stream, rest) = http::open(address, path)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(self.all.len()), Interest::READABLE)?;
        self.all.push(Socket { stream, rest });
        Ok(())
    }

    pub(crate) fn send(&mut self, place: usize, text: &str) -> Result<()> {
        self.all[place].stream.write_all(&frames::from_client(frames::TEXT, text.as_bytes())).context("a frame was not taken at once")
    }

    /// What the handshakes' answers brought along, once.
    pub(crate) fn hear_rests(&mut self, hear: &mut impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        for place in 0..self.all.len() {
            self.all[place].take(place, &[], hear)?;
        }
        Ok(())
    }

    /// Hears what is there, or comes within `timeout`. Pings are answered.
    pub(crate) fn hear(&mut self, timeout: Duration, hear: &mut impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            let place = event.token().0;
            loop {
                let len = match self.all[place].stream.read(&mut self.scratch) {
                    Ok(0) => bail!("client {place} was disconnected"),
                    Ok(len) => len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).with_context(|| format!("client {place} was cut off")),
                };
                self.all[place].take(place, &self.scratch[..len], hear)?;
                // A short read emptied the socket: epoll tells when there is more.
                if len < self.scratch.len() {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Socket {
    fn take(&mut self, place: usize, part: &[u8], hear: &mut impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        let rest = std::mem::take(&mut self.rest);
        let joined;
        let bytes = if rest.is_empty() {
            part
        } else {
            joined = [&rest, part].concat();
            &joined[..]
        };
        let mut taken = 0;
        while let Some(frame) = frames::first(&bytes[taken..]) {
            match frame.opcode {
                frames::TEXT => hear(place, frame.payload)?,
                frames::PING => self.stream.write_all(&frames::pong(frame.payload))?,
                _ => bail!("client {place} was told to go: {:?}", String::from_utf8_lossy(frame.payload)),
            }
            taken += frame.len;
        }
        self.rest = bytes[taken..].to_vec();
        Ok(())
    }
}
