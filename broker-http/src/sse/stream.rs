//! The two sides of an SSE stream: the shard fills a bounded queue, the answer's body empties it. What is written lives in `positions`.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use broker_core::{Connection, Outlet};
use broker_protocol::Record;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};
use parking_lot::Mutex;

use super::positions::{Positions, SseTopics};

/// Up to this many bytes one copy is cheaper than a list of slices.
const GATHER_MAX: usize = 16 * 1024;

/// Between these a client waits before it comes back, so that a restart does not bring all at once.
const RETRY_MS: std::ops::Range<u64> = 1_000..3_000;

/// What stands between the body of an answer and the kernel, where the server can say that.
///
/// A body hands its bytes to an HTTP implementation that may hold some while the peer takes none. Without a line they still go out when the
/// peer takes them, also after the connection was cut.
pub trait Line: fmt::Debug + Send + Sync + 'static {
    /// Bytes were handed over.
    fn hand_over(&self);

    /// Nothing that was handed over may go to the kernel once this returns. True: all of it is there already, and the connection is well;
    /// false: some was not, and the connection is broken off.
    fn cut(&self) -> bool;

    /// Breaks the connection off.
    fn sever(&self);
}

/// Gives a connection its way out, and makes the body that goes with it.
///
/// At most `bytes_max` bytes wait in the body; the rest waits in the
/// session's backlog. The connection ends with the body.
pub fn sse_body(connection: Connection, topics: &SseTopics, bytes_max: usize, line: Option<Arc<dyn Line>>) -> SseBody {
    let (outlet, mut body) = split(topics, bytes_max, line);
    connection.attach(Box::new(outlet));
    body.connection = Some(connection);
    body
}

fn split(topics: &SseTopics, bytes_max: usize, line: Option<Arc<dyn Line>>) -> (SseOutlet, SseBody) {
    let retry = Bytes::from(format!("retry: {}\n\n", fastrand::u64(RETRY_MS)));
    let queue = Queue { bytes: retry.len(), chunks: VecDeque::from([retry]), ..Queue::default() };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), task: AtomicWaker::new(), line });
    let outlet = SseOutlet { shared: Arc::clone(&shared), positions: Positions::new(topics), bytes_max };
    (outlet, SseBody { shared, bytes_max, connection: None })
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    task: AtomicWaker,
    line: Option<Arc<dyn Line>>,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// The last write did not take everything.
    want: bool,
    /// Nothing more will be written.
    finished: bool,
    /// The body is gone: nothing more can be written.
    broken: bool,
}

impl Queue {
    fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }
}

/// The shard's side. Takes whole records only, so that no other can come within one.
#[derive(Debug)]
struct SseOutlet {
    shared: Arc<Shared>,
    positions: Positions,
    bytes_max: usize,
}

impl Outlet for SseOutlet {
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize> {
        let mut queue = self.shared.queue.lock();
        if queue.broken || queue.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let (was_empty, mut taken) = (queue.chunks.is_empty(), 0);
        'all: for chunk in chunks {
            let mut rest = chunk.clone();
            while !rest.is_empty() {
                if queue.bytes >= self.bytes_max && !self.positions.is_holding() {
                    queue.want = true;
                    break 'all;
                }
                let record = Record::split_from(&mut rest).ok_or(io::ErrorKind::InvalidData)?;
                taken += record.len;
                self.positions.pass(record, &mut |bytes| queue.push(bytes));
            }
        }
        let has_news = was_empty && !queue.chunks.is_empty();
        drop(queue);
        if has_news {
            self.shared.task.wake();
        }
        Ok(taken)
    }

    fn cut(&mut self, last: &[Bytes]) {
        let mut queue = self.shared.queue.lock();
        queue.chunks.clear();
        queue.bytes = 0;
        queue.finished = true;
        // Held, so that the body hands nothing over meanwhile.
        if self.shared.line.as_ref().is_none_or(|line| line.cut()) {
            for chunk in last {
                let mut rest = chunk.clone();
                while let Some(record) = Record::split_from(&mut rest) {
                    self.positions.pass(record, &mut |bytes| queue.push(bytes));
                }
            }
        }
        drop(queue);
        self.shared.task.wake();
    }

    fn finish(&mut self) {
        self.shared.queue.lock().finished = true;
        self.shared.task.wake();
    }
}

impl Drop for SseOutlet {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        // Dropped before its end: the peer has had its time, and what it did not take it does not get.
        let is_stuck = !std::mem::replace(&mut queue.finished, true);
        if is_stuck {
            queue.chunks.clear();
            queue.bytes = 0;
        }
        drop(queue);
        if let Some(line) = self.shared.line.as_ref().filter(|_| is_stuck) {
            line.sever();
        }
        self.shared.task.wake();
    }
}

/// The body of an answer that is a stream of events. Dropping it ends the connection's session.
pub struct SseBody {
    shared: Arc<Shared>,
    bytes_max: usize,
    connection: Option<Connection>,
}

impl fmt::Debug for SseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseBody").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Body for SseBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    /// Gives everything that waits as one piece, where it is small.
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.shared.task.register(cx.waker());
        let mut queue = self.shared.queue.lock();
        let Some(first) = queue.chunks.pop_front() else {
            return if queue.finished { Poll::Ready(None) } else { Poll::Pending };
        };
        let piece = gather(first, &mut queue.chunks);
        queue.bytes -= piece.len();
        if queue.chunks.is_empty() {
            // An idle connection keeps nothing of a busy time.
            queue.chunks = VecDeque::new();
        }
        if let Some(line) = &self.shared.line {
            line.hand_over();
        }
        let has_room = queue.want && queue.bytes <= self.bytes_max / 2;
        if has_room {
            queue.want = false;
        }
        drop(queue);
        if let Some(connection) = self.connection.as_ref().filter(|_| has_room) {
            connection.writable();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// The first piece, with small ones after it.
fn gather(first: Bytes, rest: &mut VecDeque<Bytes>) -> Bytes {
    let mut len = first.len();
    let more = rest
        .iter()
        .take_while(|chunk| {
            len += chunk.len();
            len <= GATHER_MAX
        })
        .count();
    if more == 0 {
        return first;
    }
    let mut gathered = BytesMut::with_capacity(first.len() + rest.iter().take(more).map(Bytes::len).sum::<usize>());
    gathered.extend_from_slice(&first);
    for chunk in rest.drain(..more) {
        gathered.extend_from_slice(&chunk);
    }
    gathered.freeze()
}

impl Drop for SseBody {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.broken = true;
        queue.chunks = VecDeque::new();
    }
}

/// How long a client is told to wait before it comes back, at least and at most.
pub const RETRY: (Duration, Duration) = (Duration::from_millis(RETRY_MS.start), Duration::from_millis(RETRY_MS.end));

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicU32, Ordering},
    };

    use broker_core::{FrameKind, FrameWriter, Framing, Payload, Protocol, Push};
    use broker_protocol::{Sse, SseFraming};

    use super::*;

    #[tokio::test]
    async fn what_the_shard_hands_over_comes_as_one_piece_and_the_end_is_told() {
        let (mut outlet, mut body) = split(&SseTopics::default(), 1_000, None);
        let sent = [message("a"), message("b")];
        assert_eq!(outlet.try_write(&sent).unwrap(), sent[0].len() + sent[1].len());
        outlet.finish();
        let piece = next(&mut body).await.unwrap();
        let (retry, rest) = piece.split_once("\n\n").unwrap();
        let retry: u64 = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
        assert!(RETRY_MS.contains(&retry));
        assert_eq!(rest, "data: a\n\ndata: b\n\n");
        assert_eq!(next(&mut body).await, None);
        assert_eq!(outlet.try_write(&sent).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_full_queue_takes_no_more_than_the_record_that_fills_it() {
        let (mut outlet, mut body) = split(&SseTopics::default(), 100, None);
        let big = message(&"x".repeat(100));
        let sent = [big.clone(), big.clone()];
        assert_eq!(outlet.try_write(&sent).unwrap(), big.len(), "whole records only");
        assert_eq!(outlet.try_write(std::slice::from_ref(&big)).unwrap(), 0);
        next(&mut body).await.unwrap();
        assert_eq!(outlet.try_write(std::slice::from_ref(&big)).unwrap(), big.len());
    }

    #[tokio::test]
    async fn large_pieces_are_not_copied() {
        let (mut outlet, mut body) = split(&SseTopics::default(), 1 << 20, None);
        let big = message(&"x".repeat(GATHER_MAX));
        next(&mut body).await.unwrap();
        outlet.try_write(&[big.clone(), message("a"), message("b")]).unwrap();
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap().into_data().unwrap();
        assert!(big.as_ptr_range().contains(&frame.as_ptr()));
        assert_eq!(next(&mut body).await.as_deref(), Some("data: a\n\ndata: b\n\n"));
    }

    #[tokio::test]
    async fn a_cut_forgets_what_waits_and_says_the_last_words_where_the_line_is_clean() {
        for (clean, expected) in [(true, Some("data: bye\n\n")), (false, None)] {
            let line = Arc::new(TestLine { clean, ..TestLine::default() });
            let (mut outlet, mut body) = split(&SseTopics::default(), 1_000, Some(line.clone()));
            outlet.try_write(&[message("secret")]).unwrap();
            outlet.cut(&[message("bye")]);
            assert_eq!(next(&mut body).await.as_deref(), expected);
            assert_eq!(next(&mut body).await, None);
        }
    }

    #[tokio::test]
    async fn whoever_does_not_take_what_waits_is_broken_off() {
        let line = Arc::new(TestLine::default());
        let (mut outlet, mut body) = split(&SseTopics::default(), 1_000, Some(line.clone()));
        outlet.try_write(&[message("never taken")]).unwrap();
        drop(outlet);
        assert_eq!(line.severed.load(Ordering::Relaxed), 1);
        assert_eq!(next(&mut body).await, None);

        let line = Arc::new(TestLine::default());
        let (mut outlet, mut body) = split(&SseTopics::default(), 1_000, Some(line.clone()));
        outlet.try_write(&[message("bye")]).unwrap();
        outlet.finish();
        drop(outlet);
        assert_eq!(line.severed.load(Ordering::Relaxed), 0, "an end in good order has its time");
        assert!(next(&mut body).await.unwrap().ends_with("data: bye\n\n"));
    }

    #[tokio::test]
    async fn an_outlet_whose_body_is_gone_says_so() {
        let (mut outlet, body) = split(&SseTopics::default(), 100, None);
        drop(body);
        assert_eq!(outlet.try_write(&[message("x")]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_ping_is_a_comment() {
        let mut out = Vec::new();
        SseFraming.frame(FrameKind::Ping, b"", &mut out);
        let record = Record::split_from(&mut Bytes::from(out)).unwrap();
        assert_eq!(record.body, ":\n\n");
    }

    #[derive(Debug, Default)]
    struct TestLine {
        clean: bool,
        severed: AtomicU32,
    }

    impl Line for TestLine {
        fn hand_over(&self) {}

        fn cut(&self) -> bool {
            self.clean
        }

        fn sever(&self) {
            self.severed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn message(text: &str) -> Bytes {
        let mut out = Vec::new();
        Sse::default().encode_push(&Push::Message(Payload::text(text)), &mut FrameWriter::new(&SseFraming, &mut out));
        out.into()
    }

    async fn next(body: &mut SseBody) -> Option<String> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }
}
