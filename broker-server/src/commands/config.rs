//! `broker config default` and `broker config show`.

use std::process::ExitCode;

use crate::{cli::Settings, config::Config};

pub(super) fn default() -> ExitCode {
    println!("# Every setting of {}, with its default. A file needs only what differs.\n", crate::NAME_AND_VERSION);
    print!("{}", Config::explain());
    ExitCode::SUCCESS
}

pub(super) fn show(settings: &Settings) -> ExitCode {
    match super::load(settings) {
        Ok(loaded) => {
            print!("{}", loaded.show());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
