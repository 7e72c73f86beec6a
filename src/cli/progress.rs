//! How far a long work is: a bar on standard error where that is a terminal, else nothing.

use crate::runtime::clock::Clock;
use crate::time::Instant;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal as _};
use std::time::Duration;

/// How often a bar without news is drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// A work of many like steps, with its time.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    bar: ProgressBar,
    clock: Clock,
}

impl Progress {
    /// A bar up to `total` steps, or a count where nobody knows how many there are: of `what`.
    /// Nothing is drawn when standard error is no terminal, nor when the output goes to one.
    pub(super) fn new(total: Option<u64>, what: &'static str, output_is_here: bool) -> Progress {
        let is_shown =
            io::stderr().is_terminal() && !(output_is_here && io::stdout().is_terminal());
        let target = match is_shown {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{wide_bar} {pos} of {len} {msg}, {per_sec}, {eta} left",
            None => "{spinner} {pos} {msg}, {per_sec}, {elapsed}",
        };
        // It is a constant that has been seen to parse.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        if is_shown {
            bar.enable_steady_tick(TICK);
        }
        Progress { bar, clock: Clock::start() }
    }

    /// So many more.
    pub(super) fn add(&self, steps: u64) {
        self.bar.inc(steps);
    }

    /// Runs `tell`, which writes a line, with the bar out of its way.
    pub(super) fn suspend<T>(&self, tell: impl FnOnce() -> T) -> T {
        self.bar.suspend(tell)
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.clock.instant().since(Instant::ZERO).as_secs_f64()
    }

    /// Takes the bar away, so that lines can follow.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// `so many in so long, so many a second`, for the last line of a work.
pub(super) fn rate(steps: u64, seconds: f64) -> String {
    format!("{seconds:.1} s, {:.0} a second", steps as f64 / seconds.max(0.001))
}
