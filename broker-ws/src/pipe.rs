//! The two directions of a connection as its task sees them: bytes in, and news from the way out.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::io::ReadBuf;

/// What the task waits for. One task polls it; the outlet on the other side of it belongs to the hub.
pub(crate) trait Pipe: Send + Unpin + 'static {
    /// Reads what is there.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Waits for news from the way out, and writes where the outlet leaves the writing to the task.
    ///
    /// After [`Out::Finished`] it is not called again.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Out>>;
}

/// News from the way out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Out {
    /// The outlet was full and may take more.
    Writable,
    /// The outlet ended, and what it took is on its way.
    Finished,
}
