//! `broker completions SHELL`: a completion script.

use std::{io, process::ExitCode};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

pub(super) fn run(shell: Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Cli::command(), "broker", &mut io::stdout());
    ExitCode::SUCCESS
}
