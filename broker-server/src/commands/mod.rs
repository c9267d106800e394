//! The subcommands, one file each. Their flags live in `cli`.

mod check;
mod client;
mod completions;
mod config;
mod doctor;
mod init;
mod publish;
mod serve;
mod subscribe;
mod token;

use std::process::ExitCode;

use crate::{
    cli::{Cli, Command, ConfigCommand, Settings},
    config::{Config, Loaded},
};

/// The exit code of a configuration with mistakes; clap uses it for flags.
const MISTAKES: u8 = 2;

/// Does what the command line asks.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command.unwrap_or(Command::Serve(cli.settings)) {
        Command::Serve(settings) => load(&settings).map_or_else(Ok, serve::run),
        Command::Publish(publish) => publish::run(&publish),
        Command::Subscribe(subscribe) => subscribe::run(subscribe),
        Command::Token(command) => token::run(command),
        Command::Init(init) => init::run(&init),
        Command::Doctor(flags) => doctor::run(&flags),
        Command::Check(settings) => Ok(check::run(&settings)),
        Command::Config(ConfigCommand::Default) => Ok(config::default()),
        Command::Config(ConfigCommand::Show(settings)) => Ok(config::show(&settings)),
        Command::Completions { shell } => Ok(completions::run(shell)),
    }
}

/// Reads the configuration and shows its warnings; with mistakes, shows those and gives the exit code.
fn load(settings: &Settings) -> Result<Loaded, ExitCode> {
    let mut loaded = Config::load(&settings.inputs());
    loaded.look_at_files();
    eprint!("{}", loaded.report);
    if loaded.report.mistakes.is_empty() { Ok(loaded) } else { Err(ExitCode::from(MISTAKES)) }
}
