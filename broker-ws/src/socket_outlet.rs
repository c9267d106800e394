//! The fast way out: the hub's shard writes to the TCP socket itself, with one system call. The connection's task only waits for room.

use std::{
    cell::RefCell,
    hint::black_box,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use broker_core::Outlet;
use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{
    WsLimits,
    pipe::{Out, Pipe},
};

/// Up to this many bytes one copy is cheaper than a list of slices for the kernel.
const GATHER_MAX: usize = 16 * 1024;

/// Most slices of one system call; Linux refuses more than 1,024, and beyond some dozen there is nothing to win.
const SLICES_MAX: usize = 64;

/// Bytes that the kernel holds beyond what is on the wire. Its default lets a client that is gone swallow megabytes.
#[cfg(target_os = "linux")]
const NOT_SENT_MAX: u32 = 16 * 1024;

/// Splits a socket into the shard's side and the task's side.
///
/// Waits until the socket can be written to: tokio says "would block" without a system call until it has seen that once.
pub(crate) async fn split(stream: TcpStream, limits: &WsLimits) -> io::Result<(SocketOutlet, SocketPipe)> {
    configure(&stream, limits);
    stream.writable().await?;
    let (read, write) = stream.into_split();
    let news = Arc::new(News::default());
    Ok((SocketOutlet { write: Some(write), news: Arc::clone(&news) }, SocketPipe { read, news, waits: false }))
}

/// Sets what the socket is to do. An option that the system does not know costs comfort only, so its refusal is no error.
pub(crate) fn configure(stream: &TcpStream, limits: &WsLimits) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(limits.keepalive_interval).with_interval(Duration::from_secs(10));
    let refused = [
        ("TCP_NODELAY", socket.set_tcp_nodelay(true)),
        ("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive)),
        #[cfg(target_os = "linux")]
        ("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(NOT_SENT_MAX)),
        #[cfg(target_os = "linux")]
        ("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(limits.unacknowledged_timeout))),
    ];
    for (option, result) in refused {
        if let Err(error) = result {
            tracing::debug!(option, %error, "the socket option was refused");
        }
    }
}

/// What the shard's side tells the task's side.
#[derive(Debug, Default)]
struct News {
    /// The last write did not take everything.
    want: AtomicBool,
    /// Nothing more will be written.
    finished: AtomicBool,
    task: AtomicWaker,
}

/// The shard's side.
#[derive(Debug)]
pub(crate) struct SocketOutlet {
    /// `None` once finished; dropping it ends the stream towards the client.
    write: Option<OwnedWriteHalf>,
    news: Arc<News>,
}

impl SocketOutlet {
    /// The flag first, then the wake-up (rule W1 of the hub): the task takes the flag back before it waits.
    fn tell(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        self.news.task.wake();
    }
}

impl Outlet for SocketOutlet {
    fn try_write(&mut self, chunks: &[Bytes]) -> io::Result<usize> {
        let write = self.write.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let (written, all) = match write_some(write, chunks, 0) {
            Ok((written, all)) if written == all => return Ok(written),
            // A second write makes tokio see that the socket is full, else its `writable` would come back at once.
            Ok((written, all)) => match write_some(write, chunks, written) {
                Ok((more, _)) => (written + more, all),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (written, all),
                Err(error) => return Err(error),
            },
            Err(error) => {
                if error.kind() == io::ErrorKind::WouldBlock {
                    self.tell(&self.news.want);
                }
                return Err(error);
            }
        };
        if written < all {
            self.tell(&self.news.want);
        }
        Ok(written)
    }

    fn warm(&self) {
        if let Some(write) = &self.write {
            // Reads what tokio knows of the socket; no system call.
            let _ = black_box(write.as_ref().try_io(Interest::WRITABLE, || Ok(())));
        }
    }

    fn finish(&mut self) {
        self.write = None;
        self.tell(&self.news.finished);
    }
}

impl Drop for SocketOutlet {
    fn drop(&mut self) {
        if let Some(write) = &self.write {
            // Given up, with something that its client does not take: the kernel is to forget that too, and not to keep it for an orphan.
            let _ = SockRef::from(write.as_ref()).set_linger(Some(Duration::ZERO));
        }
        self.finish();
    }
}

/// Writes what stands after the first `skip` bytes of `chunks`, with one system call. Says how much went, and how much there was.
fn write_some(write: &OwnedWriteHalf, chunks: &[Bytes], mut skip: usize) -> io::Result<(usize, usize)> {
    thread_local! {
        static GATHERED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(GATHER_MAX));
    }
    if let [chunk] = chunks {
        return send(write, &chunk[skip..]).map(|written| (written, chunk.len() - skip));
    }
    let all = chunks.iter().map(Bytes::len).sum::<usize>() - skip;
    let mut rest = chunks.iter().filter_map(|chunk| {
        let from = skip.min(chunk.len());
        skip -= from;
        (from < chunk.len()).then(|| &chunk[from..])
    });
    let written = if all <= GATHER_MAX {
        GATHERED.with_borrow_mut(|gathered| {
            gathered.clear();
            rest.for_each(|chunk| gathered.extend_from_slice(chunk));
            send(write, gathered)
        })?
    } else {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&mut rest) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        write.try_write_vectored(&slices[..count])?
    };
    Ok((written, all))
}

/// One `send`, past tokio's record of readiness: with thousands of connections that record is one cache miss more for each.
///
/// Only a full socket goes through tokio, which must know of it before anybody waits for room.
#[cfg(target_os = "linux")]
fn send(write: &OwnedWriteHalf, bytes: &[u8]) -> io::Result<usize> {
    match SockRef::from(write.as_ref()).send_with_flags(bytes, libc::MSG_NOSIGNAL) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => write.try_write(bytes),
        result => result,
    }
}

#[cfg(not(target_os = "linux"))]
fn send(write: &OwnedWriteHalf, bytes: &[u8]) -> io::Result<usize> {
    write.try_write(bytes)
}

/// The task's side.
#[derive(Debug)]
pub(crate) struct SocketPipe {
    read: OwnedReadHalf,
    news: Arc<News>,
    /// The task waits for room on behalf of the shard.
    waits: bool,
}

impl Pipe for SocketPipe {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Out>> {
        self.news.task.register(cx.waker());
        if self.news.finished.load(Ordering::Acquire) {
            return Poll::Ready(Ok(Out::Finished));
        }
        self.waits |= self.news.want.swap(false, Ordering::AcqRel);
        if !self.waits {
            return Poll::Pending;
        }
        let room = ready!(self.read.as_ref().poll_write_ready(cx));
        self.waits = false;
        Poll::Ready(room.map(|()| Out::Writable))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn chunks_of_every_number_and_size_arrive_in_order() {
        for lens in [vec![5], vec![3, 0, 9], vec![8_000, 8_000, 8_000], vec![100; 300], vec![0, 0], vec![]] {
            let (mut outlet, mut pipe, mut client) = connected().await;
            let chunks: Vec<Bytes> = lens.iter().enumerate().map(|(at, len)| Bytes::from(vec![at as u8; *len])).collect();
            let sent: Vec<u8> = chunks.concat();
            let reading = tokio::spawn(async move {
                let mut got = Vec::new();
                client.read_to_end(&mut got).await.map(|_| got)
            });
            write_all(&mut outlet, &mut pipe, &chunks).await;
            outlet.finish();
            assert_eq!(reading.await.unwrap().unwrap(), sent);
        }
    }

    #[tokio::test]
    async fn a_full_socket_is_reported_once_and_becomes_writable_when_the_client_reads() {
        let (mut outlet, mut pipe, mut client) = connected().await;
        let chunk = [Bytes::from(vec![7; 1 << 16])];
        let mut sent = 0;
        let blocked = loop {
            match outlet.try_write(&chunk) {
                Ok(written) if written < chunk[0].len() => break sent + written,
                Ok(written) => sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break sent,
                Err(error) => panic!("{error}"),
            }
        };
        let pending = poll_fn(|cx| Poll::Ready(pipe.poll_out(cx).is_pending())).await;
        assert!(pending, "there is no room before the client reads");
        let mut got = vec![0; blocked];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(poll_fn(|cx| pipe.poll_out(cx)).await.unwrap(), Out::Writable);
        assert_eq!(outlet.try_write(&[Bytes::from_static(b"x")]).unwrap(), 1);
        let pending = poll_fn(|cx| Poll::Ready(pipe.poll_out(cx).is_pending())).await;
        assert!(pending, "nobody waits for room any more");
    }

    #[tokio::test]
    async fn what_a_client_does_not_take_is_forgotten_with_its_connection() {
        let (mut outlet, pipe, mut client) = connected().await;
        while outlet.try_write(&[Bytes::from(vec![7; 1 << 16])]).is_ok_and(|written| written == 1 << 16) {}
        drop((outlet, pipe));
        let mut got = Vec::new();
        assert_eq!(client.read_to_end(&mut got).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn an_outlet_that_is_dropped_is_finished() {
        let (outlet, mut pipe, mut client) = connected().await;
        drop(outlet);
        assert_eq!(poll_fn(|cx| pipe.poll_out(cx)).await.unwrap(), Out::Finished);
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_is_told_when_to_give_a_peer_up() {
        let limits = WsLimits { keepalive_interval: Duration::from_secs(45), ..WsLimits::default() };
        let (outlet, _pipe, _client) = connected_within(limits.unacknowledged_timeout(Duration::from_secs(7))).await;
        let socket = SockRef::from(outlet.write.as_ref().unwrap().as_ref());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(45));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOT_SENT_MAX);
    }

    async fn connected() -> (SocketOutlet, SocketPipe, TcpStream) {
        connected_within(WsLimits::default()).await
    }

    async fn connected_within(limits: WsLimits) -> (SocketOutlet, SocketPipe, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (outlet, pipe) = split(stream, &limits).await.unwrap();
        (outlet, pipe, client)
    }

    async fn write_all(outlet: &mut SocketOutlet, pipe: &mut SocketPipe, chunks: &[Bytes]) {
        let mut rest = chunks.to_vec();
        loop {
            let mut written = match outlet.try_write(&rest) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => panic!("{error}"),
            };
            rest.retain_mut(|chunk| {
                let taken = written.min(chunk.len());
                written -= taken;
                *chunk = chunk.slice(taken..);
                !chunk.is_empty()
            });
            if rest.is_empty() {
                return;
            }
            assert_eq!(poll_fn(|cx| pipe.poll_out(cx)).await.unwrap(), Out::Writable);
        }
    }
}
