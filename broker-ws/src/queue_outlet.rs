//! The way out for every pipe that is no TCP socket: the shard fills a bounded queue, the connection's task writes it.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use atomic_waker::AtomicWaker;
use broker_core::Outlet;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::pipe::{Out, Pipe};

/// Most slices of one write.
const SLICES_MAX: usize = 32;

/// Splits any pipe into the shard's side and the task's side; at most `bytes_max` bytes wait between them.
pub(crate) fn split<Io>(io: Io, bytes_max: usize) -> (QueueOutlet, QueuePipe<Io>) {
    let shared =
        Arc::new(Shared { queue: Mutex::new(Queue { bytes_max, ..Queue::default() }), task: AtomicWaker::new(), cut: Mutex::new(false) });
    (
        QueueOutlet { shared: Arc::clone(&shared) },
        QueuePipe { io, shared, writing: VecDeque::new(), is_partial: false, state: State::Flushed },
    )
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    task: AtomicWaker,
    /// Whether the connection was cut. Held by the task while it writes, so that whoever has cut knows that no write goes on.
    cut: Mutex<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    /// Bytes that were taken from the shard and are not in the pipe.
    bytes: usize,
    bytes_max: usize,
    /// The last write did not take everything.
    want: bool,
    /// Nothing more will be written.
    finished: bool,
    /// The task is gone: nothing more can be written.
    broken: bool,
}

/// The shard's side.
#[derive(Debug)]
pub(crate) struct QueueOutlet {
    shared: Arc<Shared>,
}

impl Outlet for QueueOutlet {
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize> {
        let mut queue = self.shared.queue.lock();
        if queue.broken || queue.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let before = queue.bytes;
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            let room = queue.bytes_max - queue.bytes;
            let taken = chunk.slice(..room.min(chunk.len()));
            queue.want = taken.len() < chunk.len();
            queue.bytes += taken.len();
            if !taken.is_empty() {
                queue.chunks.push_back(taken);
            }
            if queue.want {
                break;
            }
        }
        let taken = queue.bytes - before;
        drop(queue);
        // A queue that held something has a task that was woken, or waits for the pipe.
        if before == 0 && taken > 0 {
            self.shared.task.wake();
        }
        Ok(taken)
    }

    fn cut(&mut self, last: &[Bytes]) {
        let mut cut = self.shared.cut.lock();
        *cut = true;
        let mut queue = self.shared.queue.lock();
        queue.chunks = last.iter().cloned().collect();
        queue.bytes = last.iter().map(Bytes::len).sum();
        queue.finished = true;
        drop((queue, cut));
        self.shared.task.wake();
    }

    fn finish(&mut self) {
        self.shared.queue.lock().finished = true;
        self.shared.task.wake();
    }
}

impl Drop for QueueOutlet {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The task's side: owns the pipe.
#[derive(Debug)]
pub(crate) struct QueuePipe<Io> {
    io: Io,
    shared: Arc<Shared>,
    /// Taken from the queue all at once, so that no lock is held while the pipe writes.
    writing: VecDeque<Bytes>,
    /// A part of the first of `writing` is in the pipe.
    is_partial: bool,
    state: State,
}

/// What the task still owes the pipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Flushed,
    /// Bytes were written since the last flush.
    Unflushed,
    /// The end is to be told.
    Closing,
    /// The connection was cut where nothing is half written: the last words go out.
    Cut,
}

impl<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static> Pipe for QueuePipe<Io> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Out>> {
        self.shared.task.register(cx.waker());
        let shared = Arc::clone(&self.shared);
        loop {
            let cut = shared.cut.lock();
            if *cut && matches!(self.state, State::Flushed | State::Unflushed) {
                if self.is_partial || self.state == State::Unflushed {
                    // What is half written can only be finished by what must not be written.
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                self.writing = VecDeque::new();
                self.state = State::Cut;
            }
            if self.state == State::Closing {
                return Pin::new(&mut self.io).poll_shutdown(cx).map_ok(|()| Out::Finished);
            }
            if self.writing.is_empty() {
                std::mem::swap(&mut self.writing, &mut self.shared.queue.lock().chunks);
            }
            if !self.writing.is_empty() {
                let written = ready!(self.poll_write(cx))?;
                if self.state == State::Flushed {
                    self.state = State::Unflushed;
                }
                if self.shared.queue.lock().give_back(written) {
                    return Poll::Ready(Ok(Out::Writable));
                }
                continue;
            }
            if matches!(self.state, State::Unflushed | State::Cut) {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                self.state = if self.state == State::Cut { State::Closing } else { State::Flushed };
                continue;
            }
            let queue = self.shared.queue.lock();
            if queue.chunks.is_empty() {
                if !queue.finished {
                    return Poll::Pending;
                }
                self.state = State::Closing;
            }
        }
    }
}

impl<Io: AsyncWrite + Unpin> QueuePipe<Io> {
    /// Writes from the front of what was taken; says how many bytes went.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = slices.iter_mut().zip(&self.writing).map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count();
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let mut left = written;
        while let Some(chunk) = self.writing.front_mut().filter(|_| left > 0) {
            let gone = left.min(chunk.len());
            chunk.advance(gone);
            left -= gone;
            self.is_partial = !chunk.is_empty();
            if chunk.is_empty() {
                self.writing.pop_front();
            }
        }
        if self.writing.is_empty() {
            // An idle connection keeps no buffer.
            self.writing = VecDeque::new();
        }
        Poll::Ready(Ok(written))
    }
}

impl Queue {
    /// Counts bytes that left; says whether the shard waits for room and there is enough to be worth its while.
    fn give_back(&mut self, written: usize) -> bool {
        self.bytes -= written;
        self.want && self.bytes <= self.bytes_max / 2 && std::mem::take(&mut self.want)
    }
}

impl<Io> Drop for QueuePipe<Io> {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.broken = true;
        queue.chunks = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;

    #[tokio::test]
    async fn what_the_shard_hands_over_arrives_and_the_end_is_told() {
        let (mut outlet, mut pipe, mut client) = connected(1_000, 64);
        let sent = [Bytes::from_static(b"hello "), Bytes::new(), Bytes::from(vec![b'x'; 500])];
        assert_eq!(outlet.try_write(&sent).unwrap(), 506);
        outlet.finish();
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.map(|_| got)
        });
        assert_eq!(poll_fn(|cx| pipe.poll_out(cx)).await.unwrap(), Out::Finished);
        assert_eq!(reading.await.unwrap().unwrap(), sent.concat());
        assert_eq!(outlet.try_write(&sent).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_full_queue_takes_what_fits_and_asks_for_more_when_half_is_out() {
        let (mut outlet, mut pipe, mut client) = connected(100, 10);
        let chunk = [Bytes::from(vec![1; 60])];
        assert_eq!(outlet.try_write(&chunk).unwrap(), 60);
        assert_eq!(outlet.try_write(&chunk).unwrap(), 40);
        assert_eq!(outlet.try_write(&chunk).unwrap(), 0);
        let mut got = [0; 50];
        let (out, read) = tokio::join!(poll_fn(|cx| pipe.poll_out(cx)), client.read_exact(&mut got));
        assert_eq!(out.unwrap(), Out::Writable);
        assert_eq!(read.unwrap(), 50);
        assert_eq!(outlet.try_write(&chunk).unwrap(), 50);
    }

    #[tokio::test]
    async fn an_outlet_whose_task_is_gone_says_so() {
        let (mut outlet, pipe, _client) = connected(100, 10);
        drop(pipe);
        assert_eq!(outlet.try_write(&[Bytes::from_static(b"x")]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_cut_forgets_what_waits_and_says_the_last_words() {
        let (mut outlet, mut pipe, mut client) = connected(1_000, 64);
        outlet.try_write(&[Bytes::from_static(b"old")]).unwrap();
        outlet.cut(&[Bytes::from_static(b"bye")]);
        assert_eq!(poll_fn(|cx| pipe.poll_out(cx)).await.unwrap(), Out::Finished);
        drop(pipe);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"bye");
    }

    #[tokio::test]
    async fn a_cut_within_a_write_ends_without_a_word() {
        let (mut outlet, mut pipe, mut client) = connected(1_000, 4);
        outlet.try_write(&[Bytes::from_static(b"a long one")]).unwrap();
        assert!(poll_fn(|cx| Poll::Ready(pipe.poll_out(cx))).await.is_pending());
        outlet.cut(&[Bytes::from_static(b"bye")]);
        assert_eq!(poll_fn(|cx| pipe.poll_out(cx)).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        drop(pipe);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"a lo");
    }

    fn connected(bytes_max: usize, pipe_bytes: usize) -> (QueueOutlet, QueuePipe<DuplexStream>, DuplexStream) {
        let (io, client) = tokio::io::duplex(pipe_bytes);
        let (outlet, pipe) = split(io, bytes_max);
        (outlet, pipe, client)
    }
}
