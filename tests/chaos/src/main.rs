//! `cargo xtask chaos`: Redis, two nodes, unmodified clients, numbered publications, a fault; then it is counted what was lost, doubled or said wrongly.
//!
//! What goes wrong is in `schedules`, what is counted in `checker`. A seed decides when things happen; clocks and schedulers decide the rest, so a seed
//! that failed is a good place to look, and no proof.

mod checker;
mod clients;
mod heard;
mod node;
mod plant;
mod publisher;
mod schedules;
mod verdict;
mod world;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    plant::Lie,
    schedules::Schedule,
    verdict::Sum,
    world::{Outcome, Programs, World},
};

/// Runs schedules of faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these schedules; `name*` means all that begin so.
    schedules: Vec<String>,
    /// Says which there are.
    #[arg(long)]
    list: bool,
    /// Runs of each schedule.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the schedules of the short run, with four times as much time for everything, and that planted mistakes are noticed.
    #[arg(long)]
    short: bool,
    /// Says of the first clients that they were told something else.
    #[arg(long = "plant", hide = true)]
    lies: Vec<Lie>,
    /// Where a report goes that other programs can count.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// The server.
    #[arg(long, env = "BROKER_BIN", default_value = "target/release/broker")]
    broker: PathBuf,
    /// Node, with the packages of `tests/e2e/node`.
    #[arg(long, default_value = "node")]
    node: PathBuf,
    /// Python, with the packages of `tests/e2e/python`.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The folder `tests/e2e`.
    #[arg(long, default_value = "tests/e2e")]
    scripts: PathBuf,
    /// Where logs go.
    #[arg(long, default_value = "target/chaos")]
    logs: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for schedule in schedules::all() {
            println!("| `{}` | {} |", schedule.name, schedule.does);
        }
        return Ok(());
    }
    let wanted = |schedule: &Schedule| {
        let named = arguments.schedules.is_empty()
            || arguments
                .schedules
                .iter()
                .any(|name| schedule.name == name || name.strip_suffix('*').is_some_and(|begin| schedule.name.starts_with(begin)));
        named && (schedule.is_short || !arguments.short)
    };
    let chosen: Vec<Schedule> = schedules::all().into_iter().filter(wanted).collect();
    ensure!(!chosen.is_empty(), "no schedule is called so; --list names them");
    println!("{}", verdict::HEAD);
    let (mut cases, mut failed) = (Vec::new(), Vec::new());
    for schedule in &chosen {
        let wrong = all_seeds(arguments, schedule).await;
        cases.push((schedule.name.to_owned(), wrong.clone()));
        failed.extend(wrong);
    }
    if arguments.short {
        let unnoticed = lies_are_noticed(arguments).await.err().map(|error| format!("{error:#}"));
        cases.push(("planted mistakes are noticed".to_owned(), unnoticed.iter().cloned().collect()));
        failed.extend(unnoticed);
    }
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit(&cases))?;
    }
    ensure!(failed.is_empty(), "promises were broken:\n{}", failed.join("\n"));
    Ok(())
}

/// Runs a schedule with each seed, and prints its line; what is wrong.
async fn all_seeds(arguments: &Arguments, schedule: &Schedule) -> Vec<String> {
    let (mut sum, mut wrong) = (Sum::default(), Vec::new());
    let must = if arguments.short { schedule.must.patient() } else { schedule.must };
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let of_run = match one(arguments, schedule, seed, &arguments.lies).await {
            Ok(outcome) => {
                sum.add(&outcome);
                for broken in &outcome.broken {
                    eprintln!("{} with seed {seed}: {broken}", schedule.name);
                }
                verdict::of_run(&must, &outcome)
            }
            Err(error) => vec![format!("{error:#}")],
        };
        for what in of_run {
            let what = format!("{} with seed {seed}: {what}", schedule.name);
            eprintln!("{what}");
            wrong.push(what);
        }
    }
    wrong.extend(sum.wrong(&must).map(|what| format!("{}: {what}", schedule.name)));
    println!("{}", sum.line(schedule, wrong.is_empty()));
    wrong
}

async fn one(arguments: &Arguments, schedule: &Schedule, seed: u64, lies: &[Lie]) -> Result<Outcome> {
    let programs = Programs {
        broker: arguments.broker.clone(),
        node: arguments.node.clone(),
        python: arguments.python.clone(),
        scripts: arguments.scripts.clone(),
    };
    let folder = arguments.logs.join(format!("{}-{seed}", schedule.name));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("old logs cannot be removed")?;
    }
    std::fs::create_dir_all(&folder).context("no folder for logs")?;
    let mut world = World::start(&programs, &folder, schedule.shape, seed, lies).await?;
    (schedule.run)(&mut world).await?;
    let outcome = world.finish().await?;
    std::fs::write(folder.join("outcome.txt"), format!("{outcome:#?}"))?;
    Ok(outcome)
}

/// A run in which nothing goes wrong, and of some clients it is said that they were told something else.
async fn lies_are_noticed(arguments: &Arguments) -> Result<()> {
    let calm = schedules::all().into_iter().next().context("there are schedules")?;
    let counts = one(arguments, &calm, arguments.seed, Lie::value_variants()).await?.counts;
    eprintln!("with planted mistakes: {counts}");
    for (lie, counted) in [("lost", counts.lost), ("double", counts.out_of_order), ("disagree", counts.disagree), ("behind", counts.behind)]
    {
        ensure!(counted > 0, "a run with a planted mistake looks good: {lie}");
    }
    Ok(())
}

/// The cases as a report that other programs can count.
fn junit(cases: &[(String, Vec<String>)]) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let case = |(name, wrong): &(String, Vec<String>)| {
        let failure = if wrong.is_empty() { String::new() } else { format!("<failure message=\"{}\"/>", escaped(&wrong.join("; "))) };
        format!("<testcase name=\"{}\">{failure}</testcase>\n", escaped(name))
    };
    format!("<testsuite name=\"chaos\">\n{}</testsuite>\n", cases.iter().map(case).collect::<String>())
}
