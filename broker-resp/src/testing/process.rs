//! One process of `redis-server`: start, wait until it serves, signals, end. What is configured lives in `server` and `sentinel`.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::oneshot, time::timeout};

/// How long a server may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A process that ends with its owner.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

/// The program: `REDIS_SERVER`, or what the system has.
pub(crate) fn program() -> OsString {
    std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// A port that nobody listens on, which leaves room for the bus of a cluster 10,000 above it.
pub(crate) fn free_port() -> u16 {
    for _ in 0..1000 {
        let Ok(one) = TcpListener::bind("127.0.0.1:0") else { continue };
        let port = one.local_addr().expect("a listener has an address").port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
    panic!("there is no free port on 127.0.0.1");
}

impl Process {
    /// Starts the program and waits until its log says `ready`; `Err`: it ended before, with this log.
    pub(crate) async fn start(arguments: &[String], ready: &'static str) -> Result<Self, String> {
        let program = program();
        let mut command = Command::new(&program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {}: {error}. Install the package redis-server, or set REDIS_SERVER to the path of one", program.display())
        });
        let (log, (serves, served)) = (Arc::new(Mutex::new(String::new())), oneshot::channel());
        let lines = BufReader::new(child.stdout.take().expect("its output was asked for")).lines();
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut serves = Some(serves);
            for line in lines.map_while(Result::ok) {
                if line.contains(ready) {
                    // Nobody waits any more where the test has ended.
                    serves.take().map(|serves| serves.send(()));
                }
                let mut log = written.lock();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let process = Self { child, log };
        match timeout(START_TIMEOUT, served).await {
            Ok(Ok(())) => Ok(process),
            Ok(Err(_)) => Err(process.log()),
            Err(elapsed) => panic!("the server does not serve within {START_TIMEOUT:?} ({elapsed}):\n{}", process.log()),
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).expect("the process is ours and has not been waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; waiting for it then is all there is to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
