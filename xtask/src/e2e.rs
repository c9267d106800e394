//! `cargo xtask test` and `e2e`: the suites with real clients against the real binary, and the count at the end.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process::{self, bounded, cargo, command, must};
use crate::report::Count;
use crate::{needs, workspace};

/// The longest that one suite may take.
const SUITE_TIMEOUT: Duration = Duration::from_secs(240);

/// What runs a suite.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Runner {
    Node,
    Chromium,
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
    ("dashboard in Chromium", Runner::Chromium, "node/dashboard.test.mjs"),
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
    ("sizes", Runner::Python, "python/test_sizes.py"),
    ("half-open networks", Runner::Python, "python/test_half_open.py"),
    ("liveness", Runner::Python, "python/test_liveness.py"),
    ("dashboard in Python", Runner::Python, "python/test_dashboard.py"),
    ("clock", Runner::FakedClock, "python/test_clock.py"),
    ("many nodes", Runner::Python, "python/test_redis.py"),
    ("doctor", Runner::Python, "python/test_doctor.py"),
    ("balancers", Runner::Balancers, "python/test_balancers.py"),
    ("chaos", Runner::Chaos, "--short"),
];

/// `cargo xtask test`: everything, from the packages it needs to the count.
pub(crate) fn test() -> Result<bool> {
    // Where it cannot be installed, the tests that want it fail, and the others run.
    if let Err(error) = needs::redis() {
        eprintln!("{error:#}");
    }
    let of_cargo = cargo_tests(&["--workspace"], None)?;
    let mut counts = vec![("cargo test".to_owned(), of_cargo), (OLD_REDIS.to_owned(), old_redis()?)];
    counts.extend(suites("")?);
    Ok(summary(&counts))
}

/// `cargo xtask e2e`: the suites whose name contains `filter`.
pub(crate) fn only(filter: &str) -> Result<bool> {
    let counts = suites(filter)?;
    let names: Vec<&str> = SUITES.iter().map(|(name, ..)| *name).collect();
    ensure!(!counts.is_empty(), "no suite is called {filter:?}; there are: {}", names.join(", "));
    Ok(summary(&counts))
}

/// `cargo xtask hostile`: the generated cases over real sockets, as many as asked for.
pub(crate) fn hostile(cases: u32) -> Result<bool> {
    let mut test = cargo(&["test", "--package", "broker-server", "--test", "hostile", "--", "--nocapture"]);
    process::passes(test.env("HOSTILE_CASES", cases.to_string()))
}

/// The backplane on the oldest Redis that it promises to work with, without what that one has not: clusters, and `ACL DRYRUN`.
const OLD_REDIS: &str = "Redis 6.2";

/// `cargo xtask test`'s part with [`OLD_REDIS`].
fn old_redis() -> Result<Count> {
    let server = match needs::old_redis() {
        Ok(server) => server,
        Err(error) => {
            eprintln!("{OLD_REDIS} cannot run: {error:#}");
            return Ok(Count::BROKEN);
        }
    };
    let rooms = ["conformance::", "control::", "data::", "network::", "nodes::", "presence::"];
    cargo_tests(&[&["--package", "broker-redis", "--test", "it", "--"], &rooms[..]].concat(), Some(&server))
}

/// `cargo test`, shown while it runs and counted; with another Redis than the installed one, where one is named.
fn cargo_tests(what: &[&str], redis: Option<&Path>) -> Result<Count> {
    eprintln!("\n$ cargo test --all-features --no-fail-fast {}", what.join(" "));
    let mut test = cargo(&[&["test", "--all-features", "--no-fail-fast"], what].concat());
    if let Some(server) = redis {
        test.env("REDIS_SERVER", server);
    }
    let mut child = test.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().expect("standard output is piped")).lines() {
        let line = line?;
        println!("{line}");
        text.push_str(&line);
        text.push('\n');
    }
    Ok(Count::of_cargo(&text).with_exit(child.wait()?.success()))
}

/// Builds the binary, then runs the suites whose name contains `filter`, one after the other.
fn suites(filter: &str) -> Result<Vec<(String, Count)>> {
    let chosen: Vec<_> = SUITES.iter().filter(|(name, ..)| name.contains(filter)).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    fs::create_dir_all(workspace::artifacts())?;
    let mut means = Means { programs: programs()?, ..Means::default() };
    chosen.into_iter().map(|(name, runner, file)| Ok(((*name).to_owned(), means.run(name, *runner, file)?))).collect()
}

/// A program that the suites start: the variable that tells them its path, its package, its binary.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("BROKER_BIN", "broker-server", "broker"),
    ("APPLICATION_BIN", "e2e-application", "e2e-application"),
    ("DASHBOARD_BIN", "dashboard", "dashboard"),
    ("CHAOS_BIN", "chaos", "chaos"),
];

/// The programs that the suites start, with their variables. One that its variable names already is taken as it is, the others are built.
fn programs() -> Result<Vec<(&'static str, PathBuf)>> {
    let mut found = Vec::new();
    for (variable, package, binary) in PROGRAMS {
        let path = if let Some(path) = env::var_os(variable) {
            path.into()
        } else {
            must(&mut cargo(&["build", "--package", package, "--bin", binary]))?;
            workspace::target().join("debug").join(binary)
        };
        found.push((*variable, path));
    }
    Ok(found)
}

/// What the runners need, looked for when the first suite wants it.
#[derive(Default)]
struct Means {
    programs: Vec<(&'static str, PathBuf)>,
    node: Option<Result<(), String>>,
    chromium: Option<Result<PathBuf, String>>,
    python: Option<Result<PathBuf, String>>,
}

impl Means {
    /// Runs one suite. One whose needs cannot be met counts as failed, with the reason, and the others go on.
    fn run(&mut self, name: &str, runner: Runner, file: &str) -> Result<Count> {
        let report = workspace::artifacts().join(format!("{}.xml", name.replace(' ', "-")));
        let _ = fs::remove_file(&report);
        let started = Instant::now();
        let built = match runner {
            Runner::Node | Runner::Chromium => self.node_suite(runner, file, &report),
            Runner::Python | Runner::FakedClock | Runner::Balancers => self.python_suite(runner, file, &report),
            Runner::Chaos => self.chaos_suite(file, &report),
        };
        let mut suite = match built {
            Ok(suite) => suite,
            Err(reason) => {
                eprintln!("\n{name} cannot run: {reason}");
                return Ok(Count::BROKEN);
            }
        };
        suite.envs(self.programs.iter().map(|(variable, path)| (variable, path))).env("E2E_ARTIFACTS", workspace::artifacts());
        let Some(status) = bounded(&mut suite, SUITE_TIMEOUT)? else {
            eprintln!("{name} took longer than {SUITE_TIMEOUT:?} and was ended");
            return Ok(Count::BROKEN);
        };
        let count = fs::read_to_string(&report).map_or(Count::BROKEN, |xml| Count::of_junit(&xml)).with_exit(status.success());
        eprintln!("{name}: {count} in {:.1} s", started.elapsed().as_secs_f64());
        Ok(count)
    }

    fn node_suite(&mut self, runner: Runner, file: &str, report: &Path) -> Result<Command, String> {
        self.node.get_or_insert_with(|| needs::node().map_err(|error| format!("{error:#}"))).clone()?;
        let mut suite = command(
            "node",
            &["--test", "--test-timeout=90000", "--test-reporter=spec", "--test-reporter-destination=stdout", "--test-reporter=junit"],
        );
        suite.arg(format!("--test-reporter-destination={}", report.display())).arg(format!("tests/e2e/{file}"));
        if runner == Runner::Chromium {
            let chromium = self.chromium.get_or_insert_with(|| needs::chromium().map_err(|error| format!("{error:#}"))).clone()?;
            suite.env("CHROMIUM", chromium).env("E2E_PYTHON", needs::python().map_err(|error| format!("{error:#}"))?);
        }
        Ok(suite)
    }

    fn chaos_suite(&mut self, part: &str, report: &Path) -> Result<Command, String> {
        self.node.get_or_insert_with(|| needs::node().map_err(|error| format!("{error:#}"))).clone()?;
        let interpreter = self.interpreter()?;
        let (_, program) = self.programs.iter().find(|(variable, _)| *variable == "CHAOS_BIN").ok_or("the chaos test was not built")?;
        let mut suite = command(program, &[part, "--junit"]);
        suite.arg(report).arg("--python").arg(interpreter).arg("--logs").arg(workspace::artifacts().join("chaos"));
        Ok(suite)
    }

    /// The Python of the suites.
    fn interpreter(&mut self) -> Result<PathBuf, String> {
        let prepare = || needs::curl().and_then(|()| needs::redis()).and_then(|()| needs::python()).map_err(|error| format!("{error:#}"));
        self.python.get_or_insert_with(prepare).clone()
    }

    fn python_suite(&mut self, runner: Runner, file: &str, report: &Path) -> Result<Command, String> {
        let interpreter = self.interpreter()?;
        let mut suite = command(interpreter, &["-m", "pytest", "--quiet"]);
        suite.arg(format!("--junitxml={}", report.display())).arg(format!("tests/e2e/{file}"));
        match runner {
            Runner::FakedClock => _ = suite.env("LIBFAKETIME", needs::faketime().map_err(|error| format!("{error:#}"))?),
            Runner::Balancers => needs::balancers().map_err(|error| format!("{error:#}"))?,
            _ => {}
        }
        Ok(suite)
    }
}

/// Prints one line a suite and the closing line; `false` when something failed.
fn summary(counts: &[(String, Count)]) -> bool {
    let mut sum = Count::default();
    println!();
    for (name, count) in counts {
        let skipped = if count.skipped > 0 { format!(", {} skipped", count.skipped) } else { String::new() };
        println!("{name:<30} {count}{skipped}");
        sum += *count;
    }
    if sum.skipped > 0 {
        println!("{} tests were skipped; each says why in its suite's output", sum.skipped);
    }
    println!("{sum}");
    let _ = std::io::stdout().flush();
    sum.failed == 0
}
