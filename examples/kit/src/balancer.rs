//! A small TCP balancer: one connection after the other to the next node that is ready. It reads nothing of what it forwards, so sockets, uploads
//! and streams all pass, and the nodes see its address and the browser's `Host`.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// How often nodes are asked whether they are ready.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A node that does not answer for so long is not ready.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// A node that does not accept within this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Most connections at the same time; others wait in the listener's queue.
const CONNECTIONS_MAX: usize = 20_000;
/// How long to wait when a connection cannot be accepted, for lack of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Nodes {
    nodes: Vec<(SocketAddr, AtomicBool)>,
    turn: AtomicUsize,
}

impl Nodes {
    /// All nodes, in the order in which the next connection tries them: round robin, those that are ready first.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<_> = (0..self.nodes.len()).map(|step| &self.nodes[(turn + step) % self.nodes.len()]).collect();
        order.sort_by_key(|(_, ready)| !ready.load(Ordering::Relaxed));
        order.into_iter().map(|(address, _)| *address).collect()
    }
}

/// Forwards each connection to the next of these nodes that is ready (`GET /ready` answers 2xx), for ever. Dropping the future stops accepting.
pub async fn serve(listener: TcpListener, nodes: Vec<SocketAddr>) {
    let nodes = Arc::new(Nodes { nodes: nodes.into_iter().map(|node| (node, AtomicBool::new(true))).collect(), turn: AtomicUsize::new(0) });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::join!(watch(&nodes), async {
        loop {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            let Ok((near, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let order = nodes.in_turn();
            tokio::spawn(async move {
                forward(near, order).await;
                drop(place);
            });
        }
    });
}

async fn watch(nodes: &Nodes) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (address, ready) in &nodes.nodes {
            let is_ready = timeout(CHECK_TIMEOUT, is_ready(*address)).await.is_ok_and(|answer| answer.unwrap_or(false));
            if ready.swap(is_ready, Ordering::Relaxed) != is_ready {
                tracing::info!(node = %address, "{}", if is_ready { "the node is ready" } else { "the node is not ready: it gets no new connections" });
            }
        }
    }
}

async fn is_ready(node: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(node).await?;
    stream.write_all(format!("GET /ready HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut status = [0; 10];
    stream.read_exact(&mut status).await?;
    Ok(status.ends_with(b" 2"))
}

async fn forward(mut near: TcpStream, order: Vec<SocketAddr>) {
    for node in order {
        let Ok(Ok(mut far)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(node)).await else { continue };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        // How it ends is the two ends' own affair.
        let _ = copy_bidirectional(&mut near, &mut far).await;
        return;
    }
}
