//! A Redis for the nodes under measurement, on the core of the load: what it is asked, and what that costs it.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// Time in which a new server answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that keeps nothing on disk and ends with the bench.
pub(crate) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run redis-server")?;
        let redis = Self { child, port };
        let started = Instant::now();
        while redis.ask(&["PING"]).ok().is_none_or(|answer| answer.trim() != "PONG") {
            ensure!(started.elapsed() < PATIENCE, "redis-server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// CPU time since the start, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        process::cpu_ns(self.child.id())
    }

    /// Asks with `redis-cli`.
    pub(crate) fn ask(&self, command: &[&str]) -> Result<String> {
        let output =
            Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(command).output().context("cannot run redis-cli")?;
        if !output.status.success() {
            bail!("redis-cli: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes down every command from here on.
    pub(crate) fn record(&self) -> Result<()> {
        for command in [["CONFIG", "SET", "slowlog-max-len", "1000000"], ["CONFIG", "SET", "slowlog-log-slower-than", "0"]] {
            self.ask(&command)?;
        }
        self.ask(&["SLOWLOG", "RESET"])?;
        Ok(())
    }

    /// The commands since [`Redis::record`], each with its first arguments. What scripts call is among them too.
    pub(crate) fn recorded(&self) -> Result<Vec<Vec<String>>> {
        self.ask(&["CONFIG", "SET", "slowlog-log-slower-than", "-1"])?;
        let text = self.ask(&["--json", "SLOWLOG", "GET", "1000000"])?;
        let entries: Vec<serde_json::Value> = serde_json::from_str(&text).context("the slow log is unreadable")?;
        let words = |entry: &serde_json::Value| -> Option<Vec<String>> {
            entry.get(3)?.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
        };
        entries.iter().map(|entry| words(entry).context("an entry of the slow log is unreadable")).collect()
    }

    /// Connections, and those of them that have subscribed to something.
    pub(crate) fn connections(&self) -> Result<(usize, usize)> {
        let list = self.ask(&["CLIENT", "LIST"])?;
        // One of them is the question's own.
        let lines: Vec<&str> = list.lines().filter(|line| line.contains("id=") && !line.contains("cmd=client")).collect();
        let subscribes = |line: &&&str| line.split(' ').any(|part| part.starts_with("sub=") && part != "sub=0");
        Ok((lines.len(), lines.iter().filter(subscribes).count()))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Either fails only where the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
