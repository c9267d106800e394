//! Where log lines go and how they look: to standard error, coloured on a terminal, JSON elsewhere.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, registry, util::SubscriberInitExt};

use crate::config::{LogFormat, LogLevel};

/// Starts logging. Libraries' own lines show from `warn` on, and all of them with [`LogLevel::Trace`].
///
/// A second call has no effect: the first subscriber stays.
pub fn start(level: LogLevel, format: LogFormat) {
    let is_terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        // spec: no-color.org
        let coloured = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        lines.with_ansi(coloured).with_target(false).boxed()
    };
    let _ = registry().with(lines.with_filter(filter(level))).try_init();
}

fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    // Targets match by prefix, so this covers `broker`, `broker_core` and the other crates of this workspace.
    Targets::new().with_default(others).with_target("broker", level)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn our_lines_show_from_the_level_on_and_others_from_warn_on() {
        let info = filter(LogLevel::Info);
        assert!(info.would_enable("broker_core::hub", &Level::INFO));
        assert!(!info.would_enable("broker_core::hub", &Level::DEBUG));
        assert!(info.would_enable("hyper", &Level::WARN));
        assert!(!info.would_enable("hyper", &Level::INFO));
        assert!(!filter(LogLevel::Error).would_enable("hyper", &Level::WARN));
        assert!(filter(LogLevel::Trace).would_enable("hyper", &Level::TRACE));
    }
}
