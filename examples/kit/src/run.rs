//! From the command line to a node that serves, and its end in good order. Two nodes live in `two_nodes`.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, thread, time::Duration};

use anyhow::Context;
use axum::{Router, http::StatusCode, routing::get};
use broker::{Broker, Redis};
use clap::Parser;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    Node,
    args::{Args, Mode},
    two_nodes,
};

/// How long connections have to leave at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What an application serves.
#[derive(Debug)]
pub struct App {
    /// Its broker, which is drained at the end.
    pub broker: Broker,
    /// Its pages and its API. The broker's sockets, `/health` and `/ready` are added.
    pub router: Router,
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
    let App { broker, router } = app(node, args.flags).await?;
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
        broker.drain(DRAIN_TIMEOUT).await;
    };
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).with_graceful_shutdown(stop).await?;
    Ok(())
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
