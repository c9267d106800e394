//! A proxy between a link and a server that cuts, holds back, delays, and does wrong to single pushes. Their fates live in `fates`.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    Address, Push, Target,
    testing::fates::{Chances, Fate, Frames, Judge},
};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the link to the server.
    ToServer,
    /// From the server to the link.
    ToClient,
    /// Both.
    Both,
}

/// A TCP proxy on a free port of loopback. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    faults: watch::Sender<Faults>,
    judge: Arc<Mutex<Option<JudgeOf>>>,
    accepting: JoinHandle<()>,
}

/// What is wrong at this moment.
#[derive(Clone, Debug)]
struct Faults {
    upstream: Address,
    hold_to_server: bool,
    hold_to_client: bool,
    refuse: bool,
    delay: Duration,
    /// How often connections were cut, and withheld pushes released.
    cuts: u64,
    releases: u64,
    /// How many connections there are.
    connections: usize,
}

struct JudgeOf(Judge);

impl std::fmt::Debug for JudgeOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JudgeOf")
    }
}

/// Pieces that may be under way in one direction.
const UNDER_WAY_MAX: usize = 1024;

impl Proxy {
    /// Starts a proxy in front of a server.
    pub async fn start(upstream: Address) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a listener has an address").port();
        let faults = Faults {
            upstream,
            hold_to_server: false,
            hold_to_client: false,
            refuse: false,
            delay: Duration::ZERO,
            cuts: 0,
            releases: 0,
            connections: 0,
        };
        let (faults, judge) = (watch::Sender::new(faults), Arc::default());
        let accepting = tokio::spawn(accept(listener, faults.clone(), Arc::clone(&judge)));
        Self { port, faults, judge, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Tcp { host: "127.0.0.1".to_owned(), port: self.port }
    }

    /// It as the target of a link.
    pub fn target(&self) -> Target {
        Target::at(self.address())
    }

    /// Sends new connections to another server.
    pub fn point_to(&self, upstream: Address) {
        self.faults.send_modify(|faults| faults.upstream = upstream);
    }

    /// Closes all connections. New ones are served.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// Closes new connections at once, or no longer.
    pub fn refuse(&self, refuse: bool) {
        self.faults.send_modify(|faults| faults.refuse = refuse);
    }

    /// Hands on nothing and closes nothing, as where the network swallows packets: connections are half-open, new ones hang.
    pub fn black_hole(&self, direction: Direction) {
        self.faults.send_modify(|faults| {
            faults.hold_to_server |= direction != Direction::ToClient;
            faults.hold_to_client |= direction != Direction::ToServer;
        });
    }

    /// Ends black holes, delays and refusals. What was held back is handed on.
    pub fn cure(&self) {
        self.faults.send_modify(|faults| {
            (faults.hold_to_server, faults.hold_to_client, faults.refuse) = (false, false, false);
            faults.delay = Duration::ZERO;
        });
    }

    /// Delays everything, each way, without limiting how much passes.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Decides the fate of each push from now on. What is no RESP, such as TLS, passes.
    pub fn judge_pushes(&self, judge: impl FnMut(&Push) -> Fate + Send + 'static) {
        *self.judge.lock() = Some(JudgeOf(Box::new(judge)));
    }

    /// Draws the fate of each message from now on.
    pub fn draw_fates(&self, chances: Chances) {
        *self.judge.lock() = Some(JudgeOf(chances.judge()));
    }

    /// Lets all pushes pass from now on. What is withheld stays so.
    pub fn pass_pushes(&self) {
        *self.judge.lock() = None;
    }

    /// Hands on what was withheld, behind what came in the meantime.
    pub fn release(&self) {
        self.faults.send_modify(|faults| faults.releases += 1);
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.faults.borrow().connections
    }

    /// Waits until there are so many connections.
    pub async fn has_connections(&self, count: usize) {
        let mut faults = self.faults.subscribe();
        faults.wait_for(|faults| faults.connections == count).await.expect("the sender is ours");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, faults: watch::Sender<Faults>, judge: Arc<Mutex<Option<JudgeOf>>>) {
    while let Ok((client, _)) = listener.accept().await {
        if faults.borrow().refuse {
            continue;
        }
        tokio::spawn(serve(client, faults.clone(), Arc::clone(&judge)));
    }
}

async fn serve(client: TcpStream, faults: watch::Sender<Faults>, judge: Arc<Mutex<Option<JudgeOf>>>) {
    let (Address::Tcp { host, port }, cuts) = ({ faults.borrow().upstream.clone() }, faults.borrow().cuts) else { return };
    let Ok(server) = TcpStream::connect((host.as_str(), port)).await else { return };
    faults.send_modify(|faults| faults.connections += 1);
    // Small pieces go at once, or the proxy itself would be a delay.
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = faults.subscribe();
    tokio::select! {
        _ = carry(from_client, to_server, faults.subscribe(), Direction::ToServer, None) => {}
        _ = carry(from_server, to_client, faults.subscribe(), Direction::ToClient, Some(judge)) => {}
        _ = cut.wait_for(|faults| faults.cuts != cuts) => {}
    }
    faults.send_modify(|faults| faults.connections -= 1);
}

impl Faults {
    fn holds(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToServer => self.hold_to_server,
            Direction::ToClient => self.hold_to_client,
            Direction::Both => self.hold_to_server && self.hold_to_client,
        }
    }
}

/// Carries bytes one way until one side ends.
async fn carry(
    mut from: OwnedReadHalf,
    to: OwnedWriteHalf,
    mut faults: watch::Receiver<Faults>,
    direction: Direction,
    judge: Option<Arc<Mutex<Option<JudgeOf>>>>,
) -> io::Result<()> {
    let (under_way, arriving) = mpsc::channel(UNDER_WAY_MAX);
    let mut arrival = pin!(arrive(to, arriving, faults.clone(), direction));
    let mut frames = judge.as_ref().map(|_| Frames::new());
    let departure = async move {
        let mut releases = faults.borrow().releases;
        let mut buffer = BytesMut::with_capacity(64 * 1024);
        loop {
            let piece = tokio::select! {
                read = from.read_buf(&mut buffer) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    let bytes = buffer.split().freeze();
                    match (&mut frames, &judge) {
                        (Some(frames), Some(judge)) => {
                            let mut judge = judge.lock();
                            frames.pass(&bytes, &mut |push| judge.as_mut().map_or(Fate::Pass, |judge| (judge.0)(push)))
                        }
                        _ => bytes,
                    }
                }
                Ok(changed) = faults.wait_for(|faults| faults.releases != releases) => {
                    releases = changed.releases;
                    frames.as_mut().map(Frames::release).unwrap_or_default()
                }
            };
            let at = Instant::now() + faults.borrow().delay;
            if under_way.send((at, piece)).await.is_err() {
                return Ok(());
            }
            buffer.reserve(16 * 1024);
        }
    };
    tokio::select! {
        // What was read before the end still arrives.
        done = departure => done.and(arrival.await),
        done = &mut arrival => done,
    }
}

/// Writes what comes, each piece at its time, and not while there is a black hole.
async fn arrive(
    mut to: OwnedWriteHalf,
    mut arriving: mpsc::Receiver<(Instant, Bytes)>,
    mut faults: watch::Receiver<Faults>,
    direction: Direction,
) -> io::Result<()> {
    while let Some((at, bytes)) = arriving.recv().await {
        sleep_until(at).await;
        if faults.wait_for(|faults| !faults.holds(direction)).await.is_err() {
            break;
        }
        to.write_all(&bytes).await?;
    }
    Ok(())
}
