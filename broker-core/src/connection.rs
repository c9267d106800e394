//! The transport's side of a connection: what its task holds, and how it reaches the session.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    CloseReason, Command, Framing, Head, Outlet, Protocol, Refusal, SessionId, Start,
    hub::{Credit, Hub, Item, SlotRef},
};

/// What a transport brings to open a connection.
pub struct Opening {
    /// The language on the pipe.
    pub protocol: Arc<dyn Protocol>,
    /// How messages become frames.
    pub framing: Arc<dyn Framing>,
    /// The way out; `None`: it is attached later, and what is written until then waits.
    pub outlet: Option<Box<dyn Outlet>>,
    /// The head of the request.
    pub head: Head,
    /// The kind of pipe, for the log: `websocket`.
    pub transport: &'static str,
    /// How the session begins.
    pub start: Start,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("protocol", &self.protocol.name()).field("head", &self.head).finish_non_exhaustive()
    }
}

/// Why a connection was not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenRefused {
    /// This node has as many connections as it may have.
    #[error("this node has as many connections as it may have ({max})")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// This node is draining; connect to another one, or again later.
    #[error("this node is draining")]
    Draining,
    /// The broker has been closed.
    #[error("the broker is closed")]
    Closed,
}

/// The transport's handle of an open connection, held by the connection's task. Dropping it means that the pipe is gone.
///
/// Nothing here blocks.
pub struct Connection {
    hub: Arc<Hub>,
    at: SlotRef,
    session: SessionId,
    credit: Arc<Credit>,
    opened: Option<oneshot::Receiver<Result<(), Refusal>>>,
}

impl Connection {
    pub(crate) fn new(
        hub: Arc<Hub>,
        at: SlotRef,
        session: SessionId,
        credit: Arc<Credit>,
        opened: Option<oneshot::Receiver<Result<(), Refusal>>>,
    ) -> Self {
        Self { hub, at, session, credit, opened }
    }

    /// The session's id.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Waits until a session that was opened [at once](Start::AtOnce) is connected and all its topics are live, or for the first refusal.
    ///
    /// Cancel-safe. Answers at once for other sessions, and when called again.
    pub async fn opened(&mut self) -> Result<(), Refusal> {
        let Some(opened) = self.opened.as_mut() else { return Ok(()) };
        let result = opened.await.unwrap_or_else(|_| Err(Refusal::unavailable("the session ended before it was open")));
        self.opened = None;
        result
    }

    /// Gives the way out of a connection that was opened without one: what waits is written now.
    pub fn attach(&self, outlet: Box<dyn Outlet>) {
        self.hub.push(self.at, Item::Attach(self.at, outlet));
    }

    /// Hands over the commands of one read, decoded from so many bytes.
    pub fn post(&self, commands: Vec<Command>, bytes: usize) {
        if !commands.is_empty() {
            self.credit.take(commands.len() as u32);
            self.hub.push(self.at, Item::Commands(self.at, commands, bytes));
        }
    }

    /// Whether the reader may read on: too many commands that are not handled yet say no.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.credit.poll_ready(cx)
    }

    /// A sign of life without a command, as the transport's pong.
    pub fn heard(&self) {
        self.hub.push(self.at, Item::Heard(self.at));
    }

    /// The client's ping of the transport: it is answered, the newest if several come before the answer is written.
    pub fn ping(&self, payload: Bytes) {
        self.hub.push(self.at, Item::TransportPing(self.at, payload));
    }

    /// The outlet has room again, or may have.
    pub fn writable(&self) {
        self.hub.push(self.at, Item::Writable(self.at));
    }

    /// The client closed, the pipe broke, or the transport must end it: the session ends, says so where it is due, and finishes the outlet.
    pub fn close(&self, reason: CloseReason) {
        self.hub.push(self.at, Item::Closed(self.at, reason));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.gone(self.at);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("session", &self.session).finish_non_exhaustive()
    }
}
