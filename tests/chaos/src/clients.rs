//! Unmodified clients as processes of their own: they say in lines of JSON what they were told.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::watch,
};

use crate::{
    checker::{Checker, Told},
    heard::Heard,
    plant::Planter,
    world::QUIET_TOPIC,
};

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

/// A program with clients of one kind.
pub(crate) struct Clients {
    /// The node that they are sent to at first.
    pub(crate) node: usize,
    name: String,
    count: usize,
    topics: Vec<String>,
    _process: Child,
}

/// What a program with clients is started with.
pub(crate) struct Kind<'a> {
    pub(crate) program: &'a Path,
    pub(crate) script: &'a Path,
    pub(crate) url: String,
    pub(crate) name: String,
    pub(crate) node: usize,
    pub(crate) count: usize,
    pub(crate) topics: Vec<String>,
    pub(crate) planter: Planter,
}

impl Clients {
    /// Starts the program, and waits until all its clients are subscribed.
    pub(crate) async fn start(kind: Kind<'_>, checker: Arc<Mutex<Checker>>, heard: Arc<Heard>) -> Result<Self> {
        let Kind { program, script, url, name, node, count, topics, planter } = kind;
        let mut process = Command::new(program)
            .arg(script)
            .args([&url, &name, &count.to_string()])
            .args(&topics)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let (subscribed, mut ready) = watch::channel(0_usize);
        tokio::spawn(Reader { checker, heard, planter, subscribed }.read(lines));
        let wanted = count * topics.len();
        let all = async { ready.wait_for(|subscribed| *subscribed >= wanted).await.is_ok() };
        match tokio::time::timeout(Duration::from_secs(30), all).await {
            Ok(true) => Ok(Self { node, name, count, topics, _process: process }),
            Ok(false) => bail!("{name} ended before its clients were subscribed"),
            Err(_) => bail!("{name}: not all clients are subscribed after 30 s"),
        }
    }

    /// Whether they listen to the quiet topic alone.
    pub(crate) fn is_crowd(&self) -> bool {
        self.topics == [QUIET_TOPIC]
    }

    /// Clients and topics that they listen to.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (String, String)> {
        (0..self.count).flat_map(move |n| self.topics.iter().map(move |topic| (format!("{}-{n}", self.name), topic.clone())))
    }
}

/// Takes what a program says.
struct Reader {
    checker: Arc<Mutex<Checker>>,
    heard: Arc<Heard>,
    planter: Planter,
    /// Answers to subscribes.
    subscribed: watch::Sender<usize>,
}

impl Reader {
    async fn read(mut self, mut lines: Lines<BufReader<ChildStdout>>) {
        while let Ok(Some(text)) = lines.next_line().await {
            match serde_json::from_str(&text) {
                Ok(line) => self.take(line),
                Err(error) => eprintln!("a client says something unreadable ({error}): {text}"),
            }
        }
    }

    fn take(&mut self, Line { client, topic, said }: Line) {
        let told = match said {
            Said::Subscribed { epoch, offset, resumed } => {
                self.subscribed.send_modify(|count| *count += 1);
                self.heard.subscribed(&topic);
                Told::Subscribed { epoch, offset, resumed }
            }
            Said::Publication { offset, n } => Told::Publication { offset, number: n },
            Said::Gap { epoch, offset } => Told::Gap { epoch, offset },
            Said::Disconnected { code } => return self.heard.disconnected(code),
        };
        for told in self.planter.tell(&client, &topic, told) {
            if let Told::Publication { number, .. } = told {
                self.heard.publication(&client, &topic, number);
            }
            self.checker.lock().told(&client, &topic, told);
        }
    }
}
