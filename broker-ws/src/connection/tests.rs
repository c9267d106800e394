//! How the task behaves between a pipe of the test and a hub of the test.

use std::sync::atomic::{AtomicBool, Ordering};

use atomic_waker::AtomicWaker;
use broker_core::{CloseFrame, CommandId, FrameWriter, Inbound, Outlet, Payload, Push, Reply, Request};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{queue_outlet, socket_outlet};

#[tokio::test]
async fn commands_are_posted_with_the_bytes_they_took() {
    let mut hub = Hub::open(&WsLimits::default());
    hub.client.write_all(&[text(b"a"), text(b"b")].concat()).await.unwrap();
    hub.until("post a,b (14 bytes)").await;
    hub.client.write_all(&text(b"c")[..3]).await.unwrap();
    hub.until("heard").await;
    hub.client.write_all(&text(b"c")[3..]).await.unwrap();
    hub.until("post c (7 bytes)").await;
}

#[tokio::test]
async fn only_the_newest_ping_of_a_read_is_answered_and_a_pong_is_a_sign_of_life() {
    let mut hub = Hub::open(&WsLimits::default());
    hub.client.write_all(&[frame(0x89, b"1"), frame(0x89, b"2")].concat()).await.unwrap();
    hub.until("ping 2").await;
    hub.client.write_all(&frame(0x8a, b"")).await.unwrap();
    hub.until("heard").await;
}

#[tokio::test(start_paused = true)]
async fn a_close_frame_is_told_and_the_pipe_waits_for_the_answer_to_leave() {
    let mut hub = Hub::open(&WsLimits::default());
    hub.client.write_all(&frame(0x88, b"\x03\xe8")).await.unwrap();
    hub.until("close ClientLeft { code: Some(1000) }").await;
    hub.outlet.try_write(&[Bytes::from_static(b"bye")]).unwrap();
    hub.outlet.finish();
    let mut got = Vec::new();
    hub.client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"bye");
    drop(hub.client);
    hub.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_end_is_dropped_after_the_linger_timeout() {
    let mut hub = Hub::open(&WsLimits::default());
    let start = Instant::now();
    hub.outlet.finish();
    hub.task.await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

#[tokio::test]
async fn the_end_of_the_stream_without_a_close_frame_is_a_broken_transport() {
    let mut hub = Hub::open(&WsLimits::default());
    hub.client.shutdown().await.unwrap();
    hub.until("close TransportBroke(\"end of stream\")").await;
    hub.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_has_ten_seconds_from_its_first_byte() {
    let mut hub = Hub::open(&WsLimits::default());
    let start = Instant::now();
    let message = text(b"slow");
    let dripping = async {
        for byte in message {
            tokio::time::sleep(Duration::from_secs(3)).await;
            if hub.client.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    };
    let closing = hub.log.until("close TransportViolation(\"a message was not finished within 10s\")");
    tokio::select! { () = dripping => panic!("the message was let through"), () = closing => {} }
    assert_eq!(start.elapsed(), Duration::from_secs(13));
}

#[tokio::test(start_paused = true)]
async fn time_that_the_hub_takes_is_not_the_clients() {
    let mut hub = Hub::open(&WsLimits::default());
    let message = text(b"x");
    hub.client.write_all(&message[..2]).await.unwrap();
    hub.until("heard").await;
    hub.log.set_busy(true);
    hub.client.write_all(&message[2..5]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    hub.log.set_busy(false);
    tokio::time::sleep(Duration::from_secs(9)).await;
    hub.client.write_all(&message[5..]).await.unwrap();
    hub.until("post x (7 bytes)").await;
}

#[tokio::test]
async fn nothing_is_read_while_the_hub_is_busy() {
    let mut hub = Hub::open(&WsLimits::default());
    hub.log.set_busy(true);
    hub.client.write_all(&text(b"a")).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(hub.log.lines(), Vec::<String>::new());
    hub.log.set_busy(false);
    hub.until("post a (7 bytes)").await;
}

#[tokio::test]
async fn a_violation_closes_and_what_follows_is_thrown_away() {
    let mut hub = Hub::open(&WsLimits::default());
    hub.client.write_all(&[vec![0x81, 0], text(b"late")].concat()).await.unwrap();
    hub.until("close TransportViolation(\"a frame of the client is not masked\")").await;
    hub.client.write_all(&text(b"later")).await.unwrap();
    hub.outlet.finish();
    drop(hub.client);
    hub.task.await.unwrap();
    assert_eq!(hub.log.lines().len(), 1);
}

#[tokio::test]
async fn bytes_from_before_the_task_are_read_first() {
    let (io, _client) = tokio::io::duplex(64);
    let (_outlet, pipe) = queue_outlet::split(io, 100);
    let log = Log::default();
    let mut connection = ConnectionTask::new(log.clone(), pipe, Arc::new(Echo), Arc::new(WsLimits::default()), None);
    connection.feed(&text(b"early"));
    assert_eq!(log.lines(), ["post early (11 bytes)"]);
}

#[tokio::test]
async fn a_blocked_socket_is_reported_writable_when_its_client_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let limits = Arc::new(WsLimits::default());
    let (mut outlet, pipe) = socket_outlet::split(listener.accept().await.unwrap().0, &limits).await.unwrap();
    let log = Log::default();
    let _task = tokio::spawn(ConnectionTask::new(log.clone(), pipe, Arc::new(Echo), limits, None));
    let chunk = [Bytes::from(vec![0; 1 << 20])];
    let mut sent = 0;
    while let Ok(written) = outlet.try_write(&chunk) {
        sent += written;
    }
    let mut got = vec![0; sent];
    client.read_exact(&mut got).await.unwrap();
    log.until("writable").await;
}

#[test]
fn a_task_is_small() {
    // The hub's handle is about 64 bytes; a task of tokio adds about 130.
    let socket = size_of::<ConnectionTask<socket_outlet::SocketPipe, [u64; 8]>>();
    assert!(socket <= 256, "the task of a socket is {socket} bytes");
}

impl Port for [u64; 8] {
    fn post(&self, _: Vec<Command>, _: usize) {}
    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
    fn heard(&self) {}
    fn ping(&self, _: Bytes) {}
    fn writable(&self) {}
    fn close(&self, _: CloseReason) {}
}

/// A connection over memory: the test is its client and its hub.
struct Hub {
    client: DuplexStream,
    outlet: queue_outlet::QueueOutlet,
    log: Log,
    task: JoinHandle<()>,
}

impl Hub {
    fn open(limits: &WsLimits) -> Self {
        let (io, client) = tokio::io::duplex(1 << 16);
        let (outlet, pipe) = queue_outlet::split(io, 1 << 16);
        let log = Log::default();
        let task = tokio::spawn(ConnectionTask::new(log.clone(), pipe, Arc::new(Echo), Arc::new(limits.clone()), None));
        Self { client, outlet, log, task }
    }

    async fn until(&mut self, line: &str) {
        self.log.until(line).await;
    }
}

/// What the hub was told, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Told>);

#[derive(Default)]
struct Told {
    lines: Mutex<Vec<String>>,
    told: tokio::sync::Notify,
    busy: AtomicBool,
    reader: AtomicWaker,
}

impl Log {
    fn add(&self, line: String) {
        self.0.lines.lock().push(line);
        self.0.told.notify_one();
    }

    fn lines(&self) -> Vec<String> {
        self.0.lines.lock().clone()
    }

    /// Waits for this line; before it there may only be signs of life.
    async fn until(&self, line: &str) {
        loop {
            self.0.told.notified().await;
            match self.lines().pop() {
                Some(last) if last == line => return,
                last => assert_eq!(last.as_deref(), Some("heard"), "before {line:?}"),
            }
        }
    }

    fn set_busy(&self, busy: bool) {
        self.0.busy.store(busy, Ordering::Release);
        self.0.reader.wake();
    }
}

impl Port for Log {
    fn post(&self, commands: Vec<Command>, bytes: usize) {
        let texts: Vec<_> = commands
            .iter()
            .map(|command| match &command.request {
                Request::Message { data } => String::from_utf8_lossy(data.bytes()).into_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        self.add(format!("post {} ({bytes} bytes)", texts.join(",")));
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.reader.register(cx.waker());
        if self.0.busy.load(Ordering::Acquire) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn heard(&self) {
        self.add("heard".to_owned());
    }

    fn ping(&self, payload: Bytes) {
        self.add(format!("ping {}", String::from_utf8_lossy(&payload)));
    }

    fn writable(&self) {
        self.add("writable".to_owned());
    }

    fn close(&self, reason: CloseReason) {
        self.add(format!("close {reason:?}"));
    }
}

/// Every message is a command; nothing is written.
#[derive(Debug)]
struct Echo;

impl Protocol for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn encoding(&self) -> u8 {
        0
    }

    fn decode(&self, message: Inbound<'_>, commands: &mut Vec<Command>) {
        let data = match message {
            Inbound::Text(text) => Payload::text(text),
            Inbound::Binary(bytes) => Payload::binary(bytes.to_vec()),
        };
        commands.push(Command { id: CommandId::None, request: Request::Message { data } });
    }

    fn encode_reply(&self, _: &CommandId, _: &Reply, _: &mut FrameWriter<'_>) {}

    fn encode_push(&self, _: &Push, _: &mut FrameWriter<'_>) {}

    fn close_frame(&self, _: &CloseReason) -> CloseFrame {
        CloseFrame { code: 1000, reason: "".into() }
    }
}

fn text(payload: &[u8]) -> Vec<u8> {
    frame(0x81, payload)
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    // A mask of zeroes is legal and leaves the payload readable.
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}
