//! Unmodified clients as processes of their own: they say in lines of JSON what they were told.

use std::{
    collections::HashMap,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};

use crate::checker::{Checker, Told};

/// What a client says.
#[derive(Debug, Deserialize)]
struct Line {
    client: String,
    topic: String,
    #[serde(flatten)]
    said: Said,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    Subscribed { epoch: String, offset: u64, resumed: Option<bool> },
    Publication { offset: u64, n: u64 },
    Gap { epoch: String, offset: u64 },
    Disconnected { code: u32 },
}

/// Clients of one kind.
pub(crate) struct Clients {
    _process: Child,
}

/// What all clients said, beside what is checked.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// When each client was last told anything, by its name.
    last: Mutex<HashMap<String, Instant>>,
    /// Clients that got something for the first time since [`Heard::mark`], and after how long.
    since_mark: Mutex<Option<(Instant, HashMap<String, Duration>)>>,
    /// How often clients lost their connection, by the code they were told.
    pub(crate) disconnects: Mutex<HashMap<u32, Vec<Instant>>>,
}

impl Heard {
    /// From here on it is measured when each client is told something again.
    pub(crate) fn mark(&self) {
        *self.since_mark.lock() = Some((Instant::now(), HashMap::new()));
    }

    /// How long it took each client since the mark, sorted.
    pub(crate) fn healed(&self) -> Vec<Duration> {
        let mut all: Vec<Duration> = self.since_mark.lock().as_ref().map(|(_, of)| of.values().copied().collect()).unwrap_or_default();
        all.sort();
        all
    }

    fn told(&self, client: &str) {
        let now = Instant::now();
        self.last.lock().insert(client.to_owned(), now);
        if let Some((begun, of)) = &mut *self.since_mark.lock() {
            of.entry(client.to_owned()).or_insert(now - *begun);
        }
    }
}

impl Clients {
    /// Starts a program that opens so many clients to `url` with these topics.
    pub(crate) async fn start(
        program: &Path,
        script: &Path,
        url: &str,
        name: &str,
        count: usize,
        topics: &[String],
        checker: Arc<Mutex<Checker>>,
        heard: Arc<Heard>,
    ) -> Result<Self> {
        let mut process = Command::new(program)
            .arg(script)
            .args([url, name, &count.to_string()])
            .args(topics)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let (subscribed, mut ready) = watch::channel(0_usize);
        tokio::spawn(read(lines, checker, heard, subscribed));
        let wanted = count * topics.len();
        let all = async { ready.wait_for(|subscribed| *subscribed >= wanted).await.is_ok() };
        match tokio::time::timeout(Duration::from_secs(20), all).await {
            Ok(true) => Ok(Self { _process: process }),
            Ok(false) => bail!("{name} ended before its clients were subscribed"),
            Err(_) => bail!("{name}: not all clients are subscribed after 20 s"),
        }
    }
}

async fn read(
    mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    checker: Arc<Mutex<Checker>>,
    heard: Arc<Heard>,
    subscribed: watch::Sender<usize>,
) {
    while let Ok(Some(text)) = lines.next_line().await {
        let line: Line = match serde_json::from_str(&text) {
            Ok(line) => line,
            Err(error) => {
                eprintln!("a client says something unreadable ({error}): {text}");
                continue;
            }
        };
        let told = match line.said {
            Said::Subscribed { epoch, offset, resumed } => {
                subscribed.send_modify(|count| *count += 1);
                Told::Subscribed { epoch, offset, resumed }
            }
            Said::Publication { offset, n } => Told::Publication { offset, number: n },
            Said::Gap { epoch, offset } => Told::Gap { epoch, offset },
            Said::Disconnected { code } => {
                heard.disconnects.lock().entry(code).or_default().push(Instant::now());
                continue;
            }
        };
        heard.told(&line.client);
        checker.lock().told(&line.client, &line.topic, told);
    }
}
