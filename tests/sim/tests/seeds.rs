//! What every commit goes through: 200 seeds without a broken promise, and the proof that a broken one would be found.

use simulation::{Paths, Plant, run};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn clients_that_go_through_every_fault_lose_nothing_in_silence() {
    let (from, seeds) = (number("BROKER_SIM_FROM", 0), number("BROKER_SIM_SEEDS", 200));
    let mut paths = Paths::default();
    for seed in from..from + seeds {
        let outcome = run(seed, None);
        let broken = outcome.violations.join("\n");
        assert!(outcome.violations.is_empty(), "seed {seed} (`cargo xtask sim --seed {seed}` shows what led to it):\n{broken}");
        paths.add(&outcome.paths);
    }
    let Paths { recovered, refused, gaps, dropped, catch_ups, lags, panics, .. } = paths;
    assert!([recovered, refused, gaps, dropped, catch_ups, lags, panics].iter().all(|times| *times > 0), "every path is taken: {paths:?}");
}

#[test]
fn a_seed_brings_its_run_back() {
    for seed in 1000..1005 {
        let first = run(seed, None).hash;
        // The ends of credentials are moments of the wall clock: whoever is kept waiting for milliseconds there gets another run.
        assert!((0..3).any(|_| run(seed, None).hash == first), "seed {seed} goes another way each time");
    }
}

#[test]
fn publications_that_a_client_loses_hears_twice_or_in_the_wrong_order_are_found() {
    for plant in [Plant::Lose, Plant::Double, Plant::Swap] {
        let found = (2000..2010).filter(|seed| !run(*seed, Some(plant)).violations.is_empty()).count();
        assert_eq!(found, 10, "{plant:?} is found in every run");
    }
}
