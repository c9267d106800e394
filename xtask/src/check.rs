//! `cargo xtask check`: what every change must pass. The same here and in continuous integration.

use anyhow::Result;

use crate::process::{cargo, exists, passes};
use crate::{architecture, needs, sizes, workspace};

/// Runs every check, also after one failed, and says at the end which did.
pub(crate) fn check() -> Result<bool> {
    let mut failed = Vec::new();
    let mut step = |name: &'static str, passed: bool| {
        if !passed {
            failed.push(name);
        }
    };
    step("format", passes(&mut cargo(&["fmt", "--all", "--check"]))?);
    step("lints", passes(&mut cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))?);
    // Where it cannot be installed, the tests that want it fail and say so.
    if let Err(error) = needs::redis() {
        eprintln!("{error:#}");
    }
    step("tests", passes(&mut cargo(&["test", "--workspace", "--all-features"]))?);
    let mut doc = cargo(&["doc", "--workspace", "--all-features", "--no-deps", "--document-private-items"]);
    step("documentation", passes(doc.env("RUSTDOCFLAGS", "-D warnings"))?);
    step("architecture", architecture_only()?);
    if exists("cargo-deny") {
        step("dependencies", passes(&mut cargo(&["deny", "check", "licenses", "bans", "sources"]))?);
    } else {
        eprintln!(
            "\ncargo-deny is not installed: licences, bans and sources of the dependencies were not checked (`cargo install cargo-deny`)"
        );
    }
    if failed.is_empty() {
        eprintln!("\nall checks passed");
    } else {
        eprintln!("\nfailed: {}", failed.join(", "));
    }
    Ok(failed.is_empty())
}

/// The hub's ordering and joining under shuttle's scheduler, in a target folder of its own since every crate is built anew for it.
pub(crate) fn model(schedules: u32) -> Result<bool> {
    let mut test = cargo(&["test", "--release", "--package", "broker-core", "--features", "testing", "--lib", "model"]);
    test.env("RUSTFLAGS", "--cfg broker_model").env("CARGO_TARGET_DIR", workspace::root().join("target/model"));
    passes(test.env("BROKER_MODEL_SCHEDULES", schedules.to_string()))
}

/// The architecture rules, which fail, and the report of long files and functions, which does not.
pub(crate) fn architecture_only() -> Result<bool> {
    for line in sizes::report()? {
        println!("long: {line}");
    }
    let violations = architecture::violations()?;
    for violation in &violations {
        println!("architecture: {violation}");
    }
    Ok(violations.is_empty())
}
