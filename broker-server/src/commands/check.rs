//! `broker check`: all mistakes at once.

use std::process::ExitCode;

use crate::{cli::Settings, config::Config};

use super::MISTAKES;

pub(super) fn run(settings: &Settings) -> ExitCode {
    let mut loaded = Config::load(&settings.inputs());
    loaded.look_at_files();
    let (mistakes, warnings) = (loaded.report.mistakes.len(), loaded.report.warnings.len());
    eprint!("{}", loaded.report);
    let place =
        loaded.file().map_or_else(|| "the configuration (no file, defaults and environment)".to_owned(), |file| file.display().to_string());
    match (mistakes, warnings) {
        (0, 0) => println!("{place} is in order"),
        (0, warnings) => println!("{place} is in order, with {}", counted(warnings, "warning")),
        (mistakes, 0) => println!("{place} has {}", counted(mistakes, "mistake")),
        (mistakes, warnings) => println!("{place} has {} and {}", counted(mistakes, "mistake"), counted(warnings, "warning")),
    }
    if mistakes == 0 { ExitCode::SUCCESS } else { ExitCode::from(MISTAKES) }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
