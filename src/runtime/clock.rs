//! The only reader of the system's clocks.

use crate::time::{Instant, Now, WallMillis};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Further away than any deadline that is waited for; keeps conversions from overflowing.
const HORIZON: Duration = Duration::from_secs(365 * 24 * 3600);

/// Both clocks of this machine. Monotonic time counts from [`Clock::start`].
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock whose monotonic time is zero now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one that reads clocks")]
    pub fn start() -> Clock {
        Clock { origin: std::time::Instant::now() }
    }

    /// Both clocks. A civil clock before 1970 reads as zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one that reads clocks")]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = WallMillis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Now { instant: self.instant(), wall }
    }

    /// Monotonic time alone.
    #[must_use]
    pub fn instant(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// `at` as tokio's timers take it. What lies more than a year ahead of the origin comes
    /// earlier; a spurious timeout is harmless.
    #[must_use]
    pub fn timer(&self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + at.since(Instant::ZERO).min(HORIZON))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_run() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.instant <= second.instant);
        assert!(first.wall > WallMillis(1_767_225_600_000), "later than when this was written");
    }

    #[test]
    fn never_is_a_timer_too() {
        let clock = Clock::start();
        assert!(clock.timer(Instant::NEVER) > clock.timer(Instant::from_millis(1 << 30)));
    }
}
