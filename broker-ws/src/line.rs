//! The last step to the kernel for whatever HTTP writes: it can be broken off, and it gives up a peer that takes nothing.
//!
//! An HTTP implementation holds bytes of an answer while the peer takes none. Those of a connection that was cut must not go out when it does.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A handle of the way between HTTP and the kernel, in the extensions of every request that [`serve`](crate::serve) reads.
///
/// For answers whose bodies go on for long. Cloning copies a pointer.
#[derive(Clone, Debug, Default)]
pub struct Line(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Held while bytes go to the kernel, so that whoever has cut knows that none do.
    state: Mutex<State>,
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    severed: bool,
    /// Bytes were handed to HTTP that are perhaps not in the kernel.
    on_the_way: bool,
}

impl Line {
    /// Bytes are handed to HTTP.
    pub fn hand_over(&self) {
        self.0.state.lock().on_the_way = true;
    }

    /// Once this returns nothing that was handed over goes to the kernel. True: all of it is there; false: the connection is broken off.
    pub fn cut(&self) -> bool {
        let mut state = self.0.state.lock();
        state.severed |= state.on_the_way;
        let is_well = !state.severed;
        drop(state);
        if !is_well {
            self.0.task.wake();
        }
        is_well
    }

    /// Breaks the connection off.
    pub fn sever(&self) {
        self.0.state.lock().severed = true;
        self.0.task.wake();
    }
}

/// A pipe whose way out follows a [`Line`].
#[derive(Debug)]
pub(crate) struct Lined<Io> {
    io: Io,
    line: Line,
    /// How long the peer may take nothing.
    timeout: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<Io> Lined<Io> {
    pub(crate) fn new(io: Io, line: Line, timeout: Duration) -> Self {
        Self { io, line, timeout, stuck: None }
    }

    pub(crate) fn into_inner(self) -> Io {
        self.io
    }

    /// One step of writing, unless the line is severed.
    fn poll_out<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(Pin<&mut Io>, &mut Context<'_>, &mut State) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>>
    where
        Io: Unpin,
    {
        let mut state = self.line.0.state.lock();
        if state.severed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let done = step(Pin::new(&mut self.io), cx, &mut state);
        if done.is_ready() {
            self.stuck = None;
            return done;
        }
        // Under the lock: whoever severs after this finds the waker.
        self.line.0.task.register(cx.waker());
        drop(state);
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(self.timeout)));
        ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Lined<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Lined<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_out(cx, |io, cx, _| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_out(cx, |io, cx, _| io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// HTTP flushes when everything that it holds is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_out(cx, |io, cx, state| {
            ready!(io.poll_flush(cx))?;
            state.on_the_way = false;
            Poll::Ready(Ok(()))
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_out(cx, |io, cx, _| io.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_flushed_is_out_and_a_cut_lets_more_follow() {
        let (io, mut peer) = duplex(100);
        let line = Line::default();
        let mut lined = Lined::new(io, line.clone(), Duration::from_secs(30));
        line.hand_over();
        lined.write_all(b"event").await.unwrap();
        lined.flush().await.unwrap();
        assert!(line.cut());
        lined.write_all(b"bye").await.unwrap();
        drop(lined);
        let mut got = String::new();
        peer.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "eventbye");
    }

    #[tokio::test]
    async fn what_the_peer_has_not_taken_is_never_written_after_a_cut() {
        let (io, mut peer) = duplex(4);
        let line = Line::default();
        let mut lined = Lined::new(io, line.clone(), Duration::from_secs(30));
        line.hand_over();
        let writing = tokio::spawn(async move { lined.write_all(b"a long secret").await });
        let mut first = [0; 1];
        peer.read_exact(&mut first).await.unwrap();
        assert!(!line.cut());
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert!(got.len() < 12, "{got:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_for_too_long_is_given_up() {
        let (io, _peer) = duplex(4);
        let mut lined = Lined::new(io, Line::default(), Duration::from_secs(30));
        let began = tokio::time::Instant::now();
        let error = lined.write_all(b"more than four").await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, Duration::from_secs(30)));
    }

    #[tokio::test(start_paused = true)]
    async fn every_byte_that_the_peer_takes_gives_it_new_time() {
        let (io, mut peer) = duplex(1);
        let mut lined = Lined::new(io, Line::default(), Duration::from_secs(30));
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                got.push(peer.read_u8().await.unwrap());
            }
            got
        });
        lined.write_all(b"12345").await.unwrap();
        assert_eq!(reading.await.unwrap(), b"12345");
    }
}
