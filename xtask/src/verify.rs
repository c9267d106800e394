//! `cargo xtask sim` and `cargo xtask properties`: the long runs of what `cargo test` runs briefly.

use anyhow::Result;

use crate::process::{cargo, passes};

/// Runs simulations; the arguments are those of the program in `tests/sim`.
pub(crate) fn simulate(arguments: &[&str]) -> Result<bool> {
    let mut run = cargo(&["run", "--release", "--quiet", "--package", "simulation", "--"]);
    passes(run.args(arguments))
}

/// Runs the property tests of `broker-core` with so many cases each.
pub(crate) fn properties(cases: u32) -> Result<bool> {
    let mut test = cargo(&["test", "--release", "--package", "broker-core", "--features", "testing", "--lib", "--"]);
    test.args(["hub::resume::properties", "session::tests"]);
    passes(test.env("BROKER_PROPERTIES", cases.to_string()))
}
