//! Time as plain numbers: the core never reads a clock, it is told.
//!
//! [`Instant`] is monotonic: nanoseconds since the process (or the simulation) began.
//! [`WallMillis`] is the civil clock: milliseconds since the Unix epoch, free to jump either way.
//! [`Now`] is the pair every entry point of the core takes.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A monotonic point in time: nanoseconds since an origin of the shell's choosing.
///
/// Arithmetic is total: it saturates at both ends and never panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The origin.
    pub const ZERO: Instant = Instant(0);
    /// Later than anything that happens; "no deadline".
    pub const NEVER: Instant = Instant(u64::MAX);

    /// The instant `millis` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Instant {
        Instant(millis.saturating_mul(1_000_000))
    }

    /// Milliseconds from the origin to it.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, delay: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, delay: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The civil clock: milliseconds since the Unix epoch. It may jump either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallMillis(pub u64);

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic time.
    pub instant: Instant,
    /// Civil time.
    pub wall: WallMillis,
}

impl Now {
    /// This moment moved `delay` later on both clocks.
    #[must_use]
    pub fn after(self, delay: Duration) -> Now {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Now { instant: self.instant + delay, wall: WallMillis(self.wall.0.saturating_add(millis)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO.since(Instant::from_millis(5)), Duration::ZERO);
        assert_eq!(Instant::from_millis(5).since(Instant::ZERO), Duration::from_millis(5));
    }
}
