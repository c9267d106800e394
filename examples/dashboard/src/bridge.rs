//! Keeps the bridge running: a program in Python that takes ticks from the exchange and publishes them over HTTP. What it does lives in
//! `bridge/bridge.py`.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use broker::{Broker, Payload, Publish, Topic};
use serde_json::json;
use tokio::{
    process::{Child, Command},
    sync::Notify,
    time::{Instant, interval, sleep},
};

use crate::dispatch::{Database, now_ms};

const PROGRAM: &str = include_str!("../bridge/bridge.py");

/// How long another node waits for one whose bridge does not go on.
const LEASE: Duration = Duration::from_secs(3);
const LEASE_INTERVAL: Duration = Duration::from_secs(1);
/// Before a bridge that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(2);

/// What the bridge is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Python that runs it; it needs the package `websockets`.
    pub python: String,
    /// Where the exchange is: `http://127.0.0.1:4000`.
    pub exchange: String,
    /// Where it publishes: `http://127.0.0.1:3000`.
    pub broker: String,
    /// The key of the server API. Given to the program by its environment, where nobody reads it.
    pub api_key: String,
}

/// Ends the bridge on request. Cloning gives another handle.
#[derive(Clone, Debug, Default)]
pub struct Switch {
    stop: Arc<Notify>,
}

impl Switch {
    /// Ends the bridge as `kill -9` does, and keeps it down for a while.
    pub fn stop(&self) {
        self.stop.notify_waiters();
    }
}

/// How long a bridge that was stopped stays away.
const STOPPED_FOR: Duration = Duration::from_secs(10);

/// Runs the bridge on one of the nodes that share the database, for ever; one that ends is started again.
pub async fn keep_running(
    settings: Settings,
    folder: &Path,
    node: String,
    database: Database,
    broker: Broker,
    switch: Switch,
) -> anyhow::Result<()> {
    let program = folder.join("bridge.py");
    std::fs::write(&program, PROGRAM)?;
    loop {
        if !database.lease("bridge", &node, LEASE).await.unwrap_or(false) {
            sleep(LEASE_INTERVAL).await;
            continue;
        }
        let (why, pause) = match start(&settings, &program, &node) {
            Ok(child) => watch(child, &node, &database, &switch).await,
            Err(error) => (format!("it cannot be started: {error}"), RESTART_PAUSE),
        };
        tracing::warn!(why, "the bridge is down");
        let said = json!({"at_ms": now_ms(), "hop": "bridge → broker", "what": "bridge ended", "by": "bridge", "code": null, "why": why});
        let topic = Topic::try_from("feed:log").expect("the name is legal");
        if let Err(error) = broker.publish(&topic, Publish::new(Payload::json(said.to_string()))).await {
            tracing::warn!(%error, "the end of the bridge was not published");
        }
        // The lease is kept meanwhile, so that the other node does not start one that is meant to be away.
        let until = Instant::now() + pause;
        while Instant::now() < until {
            let _ = database.lease("bridge", &node, LEASE).await;
            sleep(LEASE_INTERVAL).await;
        }
    }
}

fn start(settings: &Settings, program: &Path, node: &str) -> std::io::Result<Child> {
    Command::new(&settings.python)
        .arg(program)
        .env("EXCHANGE_URL", &settings.exchange)
        .env("BROKER_URL", &settings.broker)
        .env("BROKER_API_KEY", &settings.api_key)
        .env("BRIDGE_NODE", node)
        // It ends with its standard input, so also where this process is killed.
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Waits until the bridge ends, or should not run here any more; says why, and how long to wait.
async fn watch(mut child: Child, node: &str, database: &Database, switch: &Switch) -> (String, Duration) {
    // Waiting for a process closes its standard input, which ends this one.
    let _input = child.stdin.take();
    let mut checks = interval(LEASE_INTERVAL);
    loop {
        tokio::select! {
            status = child.wait() => {
                let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                return (format!("it ended: {how}"), RESTART_PAUSE);
            }
            () = switch.stop.notified() => {
                let _ = child.kill().await;
                return ("it was stopped, as was asked for".to_owned(), STOPPED_FOR);
            }
            _ = checks.tick() => {
                // A database that does not answer says nothing about who should run it.
                if !database.lease("bridge", node, LEASE).await.unwrap_or(true) {
                    let _ = child.kill().await;
                    return ("another node runs it".to_owned(), RESTART_PAUSE);
                }
            }
        }
    }
}
