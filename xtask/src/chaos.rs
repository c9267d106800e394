//! `cargo xtask chaos`: builds the server as it is released, brings what clients need, and runs schedules of faults.

use std::env;

use anyhow::Result;

use crate::process::{self, cargo, command, must};
use crate::{needs, workspace};

/// Runs the chaos test with these options.
pub(crate) fn run(options: &[&str]) -> Result<bool> {
    must(&mut cargo(&["build", "--package", "chaos"]))?;
    let mut chaos = command(workspace::target().join("debug/chaos"), options);
    if options.iter().any(|option| ["--help", "-h", "--list"].contains(option)) {
        return process::passes(&mut chaos);
    }
    if env::var_os("BROKER_BIN").is_none() {
        must(&mut cargo(&["build", "--release", "--package", "broker-server", "--bin", "broker"]))?;
        chaos.env("BROKER_BIN", workspace::target().join("release/broker"));
    }
    needs::redis()?;
    needs::node()?;
    std::fs::create_dir_all(workspace::artifacts())?;
    chaos.arg("--python").arg(needs::python()?).arg("--logs").arg(workspace::target().join("chaos"));
    process::passes(&mut chaos)
}
