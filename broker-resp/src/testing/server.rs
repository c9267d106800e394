//! One `redis-server` on a free port of loopback. Its process lives in `process`.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Address, CallError, Command, Link, Options, Target, Value, Wait,
    testing::process::{Process, free_port},
};

/// A `redis-server` without persistence, in a folder of its own, killed when this is dropped. `REDIS_SERVER` names another program.
#[derive(Debug)]
pub struct Server {
    process: Option<Process>,
    port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

/// What its log says when it serves.
const READY: &str = "eady to accept connections";

impl Server {
    /// Starts a server and waits until it serves.
    pub async fn start() -> Self {
        Self::start_with::<&str>(&[]).await
    }

    /// Starts a server with more settings, as on its command line: `["--requirepass", "secret"]`. `{folder}` in a setting
    /// becomes the folder of the server, `{port}` its port.
    pub async fn start_with<A: AsRef<str>>(arguments: &[A]) -> Self {
        let folder = tempfile::Builder::new().prefix("resp-").tempdir().expect("a temporary folder can be made");
        let arguments = arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
        let mut server = Self { process: None, port: free_port(), folder, arguments };
        // Whoever else looks for a port may have got the same one.
        for _ in 0..20 {
            match server.launch().await {
                Ok(()) => return server,
                Err(log) if log.contains("Address already in use") => server.port = free_port(),
                Err(log) => panic!("the server does not start:\n{log}"),
            }
        }
        panic!("found no port to listen on")
    }

    /// Kills it as a crash would (SIGKILL). Its files stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it in order with a snapshot of its data, which the next start reads.
    pub async fn shut_down(&mut self) {
        // The answer to it is the end of the connection.
        let _ = self.try_call(&Command::new("SHUTDOWN").arg("SAVE")).await;
        self.process = None;
    }

    /// Starts it again on the same port, with the files that are there.
    pub async fn restart(&mut self) {
        self.process = None;
        for _ in 0..100 {
            match self.launch().await {
                Ok(()) => return,
                // Connections of other tests may sit on the port for a moment.
                Err(log) if log.contains("Address already in use") => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(log) => panic!("the server does not start again:\n{log}"),
            }
        }
        panic!("port {} is taken", self.port)
    }

    /// Deletes its files: the next start has no data.
    pub fn forget_data(&self) {
        for entry in self.folder.path().read_dir().expect("the folder is ours").flatten() {
            let removed = if entry.path().is_dir() { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
            removed.expect("what is in the folder is ours");
        }
    }

    /// Stops it without closing anything (SIGSTOP), as an overloaded machine would.
    pub fn pause(&self) {
        self.process().signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.process().signal(Signal::CONT);
    }

    /// Whether it was started and not killed.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub fn address(&self) -> Address {
        Address::Tcp { host: "127.0.0.1".to_owned(), port: self.port }
    }

    /// It as the target of a link.
    pub fn target(&self) -> Target {
        Target::at(self.address())
    }

    /// Its process, for whoever measures it; while it runs.
    pub fn process_id(&self) -> u32 {
        self.process().id()
    }

    /// The folder with its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged since its last start.
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// Asks it something on a connection of its own; an error is a panic.
    pub async fn call(&self, command: &Command) -> Value {
        self.try_call(command).await.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Asks it something on a connection of its own.
    pub async fn try_call(&self, command: &Command) -> Result<Value, CallError> {
        self.try_call_as(self.target(), command).await
    }

    /// Asks it something as somebody else, or over TLS.
    pub async fn try_call_as(&self, target: Target, command: &Command) -> Result<Value, CallError> {
        let (link, _events) = Link::open(target, Options::default());
        link.call(command, Wait::at_most(Duration::from_secs(10)).for_link()).await
    }

    async fn launch(&mut self) -> Result<(), String> {
        let folder = self.folder.path().display().to_string();
        let port = self.port.to_string();
        // Later settings win over these.
        let mut arguments: Vec<String> =
            ["--port", &port, "--bind", "127.0.0.1", "--dir", &folder, "--save", "", "--appendonly", "no"].map(str::to_owned).into();
        arguments.extend(self.arguments.iter().map(|argument| argument.replace("{folder}", &folder).replace("{port}", &port)));
        self.process = Some(Process::start(&arguments, READY).await?);
        Ok(())
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("the server runs")
    }
}
