//! `cargo xtask chaos`: Redis, two nodes, unmodified clients, numbered publications, a fault; then it is counted what was lost, doubled or said wrongly.
//!
//! What goes wrong is in `schedules`, what is counted in `checker`. A seed decides when things happen; clocks and schedulers decide the rest, so a seed
//! that failed is a good place to look, and no proof.

mod checker;
mod clients;
mod node;
mod publisher;
mod schedules;
mod world;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::{
    checker::Counts,
    schedules::Schedule,
    world::{Outcome, Programs, World},
};

/// Runs schedules of faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only schedules whose name contains one of these.
    schedules: Vec<String>,
    /// Runs of each schedule.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the schedules of the short run.
    #[arg(long)]
    short: bool,
    /// The server.
    #[arg(long, env = "BROKER_BIN")]
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
    let programs = Programs {
        broker: arguments.broker.clone(),
        node: arguments.node.clone(),
        python: arguments.python.clone(),
        scripts: arguments.scripts.clone(),
    };
    let wanted = |schedule: &Schedule| {
        let named = arguments.schedules.is_empty() || arguments.schedules.iter().any(|name| schedule.name.contains(name.as_str()));
        named && (schedule.is_short || !arguments.short)
    };
    let chosen: Vec<Schedule> = schedules::all().into_iter().filter(wanted).collect();
    ensure!(!chosen.is_empty(), "no schedule is called so");
    println!(
        "| schedule | shows | seeds | acknowledged | lost | disagree | log_dup | out of order | behind | signalled | resumed | heal p99 | verdict |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut failed = Vec::new();
    for schedule in &chosen {
        let mut total = Counts::default();
        let (mut acknowledged, mut healed, mut wrong) = (0, Vec::new(), Vec::new());
        for seed in arguments.seed..arguments.seed + arguments.seeds {
            let folder = arguments.logs.join(format!("{}-{seed}", schedule.name));
            std::fs::create_dir_all(&folder).context("no folder for logs")?;
            let outcome = one(&programs, &folder, schedule, seed).await.with_context(|| format!("{} with seed {seed}", schedule.name))?;
            std::fs::write(folder.join("outcome.txt"), format!("{outcome:#?}"))?;
            wrong.extend(verdict(schedule, &outcome).into_iter().map(|what| format!("{} with seed {seed}: {what}", schedule.name)));
            for broken in &outcome.broken {
                eprintln!("{} with seed {seed}: {broken}", schedule.name);
            }
            total.add(&outcome.counts);
            acknowledged += outcome.acknowledged;
            healed.extend(outcome.healed);
        }
        healed.sort();
        let Counts { lost, disagree, log_dup, out_of_order, behind, signalled, resumed, .. } = total;
        println!(
            "| {} | {} | {} to {} | {acknowledged} | {lost} | {disagree} | {log_dup} | {out_of_order} | {behind} | {signalled} | {resumed} | {} | {} |",
            schedule.name,
            schedule.shows,
            arguments.seed,
            arguments.seed + arguments.seeds - 1,
            p99(&healed).map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis())),
            if wrong.is_empty() { "good" } else { "BAD" },
        );
        failed.extend(wrong);
    }
    ensure!(failed.is_empty(), "promises were broken:\n{}", failed.join("\n"));
    Ok(())
}

async fn one(programs: &Programs, folder: &std::path::Path, schedule: &Schedule, seed: u64) -> Result<Outcome> {
    let mut world = World::start(programs, folder, schedule.shape, seed).await?;
    (schedule.run)(&mut world).await?;
    world.finish().await
}

/// What is wrong with an outcome.
fn verdict(schedule: &Schedule, outcome: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    let counts = &outcome.counts;
    // Where Redis forgets keys of callers, a retry may be stored twice.
    let tolerated = if schedule.name == "eviction" { counts.log_dup } else { 0 };
    if !(Counts { log_dup: counts.log_dup - tolerated, ..*counts }).is_clean() {
        wrong.push(counts.to_string());
    }
    if schedule.must_signal && counts.signalled == 0 {
        wrong.push("nobody was told of the loss".to_owned());
    }
    if schedule.must_not_signal && counts.signalled > 0 {
        wrong.push(format!("{} losses were told, and there was none", counts.signalled));
    }
    if let Some(most) = schedule.heal_max {
        match p99(&outcome.healed) {
            Some(time) if time > most => wrong.push(format!("healed after {time:?}, {most:?} at most")),
            None => wrong.push("nobody was told anything after the cure".to_owned()),
            _ => {}
        }
    }
    let unexpected: Vec<&String> = outcome
        .failures
        .iter()
        .filter(|what| ![" x 503", "no connection", "broke", "no answer"].iter().any(|word| what.contains(word)))
        .collect();
    if !unexpected.is_empty() {
        wrong.push(format!("publishes were answered {unexpected:?}"));
    }
    if outcome.acknowledged == 0 {
        wrong.push("nothing was published".to_owned());
    }
    wrong
}

/// 99 of 100 are not later.
fn p99(sorted: &[Duration]) -> Option<Duration> {
    sorted.get((sorted.len() * 99).div_ceil(100).checked_sub(1)?).copied()
}
