//! From the command line to a node that serves, and its end in good order. Two nodes live in `two_nodes`.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, thread, time::Duration};

use anyhow::Context;
use axum::{Router, http::StatusCode, routing::get};
use broker::{Broker, Redis, outbox::OutboxHandle};
use clap::Parser;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    Node,
    args::{Args, Mode},
    two_nodes,
};

/// How long connections have to leave at the end, and before them what is staged to be published.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What an application serves.
#[derive(Debug)]
pub struct App {
    /// Its broker, which is drained at the end.
    pub broker: Broker,
    /// Its pages and its API. The broker's sockets, `/health` and `/ready` are added.
    pub router: Router,
    /// Its outbox, which is drained before the broker.
    pub outbox: Option<OutboxHandle>,
}

impl App {
    /// An application without an outbox.
    pub fn new(broker: Broker, router: Router) -> Self {
        Self { broker, router, outbox: None }
    }

    /// The outbox whose rows are to go out before the sockets of this node do.
    pub fn outbox(mut self, outbox: OutboxHandle) -> Self {
        self.outbox = Some(outbox);
        self
    }
}

/// Runs an application: reads the command line, makes a node ready, lets `app` put itself together, and serves it until Ctrl-C or SIGTERM. With
/// `two-nodes` on the command line, two processes of the same program do so, and this one is their balancer.
///
/// Logs go to standard error; standard output has the address: `hello at http://127.0.0.1:3000/`.
pub async fn run<F: clap::Args>(name: &'static str, app: impl AsyncFnOnce(Node, F) -> anyhow::Result<App>) -> anyhow::Result<()> {
    let args = Args::<F>::parse();
    let has_colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(has_colours).with_writer(std::io::stderr).init();
    let data = Data::prepare(args.data)?;
    if args.mode == Mode::TwoNodes {
        return two_nodes::run(name, args.listen, args.redis, &data.folder, stopped()).await;
    }
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    let node = Node::new(args.node.as_deref().unwrap_or(name), address, &data.folder, args.redis.as_deref())?;
    let (shown, redis, is_loopback) = (node.name.clone(), node.redis.clone(), address.ip().is_loopback());
    let App { broker, router, outbox } = app(node, args.flags).await?;
    let sockets = if is_loopback { broker.service().on_loopback() } else { broker.service() };
    let ready = {
        let broker = broker.clone();
        get(async move || is_ready(&broker, redis.as_ref()))
    };
    let router = router.route("/health", get(async || "ok\n")).route("/ready", ready).fallback_service(sockets);
    tracing::info!(node = shown, %address, data = %data.folder.display(), "ready");
    println!("{name} at http://{address}/");
    if data.temporary.is_some() {
        println!("data is kept until the end; --data DIR keeps it longer");
    }
    let is_child = args.node.is_some();
    let stop = async move {
        if is_child {
            tokio::select! {
                () = stopped() => {}
                () = input_ended() => {}
            }
        } else {
            stopped().await;
        }
        end(&broker, outbox.as_ref()).await;
    };
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).with_graceful_shutdown(stop).await?;
    Ok(())
}

/// What was committed goes out while those who are told of it are still there, then they are sent away.
async fn end(broker: &Broker, outbox: Option<&OutboxHandle>) {
    if let Some(outbox) = outbox {
        outbox.drain(DRAIN_TIMEOUT).await;
    }
    broker.drain(DRAIN_TIMEOUT).await;
}

/// Whether to send this node new connections, and why not.
fn is_ready(broker: &Broker, redis: Option<&Redis>) -> (StatusCode, String) {
    if broker.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    match redis.map(|redis| redis.health().troubles).filter(|troubles| !troubles.is_empty()) {
        // Its sockets stay, and another node is no better off: not a reason to turn clients away.
        Some(troubles) => (StatusCode::OK, format!("degraded: {}\n", troubles.join("; "))),
        None => (StatusCode::OK, "ready\n".to_owned()),
    }
}

/// Where data is kept.
struct Data {
    folder: PathBuf,
    /// Removes the folder when it is dropped.
    temporary: Option<tempfile::TempDir>,
}

impl Data {
    fn prepare(folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let temporary = if folder.is_none() { Some(tempfile::Builder::new().prefix("broker-example-").tempdir()?) } else { None };
        let folder = folder.or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned())).expect("one of them is there");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self { folder, temporary })
    }
}

/// Ready when this process is asked to end.
pub(crate) async fn stopped() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminated = signal(SignalKind::terminate()).expect("the process may listen to signals");
        tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = interrupted.await;
}

/// Ready when standard input ends: when whoever started this process has gone.
async fn input_ended() {
    let (ended, wait) = oneshot::channel::<()>();
    // A thread of its own, for which nobody waits: reading standard input cannot be called off.
    thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(ended);
    });
    let _ = wait.await;
}

#[cfg(test)]
mod tests {
    use broker::{
        Namespace, Payload, Publish,
        outbox::{Outbox, OutboxOptions, testing::MemoryOutbox},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_staged_at_the_end_goes_out_before_the_broker_ends() {
        let broker = Broker::builder().default_namespace(Namespace::default()).build().unwrap();
        let store = MemoryOutbox::new();
        let outbox = Outbox::start_with(&broker, store.clone(), OutboxOptions::default().poll_interval(Duration::from_secs(3600)));
        // It has looked, and would look again in an hour.
        tokio::time::sleep(Duration::from_secs(1)).await;
        store.stage(&"news".parse().unwrap(), Publish::new(Payload::json("1"))).unwrap();
        end(&broker, Some(&outbox)).await;
        let status = outbox.status().await.unwrap();
        assert_eq!((status.counts.pending, status.published), (0, 1));
        assert!(broker.is_draining());
    }
}
