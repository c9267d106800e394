//! The project's own commands, run as `cargo xtask <command>`. What they do lives in the modules; here they are only named.

mod architecture;
mod bench;
mod chaos;
mod check;
mod e2e;
mod mutants;
mod needs;
mod pool;
mod process;
mod products;
mod report;
mod sizes;
mod source;
mod verify;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask <command>

  check                 what every change must pass: format, lints, tests, documentation, architecture
  test                  installs what the tests need, builds, runs `cargo test` and the end-to-end suites
  e2e [FILTER]          the end-to-end suites whose name contains FILTER
  architecture          only the architecture rules and the report of long files and functions
  hostile [--cases N]   generated hostile input over real sockets beside a healthy client (10,000 cases by default)
  model [SCHEDULES]     the hub's ordering and joining under shuttle's scheduler (20,000 random schedules and as many with few preemptions)
  sim [SEEDS]           simulated clients, node and faults, one run for each seed (10,000 seeds by default)
  sim --seed N          one of them, with what happened in it
  properties [CASES]    the property tests of session and resume (1,000,000 generated cases each by default)
  chaos [SCHEDULES] [--seeds N] [--seed S] [--short]
                        Redis, two nodes and unmodified clients under faults, and what was lost, doubled or said wrongly; --list names the schedules
  mutants [WORD,..]     plants bugs in a copy of the source and says which tests catch them
  bench-stuck [...]     what 10,000 subscribers that take nothing cost, and what a healthy one notices of them
  bench-storm [...]     how long until 10,000 subscribers are back that come at once, each with what it missed
  bench-crowd [...]     what a subscriber notices of 5,000 others at 10 messages a second
  bench-nodes [...]     CPU per delivery of two nodes on Redis, publisher on one and subscribers on the other, against one node
  bench-failover [...]  how long until 10,000 clients of a node that is killed are back on another one, and what Redis is asked for it
  bench-examples [...]  100 clients of the chat with 1,000 messages each, 1,000 subscribers of the dashboard; fails where anything is lost or doubled
  bench-topics [...]    what a node on Redis with 10,000 topics costs
  bench-fanout [...]    CPU per delivery of the whole process against a bare send() loop, memory per idle connection; --help lists options
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command; `false` means that it ran and something it looked at is wrong.
fn run(arguments: &[&str]) -> Result<bool> {
    match arguments {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(true)
        }
        ["check"] => check::check(),
        ["test"] => e2e::test(),
        ["e2e"] => e2e::only(""),
        ["e2e", filter] => e2e::only(filter),
        ["architecture"] => check::architecture_only(),
        ["hostile"] => e2e::hostile(10_000),
        ["hostile", "--cases", cases] => e2e::hostile(cases.parse()?),
        ["model"] => check::model(20_000),
        ["model", schedules] => check::model(schedules.parse()?),
        ["sim"] => verify::simulate(&["10000"]),
        ["sim", arguments @ ..] => verify::simulate(arguments),
        ["properties"] => verify::properties(1_000_000),
        ["properties", cases] => verify::properties(cases.parse()?),
        ["chaos", options @ ..] => chaos::run(options),
        ["mutants"] => mutants::run(""),
        ["mutants", filter] => mutants::run(filter),
        ["bench-fanout", options @ ..] => bench::fanout(options),
        ["bench-stuck", options @ ..] => bench::fanout(&[&["stuck"], options].concat()),
        ["bench-storm", options @ ..] => bench::fanout(&[&["storm"], options].concat()),
        ["bench-nodes", options @ ..] => bench::fanout(&[&["nodes"], options].concat()),
        ["bench-failover", options @ ..] => bench::fanout(&[&["failover"], options].concat()),
        ["bench-topics", options @ ..] => bench::fanout(&[&["topics"], options].concat()),
        ["bench-examples", options @ ..] => bench::examples(options),
        ["bench-crowd", options @ ..] => bench::fanout(&[&["crowd"], options].concat()),
        [other, ..] => bail!("no command {other:?}\n\n{HELP}"),
    }
}
