//! The binary as a process on free ports, with everything that it printed.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::PATIENCE;

pub(crate) struct Server {
    /// `127.0.0.1:port` of the open listener.
    pub(crate) address: String,
    child: Child,
    log: JoinHandle<String>,
}

impl Server {
    /// Starts `broker serve --dev` with settings from the environment.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_broker"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"])
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary of this package was built");
        let (lines, mut printed) = mpsc::unbounded_channel();
        forward(child.stdout.take().expect("standard output is piped"), lines.clone());
        forward(child.stderr.take().expect("standard error is piped"), lines);
        let mut log = String::new();
        let address = loop {
            let line = timeout(PATIENCE, printed.recv()).await.unwrap_or_else(|_| panic!("no address was printed:\n{log}"));
            let line = line.unwrap_or_else(|| panic!("the server ended:\n{log}"));
            log.push_str(&line);
            log.push('\n');
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["listen", url] = words[..] {
                break url.trim_start_matches("http://").to_owned();
            }
        };
        let log = tokio::spawn(async move {
            while let Some(line) = printed.recv().await {
                log.push_str(&line);
                log.push('\n');
            }
            log
        });
        Self { address, child, log }
    }

    /// Asks the process to end as an operator would; answers its whole log.
    pub(crate) async fn stop(mut self) -> String {
        assert_eq!(self.child.try_wait().expect("a child can be asked"), None, "the server ended by itself");
        let id = self.child.id().expect("it runs").to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.expect("kill can be run");
        let status = timeout(2 * PATIENCE, self.child.wait()).await.expect("it ends when asked to").expect("a child can be waited for");
        assert!(status.success(), "{status}");
        self.log.await.expect("the log is read to its end")
    }
}

fn forward(pipe: impl tokio::io::AsyncRead + Send + Unpin + 'static, lines: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut read = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = read.next_line().await {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
}
