//! A Redis for a demonstration: in memory, on a free port of this machine, gone with whoever started it.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep},
};

/// How long the program may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is asked whether it does.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the program until the end of standard input, which also comes where this process is killed: nothing is left behind.
const SCRIPT: &str = r#"redis-server "$@" >/dev/null & cat >/dev/null; kill $!; wait $!"#;

/// Ends when it is dropped.
pub(crate) struct RedisServer {
    /// Its standard input is what keeps Redis alive.
    _shell: Child,
    /// Where it listens.
    pub(crate) url: String,
}

impl RedisServer {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "redis-server", "--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start redis-server; give the URL of another with --redis")?;
        let until = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if Instant::now() >= until {
                bail!("redis-server does not listen: is it installed? Another one can be given with --redis URL");
            }
            sleep(ASK_INTERVAL).await;
        }
        Ok(Self { _shell: shell, url: format!("redis://127.0.0.1:{port}") })
    }
}
