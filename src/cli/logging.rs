//! Log lines on standard error: for people on a terminal, JSON for everybody else.
//!
//! From [`start`] on nobody but one thread writes there, and no other waits for it: not a log line,
//! not the message of a panic, not the last word of the process.

use super::failure::Failure;
use super::log_writer::LogWriter;
use super::status;
use crate::runtime::threads::{self, Fault};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
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

/// How long the last lines may take at the end of the process. What waits for a reader that stands
/// must not keep the process: a supervisor would kill it.
const FLUSH_LIMIT: Duration = Duration::from_millis(300);

/// What all lines go through, once logging has started.
static WRITER: OnceLock<Arc<LogWriter>> = OnceLock::new();

/// Logging at work.
pub(super) struct Logging {
    /// Lines dropped because standard error took none.
    pub(super) dropped: Arc<AtomicU64>,
    /// Told when its thread dies.
    pub(super) fault: Fault,
}

/// Starts logging, for the rest of the process.
///
/// # Errors
/// That the system gives no thread.
pub(super) fn start(config: LogConfig) -> Result<Logging, Failure> {
    let (writer, fault) = (Arc::clone(WRITER.get_or_init(Arc::default)), Fault::default());
    let thread = Arc::clone(&writer);
    let body = move || {
        thread.run(io::stderr(), |dropped| {
            tracing::warn!(dropped, "log lines were dropped while standard error took none");
        });
        Ok(())
    };
    let started = threads::spawn("log", &fault, body);
    started.map_err(|error| Failure::failed(format!("cannot start the log's thread: {error}")))?;
    subscribe(config, &writer);
    std::panic::set_hook(Box::new(tell_of));
    Ok(Logging { dropped: Arc::clone(writer.dropped()), fault })
}

/// Writes a line to standard error, behind the lines of the log if there are any.
pub(super) fn say(line: &str) {
    match WRITER.get() {
        Some(writer) => writer.push(format!("{line}\n").as_bytes()),
        // There is nobody to tell when that fails.
        None => drop(writeln!(io::stderr(), "{line}")),
    }
}

/// Waits for the last lines to be written, but not for ever.
pub(super) fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush(FLUSH_LIMIT);
    }
}

/// The message of a panic. Without this each thread writes its own, and a thread that cannot does
/// not even get as far as telling that it has died.
fn tell_of(panic: &PanicHookInfo<'_>) {
    let message = panic.to_string().replace('\n', " ");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(thread, %backtrace, "{message}");
    } else {
        tracing::error!(thread, "{message}");
    }
}

fn subscribe(config: LogConfig, writer: &Arc<LogWriter>) {
    let terminal = io::stderr().is_terminal();
    let by_place = if terminal { LogFormat::Text } else { LogFormat::Json };
    let lines = tracing_subscriber::fmt::layer().with_writer(Arc::clone(writer));
    let format = config.format.unwrap_or(by_place);
    let filter = filter(config.level, format);
    let lines = match format {
        LogFormat::Text => {
            let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            lines.with_ansi(colours).with_target(false).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(lines.with_filter(filter));
    // It fails only when logging has already started, and then goes on as it was.
    let _ = started.try_init();
}

/// Our own lines as asked for, of the crates we use no more than warnings: the resolver alone
/// writes several lines a question. What programs are to read is written however little people
/// want to: alarms that are made of it would be blind, and nobody would know.
fn filter(level: LevelFilter, format: LogFormat) -> Targets {
    let foreign = match level {
        LevelFilter::TRACE => LevelFilter::DEBUG,
        other => other.min(LevelFilter::WARN),
    };
    let status = match (format, level) {
        (LogFormat::Text, _) | (_, LevelFilter::OFF) => level,
        (LogFormat::Json, level) => level.max(LevelFilter::INFO),
    };
    Targets::new()
        .with_default(foreign)
        .with_target(env!("CARGO_PKG_NAME"), level)
        .with_target(status::TARGET, status)
        // It calls it an error that we close its listener, which is what keeps others out.
        .with_target("tiny_http", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn foreign_crates_are_quieter_than_we_are() {
        let filter = |level| filter(level, LogFormat::Json);
        let info = filter(LevelFilter::INFO);
        assert!(info.would_enable("gossipykv::runtime", &Level::INFO));
        assert!(!info.would_enable("gossipykv::runtime", &Level::DEBUG));
        assert!(!info.would_enable("hickory_resolver", &Level::INFO));
        assert!(info.would_enable("hickory_resolver", &Level::WARN));
        assert!(!info.would_enable("tiny_http", &Level::ERROR));
        assert!(!filter(LevelFilter::ERROR).would_enable("hickory_resolver", &Level::WARN));
        assert!(filter(LevelFilter::TRACE).would_enable("hickory_resolver", &Level::DEBUG));
    }

    #[test]
    fn what_programs_read_is_written_unless_nothing_is() {
        let shows =
            |level, format| filter(level, format).would_enable(status::TARGET, &Level::INFO);
        for level in [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::TRACE]
        {
            assert!(shows(level, LogFormat::Json));
            assert_eq!(shows(level, LogFormat::Text), level >= LevelFilter::INFO);
        }
        assert!(!shows(LevelFilter::OFF, LogFormat::Json));
    }
}
