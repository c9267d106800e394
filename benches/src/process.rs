//! The processes under measurement: started on a core of their own, asked for their CPU time and memory, ended with the bench.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};

/// The core of the process under measurement.
const CORE: &str = "0";

/// The core of the load.
const LOAD_CORE: &str = "1";

/// Time in which a process that has answered everything comes to rest.
const REST: Duration = Duration::from_millis(30);

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    /// Kept open, so that the server may write to it.
    _output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a program that says on its standard output where it listens.
    pub(crate) fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        Self::start_logging(program, arguments, environment, "", Stdio::inherit())
    }

    /// One of the examples: it says `<name> at http://127.0.0.1:..`, and perhaps other addresses before; its log goes nowhere.
    pub(crate) fn start_example(program: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_logging(program, arguments, &[], " at http://", Stdio::null())
    }

    /// `before` stands before the address.
    fn start_logging(program: &Path, arguments: &[&str], environment: &[(&str, &str)], before: &str, log: Stdio) -> Result<Self> {
        let mut child = Command::new("taskset")
            .args(["--cpu-list", CORE])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot run taskset (of the package util-linux)")?;
        let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        match address(&mut output, before) {
            Ok(address) => Ok(Self { child, _output: output, address }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error.context(format!("{} did not start", program.display())))
            }
        }
    }

    /// CPU time of all threads since the start, in nanoseconds. Waits until the process rests.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        thread::sleep(REST);
        cpu_ns(self.child.id())
    }

    /// Resident memory, in bytes.
    pub(crate) fn rss_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the process has no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// CPU time of all threads of a process since its start, in nanoseconds.
pub(crate) fn cpu_ns(process: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let times = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = times.split_whitespace().next().context("schedstat is empty")?;
        sum += first.parse::<u64>()?;
    }
    Ok(sum)
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either fails only where the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first address of the loopback in what a program says that has this before it.
fn address(output: &mut impl BufRead, before: &str) -> Result<SocketAddr> {
    let (address, mut line) = (format!("{before}127.0.0.1:"), String::new());
    while output.read_line(&mut line)? > 0 {
        if let Some(at) = line.find(&address).map(|at| at + before.len()) {
            return Ok(line[at..].trim_end().trim_end_matches('/').parse()?);
        }
        line.clear();
    }
    bail!("it said no address")
}

/// Puts this process on the core of the load.
pub(crate) fn pin_load() -> Result<()> {
    let pinned = Command::new("taskset")
        .args(["--cpu-list", "--pid", LOAD_CORE, &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("cannot run taskset (of the package util-linux)")?;
    ensure!(pinned.success(), "the bench needs two cores, {CORE} and {LOAD_CORE}");
    Ok(())
}

/// Lets this process, and those that it starts, open as many files as the system allows.
pub(crate) fn raise_file_limit(needed: u64) -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    ensure!(limit.maximum.is_none_or(|maximum| maximum >= needed), "the bench needs {needed} open files: ulimit -n {needed}");
    Ok(())
}
