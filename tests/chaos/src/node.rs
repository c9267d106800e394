//! One `broker serve` as a process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};

/// The key of the server API.
pub(crate) const API_KEY: &str = "chaos-key-of-at-least-32-characters";

/// A node that runs, or ran.
pub(crate) struct Node {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    pub(crate) name: String,
    pub(crate) public: SocketAddr,
    process: Option<Child>,
}

/// Clients of a node that ends are sent away over this time.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);

/// What every node is told, but for where Redis is.
const CONFIG: &str = r#"
[server]
log_level = "debug"
drain_timeout = "DRAIN_MSms"
[client]
anonymous = true
ping_interval = "2s"
pong_timeout = "1s"
[api]
key = "KEY"
[backplane]
kind = "redis"
url = "URL"
durable = DURABLE
[namespaces.chaos]
history_size = 10000
presence = true
history_ttl = "10m"
allow = ["sub", "hst", "prs"]
allow_anonymous = true
slow_consumer = "catch_up"
"#;

impl Node {
    /// Starts a node that finds Redis at `url`, and keeps its files in `folder`.
    pub(crate) async fn start(program: &Path, folder: &Path, name: &str, url: &str, durable: bool) -> Result<Self> {
        let config = folder.join(format!("{name}.toml"));
        let text = CONFIG
            .replace("KEY", API_KEY)
            .replace("DRAIN_MS", &DRAIN_TIMEOUT.as_millis().to_string())
            .replace("URL", url)
            .replace("DURABLE", &durable.to_string());
        std::fs::write(&config, text)?;
        // Free at this moment, and its own from now on: it comes back at the same address.
        let public = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let log = folder.join(format!("{name}.log"));
        let mut node = Self { program: program.to_owned(), config, log, name: name.to_owned(), public, process: None };
        node.run().await?;
        Ok(node)
    }

    /// Starts it again where it was.
    pub(crate) async fn run(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut process = Command::new(&self.program)
            .args(["serve", "--config"])
            .arg(&self.config)
            .args(["--listen", &self.public.to_string(), "--internal-listen", "127.0.0.1:0"])
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let told = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(&self.public.to_string()) {
                    return Ok(());
                }
            }
            bail!("{} ended at its start, see {}", self.name, self.log.display())
        };
        tokio::time::timeout(Duration::from_secs(20), told).await.context("it does not say where it listens")??;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.process = Some(process);
        Ok(())
    }

    /// Ends it without a word.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Lets it drain and end.
    pub(crate) async fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        if let Some(mut process) = self.process.take() {
            tokio::time::timeout(Duration::from_secs(30), process.wait()).await.context("it does not end")??;
        }
        Ok(())
    }

    /// Stops it, or lets it go on.
    pub(crate) fn pause(&self, pause: bool) -> Result<()> {
        self.signal(if pause { Signal::STOP } else { Signal::CONT })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.process.as_ref().and_then(Child::id).context("it does not run")?;
        let id = Pid::from_raw(id.try_into()?).context("no process id")?;
        Ok(kill_process(id, signal)?)
    }
}
