//! Log lines on standard error: for people on a terminal, JSON for everybody else.

use std::io::{self, IsTerminal as _};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogConfig {
    /// The least important level that is shown.
    pub(super) level: LevelFilter,
    /// `None`: text on a terminal, else JSON.
    pub(super) format: Option<LogFormat>,
}

/// Starts logging, for the rest of the process. Only the first call counts.
pub(super) fn start(config: LogConfig) {
    let terminal = io::stderr().is_terminal();
    let by_place = if terminal { LogFormat::Text } else { LogFormat::Json };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match config.format.unwrap_or(by_place) {
        LogFormat::Text => {
            let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            lines.with_ansi(colours).with_target(false).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(lines.with_filter(filter(config.level)));
    // It fails only when logging has already started, and then goes on as it was.
    let _ = started.try_init();
}

/// Our own lines as asked for, of the crates we use no more than warnings: the resolver alone
/// writes several lines a question.
fn filter(level: LevelFilter) -> Targets {
    let foreign = match level {
        LevelFilter::TRACE => LevelFilter::DEBUG,
        other => other.min(LevelFilter::WARN),
    };
    Targets::new()
        .with_default(foreign)
        .with_target(env!("CARGO_PKG_NAME"), level)
        // It calls it an error that we close its listener, which is what keeps others out.
        .with_target("tiny_http", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn foreign_crates_are_quieter_than_we_are() {
        let info = filter(LevelFilter::INFO);
        assert!(info.would_enable("gossipykv::runtime", &Level::INFO));
        assert!(!info.would_enable("gossipykv::runtime", &Level::DEBUG));
        assert!(!info.would_enable("hickory_resolver", &Level::INFO));
        assert!(info.would_enable("hickory_resolver", &Level::WARN));
        assert!(!info.would_enable("tiny_http", &Level::ERROR));
        assert!(!filter(LevelFilter::ERROR).would_enable("hickory_resolver", &Level::WARN));
        assert!(filter(LevelFilter::TRACE).would_enable("hickory_resolver", &Level::DEBUG));
    }
}
