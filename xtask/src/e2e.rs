//! `cargo xtask test` and `e2e`: the suites with real clients against the real binary, and the count at the end.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::needs::PackagedServer;
use crate::pool::{self, Counted, Done, Job};
use crate::process::{self, cargo, command};
use crate::products::{self, Products};
use crate::report::Count;
use crate::{needs, workspace};

/// The longest that one suite may take, beside others.
const SUITE_TIMEOUT: Duration = Duration::from_secs(180);

/// The longest that one binary of tests may take, or the documentation's examples, which are compiled first.
const CARGO_TIMEOUT: Duration = Duration::from_secs(300);

/// What runs a suite.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Runner {
    Node,
    Chromium,
    /// Chromium, and Python for what stands beside the page.
    ChromiumAndPython,
    Python,
    /// Python, and servers whose clock of the wall can be set.
    FakedClock,
    /// Python, and nginx and haproxy.
    Balancers,
    /// Faults, with clients in Node and Python.
    Chaos,
}

/// The suites: name, what runs them, file below `tests/e2e`, or which part of the chaos test.
const SUITES: &[(&str, Runner, &str)] = &[
    ("centrifuge in Node", Runner::Node, "node/sdk_in_node.test.mjs"),
    ("server life with centrifuge", Runner::Node, "node/server_life.test.mjs"),
    ("slow clients in Node", Runner::Node, "node/slow_clients.test.mjs"),
    ("centrifuge in Chromium", Runner::Chromium, "node/sdk_in_chromium.test.mjs"),
    ("WebSocket in Chromium", Runner::Chromium, "node/websocket_in_chromium.test.mjs"),
    ("EventSource in Chromium", Runner::Chromium, "node/eventsource_in_chromium.test.mjs"),
    ("recovery in Chromium", Runner::Chromium, "node/recovery_in_chromium.test.mjs"),
    ("broker.js alone", Runner::Node, "node/broker_js.test.mjs"),
    ("broker.js in Node", Runner::Node, "node/broker_js_in_node.test.mjs"),
    ("broker.js in Chromium", Runner::Chromium, "node/broker_js_in_chromium.test.mjs"),
    ("dev page in Chromium", Runner::Chromium, "node/dev_page.test.mjs"),
    ("dashboard in Chromium", Runner::ChromiumAndPython, "node/dashboard.test.mjs"),
    ("ocs in Chromium", Runner::Chromium, "node/ocs.test.mjs"),
    ("spc in Chromium", Runner::Chromium, "node/spc.test.mjs"),
    ("chat in Chromium", Runner::Chromium, "node/chat.test.mjs"),
    ("centrifuge-python", Runner::Python, "python/test_centrifuge_python.py"),
    ("cent", Runner::Python, "python/test_cent.py"),
    ("websockets", Runner::Python, "python/test_websockets.py"),
    ("recovery in Python", Runner::Python, "python/test_recovery.py"),
    ("curl", Runner::Python, "python/test_curl.py"),
    ("SSE in Python and curl", Runner::Python, "python/test_sse.py"),
    ("command line", Runner::Python, "python/test_command_line.py"),
    ("identity", Runner::Python, "python/test_identity.py"),
    ("groups", Runner::Python, "python/test_groups.py"),
    ("rights", Runner::Python, "python/test_rights.py"),
    ("tenants", Runner::Python, "python/test_tenants.py"),
    ("tokens", Runner::Python, "python/test_tokens.py"),
    ("rates", Runner::Python, "python/test_rates.py"),
    ("backends", Runner::Python, "python/test_backends.py"),
    ("log", Runner::Python, "python/test_log.py"),
    ("spc in Python", Runner::Python, "python/test_spc.py"),
    ("sizes", Runner::Python, "python/test_sizes.py"),
    ("half-open networks", Runner::Python, "python/test_half_open.py"),
    ("liveness", Runner::Python, "python/test_liveness.py"),
    ("dashboard in Python", Runner::Python, "python/test_dashboard.py"),
    ("chat in Python", Runner::Python, "python/test_chat.py"),
    ("clock", Runner::FakedClock, "python/test_clock.py"),
    ("many nodes", Runner::Python, "python/test_redis.py"),
    ("the bus between nodes", Runner::Python, "python/test_bus.py"),
    ("state on many nodes", Runner::Python, "python/test_keyed_nodes.py"),
    ("arrangements of Redis", Runner::Python, "python/test_topologies.py"),
    ("doctor", Runner::Python, "python/test_doctor.py"),
    ("balancers", Runner::Balancers, "python/test_balancers.py"),
    ("chaos", Runner::Chaos, "--short"),
];

/// How many seconds some suites take, about; the others take [`SHORT`]. The longest begin first.
const LONG: &[(&str, u64)] = &[
    ("cargo test broker-redis it", 40),
    (needs::OLD_REDIS.name, 40),
    (needs::VALKEY.name, 40),
    ("arrangements of Redis", 45),
    (OF_DOCUMENTATION, 60),
    ("half-open networks", 50),
    ("dashboard in Chromium", 50),
    ("centrifuge in Chromium", 40),
    ("broker.js in Chromium", 40),
    ("balancers", 40),
    ("ocs in Chromium", 35),
    ("clock", 35),
    ("identity", 35),
    ("dashboard in Python", 30),
    ("slow clients in Node", 30),
    ("cargo test simulation seeds", 30),
    ("doctor", 30),
    ("many nodes", 30),
    ("centrifuge in Node", 25),
    ("cargo test broker-resp it", 25),
    ("tokens", 25),
    ("groups", 20),
    ("rights", 20),
    ("the bus between nodes", 20),
];

/// What a suite takes that is not among the [`LONG`] ones, in seconds.
const SHORT: u64 = 10;

/// Suites whose tests mostly wait, each for itself: so many run at a time, those of pytest in processes and with servers of their own.
const SPLIT: &[(&str, u8)] = &[
    ("balancers", 3),
    ("cargo test broker-redis it", 4),
    ("cargo test broker-resp it", 4),
    ("clock", 3),
    ("doctor", 3),
    ("identity", 3),
    ("many nodes", 2),
    (needs::OLD_REDIS.name, 4),
    (needs::VALKEY.name, 4),
];

/// Suites that measure what others beside them would disturb: how soon nodes heal, how soon a pong comes beside a topic as fast as the machine.
const ALONE: &[&str] = &["liveness", "chaos"];

/// `cargo xtask test`: everything, from the packages it needs to the count.
pub(crate) fn test() -> Result<bool> {
    let started = Instant::now();
    let suites: Vec<&Suite> = SUITES.iter().collect();
    // Packages come over the network while the compiler has the cores.
    let means = thread::spawn({
        let suites = suites.clone();
        move || Means::prepare(&suites, true)
    });
    let products = products::of_workspace()?;
    eprintln!("built after {:.0} s", started.elapsed().as_secs_f64());
    let means = means.join().map_err(|_| anyhow!("preparing the suites panicked"))?;
    eprintln!("all is there after {:.0} s", started.elapsed().as_secs_f64());
    let mut jobs = cargo_jobs(&products);
    let mut done = Vec::new();
    let others = means.other_servers.iter().map(|server| backplane_on(server, &products));
    for job in others.chain(suites.iter().map(|suite| means.job(suite, &products))) {
        match job {
            Ok(job) => jobs.push(job),
            Err(broken) => done.push(broken),
        }
    }
    done.extend(pool::run(jobs, at_once()));
    let passed = summary(done);
    eprintln!("after {:.0} s", started.elapsed().as_secs_f64());
    Ok(passed)
}

/// `cargo xtask e2e`: the suites whose name contains `filter`.
pub(crate) fn only(filter: &str) -> Result<bool> {
    let suites: Vec<&Suite> = SUITES.iter().filter(|(name, ..)| name.contains(filter)).collect();
    let names: Vec<&str> = SUITES.iter().map(|(name, ..)| *name).collect();
    ensure!(!suites.is_empty(), "no suite is called {filter:?}; there are: {}", names.join(", "));
    let means = thread::spawn({
        let suites = suites.clone();
        move || Means::prepare(&suites, false)
    });
    let missing: Vec<(&str, &str)> =
        PROGRAMS.iter().filter(|(variable, ..)| env::var_os(variable).is_none()).map(|(_, package, binary)| (*package, *binary)).collect();
    let products = if missing.is_empty() { Products::default() } else { products::of_programs(&missing)? };
    let means = means.join().map_err(|_| anyhow!("preparing the suites panicked"))?;
    let (mut jobs, mut done) = (Vec::new(), Vec::new());
    for suite in suites {
        match means.job(suite, &products) {
            Ok(job) => jobs.push(job),
            Err(broken) => done.push(broken),
        }
    }
    done.extend(pool::run(jobs, at_once()));
    Ok(summary(done))
}

/// How many suites run at a time: `E2E_JOBS`, or twice as many as there are cores, since most of them wait most of the time.
fn at_once() -> usize {
    let asked = env::var("E2E_JOBS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| 2 * thread::available_parallelism().map_or(2, usize::from)).clamp(1, 16)
}

/// `cargo xtask hostile`: the generated cases over real sockets, as many as asked for.
pub(crate) fn hostile(cases: u32) -> Result<bool> {
    let mut test = cargo(&["test", "--package", "broker-server", "--test", "hostile", "--", "--nocapture"]);
    process::passes(test.env("HOSTILE_CASES", cases.to_string()))
}

/// What the sum says of the tests that cargo knows.
const OF_CARGO: &str = "cargo test";

/// The examples in the documentation, which are compiled once more.
const OF_DOCUMENTATION: &str = "cargo test --doc";

/// A job for each binary with tests, and one for the examples in the documentation.
fn cargo_jobs(products: &Products) -> Vec<Job> {
    let binaries = products.tests.iter().map(|test| cargo_job(format!("{OF_CARGO} {} {}", test.package, test.target), test.command()));
    let documentation = products::whole_workspace(&["test", "--no-fail-fast", "--doc"]);
    binaries.chain([cargo_job(OF_DOCUMENTATION.to_owned(), documentation)]).collect()
}

fn cargo_job(name: String, mut command: Command) -> Job {
    if let Some(tests) = split(&name) {
        command.env("RUST_TEST_THREADS", tests.to_string());
    }
    let expected = Duration::from_secs(seconds(&name));
    Job { weight: weight(&name), name, command, expected, alone: false, limit: CARGO_TIMEOUT, counted: Counted::Output }
}

/// The servers besides the installed Redis that the backplane's tests run on, and with which of their rooms, or all: the oldest one has no cluster
/// with sharded channels and no `ACL DRYRUN`.
const OTHER_SERVERS: &[(PackagedServer, &[&str])] =
    &[(needs::OLD_REDIS, &["conformance::", "control::", "data::", "network::", "nodes::", "presence::"]), (needs::VALKEY, &[])];

/// One of [`OTHER_SERVERS`].
struct OtherServer {
    name: &'static str,
    rooms: &'static [&'static str],
    program: Result<PathBuf, String>,
}

impl OtherServer {
    fn prepare((server, rooms): &(PackagedServer, &'static [&'static str])) -> Self {
        Self { name: server.name, rooms, program: server.install().map_err(|error| format!("{error:#}")) }
    }
}

/// `cargo xtask test`'s part with another server.
fn backplane_on(server: &OtherServer, products: &Products) -> Result<Job, Done> {
    let program = server.program.as_ref().map_err(|reason| broken(server.name, reason))?;
    let test = products.tests.iter().find(|test| (test.package.as_str(), test.target.as_str()) == ("broker-redis", "it"));
    let mut command = test.ok_or_else(|| broken(server.name, "its tests were not built"))?.command();
    command.args(server.rooms).env("REDIS_SERVER", program);
    Ok(cargo_job(server.name.to_owned(), command))
}

/// A suite whose needs cannot be met counts as failed, with the reason, and the others go on.
fn broken(name: &str, reason: &str) -> Done {
    eprintln!("\n{name} cannot run: {reason}");
    Done { name: name.to_owned(), count: Count::BROKEN, took: Duration::ZERO, beside_others: None }
}

/// How many tests of a suite run at a time, where that is not what its runner does by itself.
fn split(name: &str) -> Option<u8> {
    SPLIT.iter().find(|(split, _)| *split == name).map(|(_, tests)| *tests)
}

/// How many places a job takes: what compiles, or runs several of its tests at a time, keeps a core busy as a browser does.
fn weight(name: &str) -> usize {
    if name == OF_DOCUMENTATION || split(name).is_some_and(|tests| tests > 2) { 2 } else { 1 }
}

fn seconds(name: &str) -> u64 {
    LONG.iter().find(|(long, _)| *long == name).map_or(SHORT, |(_, seconds)| *seconds)
}

/// A program that the suites start: the variable that tells them its path, its package, its binary.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("BROKER_BIN", "broker-server", "broker"),
    ("APPLICATION_BIN", "e2e-application", "e2e-application"),
    ("DASHBOARD_BIN", "dashboard", "dashboard"),
    ("OCS_BIN", "ocs", "ocs"),
    ("SPC_BIN", "spc", "spc"),
    ("CHAT_BIN", "chat", "chat"),
    ("CHAOS_BIN", "chaos", "chaos"),
];

/// A suite: its name, what runs it, its file.
type Suite = (&'static str, Runner, &'static str);

/// What the runners need: there, or why it is not.
struct Means {
    redis: Result<(), String>,
    /// Those of [`OTHER_SERVERS`] that are wanted.
    other_servers: Vec<OtherServer>,
    node: Result<(), String>,
    chromium: Result<PathBuf, String>,
    python: Result<PathBuf, String>,
    faketime: Result<PathBuf, String>,
    balancers: Result<(), String>,
}

impl Means {
    /// Installs what these suites need and is missing.
    fn prepare(suites: &[&Suite], everything: bool) -> Self {
        fn when<T>(wanted: bool, prepare: fn() -> Result<T>) -> Result<T, String> {
            if wanted { prepare().map_err(|error| format!("{error:#}")) } else { Err("it was not asked for".to_owned()) }
        }
        let any = |runners: &[Runner]| suites.iter().any(|(_, runner, _)| runners.contains(runner));
        let python = any(&[Runner::ChromiumAndPython, Runner::Python, Runner::FakedClock, Runner::Balancers, Runner::Chaos]);
        if everything && let Err(error) = needs::packages() {
            // Each need below says what it misses.
            eprintln!("{error:#}");
        }
        Self {
            // Pages of examples run on two nodes, too.
            redis: when(python || everything || any(&[Runner::Chromium]), needs::redis),
            node: when(any(&[Runner::Node, Runner::Chromium, Runner::ChromiumAndPython, Runner::Chaos]), needs::node),
            python: when(python, || needs::curl().and_then(|()| needs::openssl()).and_then(|()| needs::python())),
            chromium: when(any(&[Runner::Chromium, Runner::ChromiumAndPython]), needs::chromium),
            faketime: when(any(&[Runner::FakedClock]), needs::faketime),
            balancers: when(any(&[Runner::Balancers]), needs::balancers),
            other_servers: if everything { OTHER_SERVERS.iter().map(OtherServer::prepare).collect() } else { Vec::new() },
        }
    }

    /// What runs a suite.
    fn job(&self, (name, runner, file): &Suite, products: &Products) -> Result<Job, Done> {
        let report = workspace::artifacts().join(format!("{}.xml", name.replace(' ', "-")));
        let _ = fs::remove_file(&report);
        let programs = programs(products).map_err(|error| broken(name, &format!("{error:#}")))?;
        let suite = match runner {
            Runner::Node | Runner::Chromium | Runner::ChromiumAndPython => self.node_suite(*runner, file, &report),
            Runner::Python | Runner::FakedClock | Runner::Balancers => self.python_suite(*runner, name, file, &report),
            Runner::Chaos => self.chaos_suite(file, &report, &programs),
        };
        let mut suite = suite.map_err(|reason| broken(name, &reason))?;
        suite.envs(programs).env("E2E_ARTIFACTS", workspace::artifacts());
        Ok(Job {
            name: (*name).to_owned(),
            command: suite,
            expected: Duration::from_secs(seconds(name)),
            alone: ALONE.contains(name),
            weight: if matches!(runner, Runner::Chromium | Runner::ChromiumAndPython) { 2 } else { weight(name) },
            limit: SUITE_TIMEOUT,
            counted: Counted::Junit(report),
        })
    }

    fn node_suite(&self, runner: Runner, file: &str, report: &Path) -> Result<Command, String> {
        self.node.clone()?;
        let mut suite = command(
            "node",
            &["--test", "--test-timeout=150000", "--test-reporter=spec", "--test-reporter-destination=stdout", "--test-reporter=junit"],
        );
        suite.arg(format!("--test-reporter-destination={}", report.display())).arg(format!("tests/e2e/{file}"));
        if matches!(runner, Runner::Chromium | Runner::ChromiumAndPython) {
            suite.env("CHROMIUM", self.chromium.clone()?);
        }
        if runner == Runner::ChromiumAndPython {
            suite.env("E2E_PYTHON", self.python.clone()?);
        }
        Ok(suite)
    }

    fn chaos_suite(&self, part: &str, report: &Path, programs: &[(&str, PathBuf)]) -> Result<Command, String> {
        self.node.clone()?;
        self.redis.clone()?;
        let (_, program) = programs.iter().find(|(variable, _)| *variable == "CHAOS_BIN").ok_or("the chaos test was not built")?;
        let mut suite = command(program, &[part, "--junit"]);
        suite.arg(report).arg("--python").arg(self.python.clone()?).arg("--logs").arg(workspace::artifacts().join("chaos"));
        Ok(suite)
    }

    fn python_suite(&self, runner: Runner, name: &str, file: &str, report: &Path) -> Result<Command, String> {
        self.redis.clone()?;
        let mut suite = command(self.python.clone()?, &["-m", "pytest", "--quiet"]);
        if let Some(tests) = split(name) {
            suite.arg(format!("--numprocesses={tests}")).arg("--dist=worksteal");
        }
        suite.arg(format!("--junitxml={}", report.display())).arg(format!("tests/e2e/{file}"));
        match runner {
            Runner::FakedClock => _ = suite.env("LIBFAKETIME", self.faketime.clone()?),
            Runner::Balancers => self.balancers.clone()?,
            _ => {}
        }
        Ok(suite)
    }
}

/// The programs that the suites start, with their variables. One that its variable names already is taken as it is, the others are what was built.
fn programs(products: &Products) -> Result<Vec<(&'static str, PathBuf)>> {
    let find = |(variable, _, binary): &(&'static str, &str, &str)| {
        let path = env::var_os(variable).map(PathBuf::from).or_else(|| products.program(binary).map(Path::to_owned));
        Ok((*variable, path.with_context(|| format!("{binary} was not built"))?))
    };
    PROGRAMS.iter().map(find).collect()
}

/// Prints one line a suite and the closing line; `false` when something failed.
fn summary(done: Vec<Done>) -> bool {
    let (of_cargo, mut suites): (Vec<Done>, Vec<Done>) = done.into_iter().partition(|done| done.name.starts_with(OF_CARGO));
    suites.sort_by_key(|done| SUITES.iter().position(|(name, ..)| *name == done.name));
    let mut sum = Count::default();
    println!();
    if !of_cargo.is_empty() {
        let together = of_cargo.iter().fold((Count::default(), Duration::ZERO), |(mut count, took), done| {
            count += done.count;
            (count, took + done.took)
        });
        print_line(OF_CARGO, together.0, together.1);
        for broken in of_cargo.iter().filter(|done| done.count.failed > 0) {
            print_line(&format!("- {}", broken.name), broken.count, broken.took);
        }
        sum += together.0;
    }
    for done in &suites {
        print_line(&done.name, done.count, done.took);
        sum += done.count;
    }
    for (done, beside) in of_cargo.iter().chain(&suites).filter_map(|done| Some((done, done.beside_others?))) {
        println!("{} passed alone only; beside others: {beside}", done.name);
    }
    if sum.skipped > 0 {
        println!("{} tests were skipped; each says why in its suite's output", sum.skipped);
    }
    println!("{sum}");
    let _ = io::stdout().flush();
    sum.failed == 0
}

fn print_line(name: &str, count: Count, took: Duration) {
    let skipped = if count.skipped > 0 { format!(", {} skipped", count.skipped) } else { String::new() };
    println!("{name:<30} {count}{skipped} in {:.1} s", took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_suites_names_suites_that_there_are() {
        let there = |name: &str| {
            OTHER_SERVERS.iter().any(|(server, _)| server.name == name)
                || name.starts_with(OF_CARGO)
                || SUITES.iter().any(|(suite, ..)| *suite == name)
        };
        let said = LONG.iter().map(|(name, _)| *name).chain(SPLIT.iter().map(|(name, _)| *name)).chain(ALONE.iter().copied());
        assert_eq!(said.filter(|name| !there(name)).collect::<Vec<_>>(), [""; 0]);
    }
}
