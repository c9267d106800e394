//! `cargo xtask bench-fanout` and its like: builds the bench of the whole process as it is released, and runs it.

use anyhow::Result;

use crate::process::{self, cargo, command, must};
use crate::workspace;

/// Runs the bench with these options; what it prints goes to standard output.
pub(crate) fn fanout(options: &[&str]) -> Result<bool> {
    must(&mut cargo(&["build", "--release", "--package", "broker-benches"]))?;
    process::passes(&mut command(workspace::target().join("release/broker-benches"), options))
}

/// Runs the load on the applications of `examples/`, built as they would be released.
pub(crate) fn examples(options: &[&str]) -> Result<bool> {
    must(&mut cargo(&["build", "--release", "--package", "broker-benches", "--package", "chat", "--package", "dashboard"]))?;
    process::passes(&mut command(workspace::target().join("release/broker-benches"), &[&["examples"], options].concat()))
}
