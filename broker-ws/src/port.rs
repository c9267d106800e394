//! What a connection's task needs of the hub, as a trait, so that the task can be tested without an engine.

use std::task::{Context, Poll};

use broker_core::{CloseReason, Command, Connection};
use bytes::Bytes;

/// The hub's side of a connection. Dropping it tells the hub that the pipe is gone.
pub(crate) trait Port: Send + Unpin + 'static {
    /// Hands over the commands of one read, and how many bytes came since the last ones.
    fn post(&self, commands: Vec<Command>, bytes: usize);
    /// Ready when the hub wants more.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// Something came that is no command.
    fn heard(&self);
    /// The client's ping, to be answered by whoever writes.
    fn ping(&self, payload: Bytes);
    /// The way out may take more.
    fn writable(&self);
    /// The connection ends. The hub says so to the client where it is due, and finishes the outlet.
    fn close(&self, reason: CloseReason);
}

impl Port for Connection {
    fn post(&self, commands: Vec<Command>, bytes: usize) {
        Connection::post(self, commands, bytes);
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        Connection::poll_ready(self, cx)
    }

    fn heard(&self) {
        Connection::heard(self);
    }

    fn ping(&self, payload: Bytes) {
        Connection::ping(self, payload);
    }

    fn writable(&self) {
        Connection::writable(self);
    }

    fn close(&self, reason: CloseReason) {
        Connection::close(self, reason);
    }
}
