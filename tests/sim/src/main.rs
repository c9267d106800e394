//! Runs simulations: `simulation 10000` as many seeds, `simulation --seed 17` one of them with what happened in it.

use std::{process::ExitCode, time::Instant};

use simulation::{Outcome, Paths, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    match (&words[..], &numbers[..]) {
        (["--seed", _], [seed]) => one(*seed),
        (["--until-broken", _], [seeds]) => many(0, *seeds, true),
        ([_], [seeds]) => many(0, *seeds, false),
        ([_, _], [from, seeds]) => many(*from, *seeds, false),
        _ => {
            eprintln!("simulation SEEDS | FROM SEEDS | --until-broken SEEDS | --seed N");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let outcome = run(seed, None);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("{:?}, trace {:016x}", outcome.paths, outcome.hash);
    report(&outcome)
}

fn many(from: u64, seeds: u64, until_broken: bool) -> ExitCode {
    let (started, mut paths, mut failed) = (Instant::now(), Paths::default(), 0);
    for seed in from..from + seeds {
        let outcome = run(seed, None);
        paths.add(&outcome.paths);
        if !outcome.violations.is_empty() {
            failed += 1;
            report(&outcome);
            if until_broken {
                break;
            }
        }
    }
    println!("{seeds} seeds from {from} in {:.1} s, {failed} failed: {paths:?}", started.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(outcome: &Outcome) -> ExitCode {
    for violation in &outcome.violations {
        println!("seed {}: {violation}", outcome.seed);
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
