//! `broker doctor`: what is wrong with a running broker, and how to put it right.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::runtime::Builder;

use crate::{
    cli::Doctor,
    doctor::{self, Wishes},
};

pub(super) fn run(flags: &Doctor) -> anyhow::Result<ExitCode> {
    let loaded = match super::load(&flags.settings) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let runtime = Builder::new_current_thread().enable_all().build().context("the system gives no event queue")?;
    let wishes = Wishes { url: flags.url.as_deref(), quick: flags.quick, origin: flags.origin.as_deref(), token: flags.token.as_deref() };
    let findings = runtime.block_on(doctor::examine(&loaded.config, wishes))?;
    if flags.json {
        println!("{}", findings.to_json());
    } else {
        print!("{findings}");
    }
    Ok(if findings.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
