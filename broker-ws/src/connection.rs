//! The task of one connection: reads, decodes, and waits for readiness. It never writes frames; the hub's shard does.
//!
//! One small hand-written future, because every connection holds one for as long as it lives.

use std::{
    borrow::Cow,
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use broker_core::{CloseReason, Command, Protocol};
use bytes::Bytes;
use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep},
};

use crate::{
    Event, Reader, WsLimits,
    pipe::{Out, Pipe},
    port::Port,
    seats::Seat,
};

/// Bytes that one read takes at most; the buffer belongs to the thread, not to the connection.
const SCRATCH_LEN: usize = 16 * 1024;

/// Reads of one poll, so that a busy client leaves time to the others of its thread.
const READS_MAX: usize = 4;

/// The future of one connection; ends when the pipe is to be dropped.
pub(crate) struct ConnectionTask<P, S> {
    port: S,
    pipe: P,
    protocol: Arc<dyn Protocol>,
    limits: Arc<WsLimits>,
    reader: Reader,
    state: State,
    /// Bytes of reads that finished no command yet; the next commands bring them along, so that cutting a message up does not make it smaller.
    unposted_bytes: u32,
    /// Of the unfinished message, or of the lingering; made when it is needed.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Held for as long as the connection lives.
    _seat: Option<Seat>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    /// The hub wants no more for the moment.
    Paused,
    /// The end was told to the hub, which has not finished the outlet.
    Ending,
    /// The outlet is finished; only the peer's end is missing.
    Lingering,
}

impl<P: Pipe, S: Port> ConnectionTask<P, S> {
    pub(crate) fn new(port: S, pipe: P, protocol: Arc<dyn Protocol>, limits: Arc<WsLimits>, seat: Option<Seat>) -> Self {
        Self { port, pipe, protocol, limits, reader: Reader::default(), state: State::Open, unposted_bytes: 0, deadline: None, _seat: seat }
    }

    /// Takes bytes that were read before the task began.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let read = self.read_messages(&mut bytes.to_vec());
            self.hand_over(read, bytes.len());
        }
    }

    /// Serves the way out. Ready: the pipe is broken.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.state != State::Lingering {
            match self.pipe.poll_out(cx) {
                Poll::Ready(Ok(Out::Writable)) => self.port.writable(),
                Poll::Ready(Ok(Out::Finished)) => {
                    if self.state != State::Ending {
                        self.arm(self.limits.linger_timeout);
                    }
                    self.state = State::Lingering;
                }
                Poll::Ready(Err(error)) => {
                    self.port.close(broke(&error));
                    return Poll::Ready(());
                }
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// Reads commands. Ready: the pipe is broken or ended.
    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..READS_MAX {
            if self.port.poll_ready(cx).is_pending() {
                self.state = State::Paused;
                self.deadline = None;
                return Poll::Pending;
            }
            if self.state == State::Paused {
                // The client is not to blame for the time that the hub took.
                self.state = State::Open;
                self.reader.forgive(Instant::now().into_std());
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                match self.pipe.poll_read(cx, &mut buf) {
                    Poll::Ready(Ok(())) if buf.filled().is_empty() => Poll::Ready(Err(CloseReason::TransportBroke("end of stream".into()))),
                    Poll::Ready(Ok(())) => Poll::Ready(Ok((self.read_messages(buf.filled_mut()), buf.filled().len()))),
                    Poll::Ready(Err(error)) => Poll::Ready(Err(broke(&error))),
                    Poll::Pending => Poll::Pending,
                }
            });
            match read {
                Poll::Ready(Ok((read, len))) => self.hand_over(read, len),
                Poll::Ready(Err(reason)) => {
                    self.port.close(reason);
                    return Poll::Ready(());
                }
                Poll::Pending => return self.poll_message_deadline(cx),
            }
            if self.state == State::Ending {
                // What is left of the turn belongs to the end.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Puts messages together and decodes them.
    fn read_messages(&mut self, bytes: &mut [u8]) -> Read {
        let mut read = Read::default();
        let (protocol, Read { commands, ping, end }) = (&*self.protocol, &mut read);
        let result = self.reader.read(bytes, &self.limits, Instant::now().into_std(), &mut |event| match event {
            Event::Message(message) => protocol.decode(message, commands),
            // spec: RFC 6455, section 5.5.3: only the newest ping needs an answer
            Event::Ping(payload) => *ping = Some(Bytes::copy_from_slice(payload)),
            Event::Pong => {}
        });
        *end = result.err();
        read
    }

    /// Tells the hub what was read, in the order it matters: commands, then signs of life, then the end.
    fn hand_over(&mut self, Read { commands, ping, end }: Read, bytes: usize) {
        let nothing_said = commands.is_empty() && ping.is_none();
        self.unposted_bytes = self.unposted_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if !commands.is_empty() {
            self.port.post(commands, std::mem::take(&mut self.unposted_bytes) as usize);
        }
        if let Some(payload) = ping {
            self.port.ping(payload);
        }
        match end {
            Some(reason) => self.end(reason),
            None if nothing_said => self.port.heard(),
            None => {}
        }
    }

    /// Closes from our side: what comes from here on is thrown away, until the peer ends or the time is up.
    fn end(&mut self, reason: CloseReason) {
        self.port.close(reason);
        self.state = State::Ending;
        self.arm(self.limits.linger_timeout);
    }

    fn poll_message_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.reader.unfinished_since() else {
            self.deadline = None;
            return Poll::Pending;
        };
        let timeout = self.limits.message_timeout;
        let at = Instant::from_std(since) + timeout;
        match &mut self.deadline {
            Some(deadline) if deadline.deadline() == at => {}
            Some(deadline) => deadline.as_mut().reset(at),
            None => self.deadline = Some(Box::pin(tokio::time::sleep_until(at))),
        }
        if self.poll_deadline(cx).is_ready() {
            self.end(CloseReason::TransportViolation(format!("a message was not finished within {timeout:?}").into()));
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Throws away what still comes. Ready: the peer ended, or the time is up.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..READS_MAX {
            let len = SCRATCH.with_borrow_mut(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                self.pipe.poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
            });
            match len {
                // Where the peer ended first, what the hub has to say may still be on its way out.
                Poll::Ready(Ok(0) | Err(_)) if self.state == State::Lingering => return Poll::Ready(()),
                Poll::Ready(Ok(0) | Err(_)) | Poll::Pending => return self.poll_deadline(cx),
                Poll::Ready(Ok(_)) => {}
            }
        }
        cx.waker().wake_by_ref();
        self.poll_deadline(cx)
    }

    fn arm(&mut self, timeout: Duration) {
        self.deadline = Some(Box::pin(tokio::time::sleep(timeout)));
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.deadline.as_mut().map_or(Poll::Pending, |deadline| deadline.as_mut().poll(cx))
    }
}

impl<P: Pipe, S: Port> Future for ConnectionTask<P, S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.poll_out(cx).is_ready() {
            return Poll::Ready(());
        }
        match this.state {
            State::Open | State::Paused => this.poll_commands(cx),
            State::Ending | State::Lingering => this.poll_end(cx),
        }
    }
}

/// What one read brought.
#[derive(Default)]
struct Read {
    commands: Vec<Command>,
    ping: Option<Bytes>,
    end: Option<CloseReason>,
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_LEN].into());
}

fn broke(error: &io::Error) -> CloseReason {
    CloseReason::TransportBroke(match error.kind() {
        io::ErrorKind::ConnectionReset => Cow::Borrowed("reset by peer"),
        io::ErrorKind::TimedOut => Cow::Borrowed("the peer acknowledged nothing in time"),
        _ => Cow::Owned(error.to_string()),
    })
}

#[cfg(test)]
mod tests;
