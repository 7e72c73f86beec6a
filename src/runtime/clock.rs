//! The only reader of the system's clocks.

use crate::time::{Instant, Now, WallMillis};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest wait of one timer, counted from the moment it is set: tokio's wheel turns once in two
/// years. A process may be older than that; nothing here counts from its start.
const HORIZON: Duration = Duration::from_secs(365 * 24 * 3600);

/// Both clocks of this machine. Monotonic time counts from [`Clock::start`].
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: std::time::Instant,
    /// What it had counted at the origin.
    age: Duration,
}

impl Clock {
    /// A clock whose monotonic time is zero now.
    #[must_use]
    pub fn start() -> Clock {
        Clock::running_for(Duration::ZERO)
    }

    /// A clock that has counted this long by now, as that of an old process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one that reads clocks")]
    pub fn running_for(age: Duration) -> Clock {
        Clock { origin: std::time::Instant::now(), age }
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
        Instant::ZERO + self.age + self.origin.elapsed()
    }

    /// `at` as tokio's timers take it. What lies more than a year ahead of now comes earlier; a
    /// spurious timeout is harmless.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file is the one that reads clocks")]
    pub fn timer(&self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::now() + at.since(self.instant()).min(HORIZON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

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

    /// A timer lies ahead by what is left, however long the clock has been running.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "what a timer is compared with")]
    fn timers_do_not_count_from_the_start_of_the_process() {
        let wait = Duration::from_secs(1000);
        for age in [Duration::ZERO, YEAR + wait / 2, 2 * YEAR, 10 * YEAR, 500 * YEAR] {
            let clock = Clock::running_for(age);
            assert!(clock.instant() >= Instant::ZERO + age);
            let begin = tokio::time::Instant::now();
            let timer = clock.timer(clock.instant() + wait);
            let end = tokio::time::Instant::now();
            // Not a moment late: what is left was read before the timer's own now.
            let earliest = begin + wait - (end - begin);
            assert!((earliest..=end + wait).contains(&timer), "{age:?}");
            assert!(clock.timer(Instant::NEVER) >= begin + HORIZON);
            let over = clock.timer(Instant::ZERO);
            assert!(over <= tokio::time::Instant::now(), "what is over is over");
        }
    }
}
