//! How long a peer takes to acknowledge: what the wait before a second try follows.
//!
//! ```text
//! sent once, acknowledged     a certain sample: smoothed as TCP does
//! sent again, acknowledged    which try was answered is not told: the time since the first one
//!                             is the longest that it can have taken
//! ```
//!
//! By certain samples alone nothing would ever be learnt of a peer whose round trip is longer than
//! the first wait. So a bound stands in where there is no certain sample yet, and where several in
//! a row say that the round trip has grown; under loss the next write that is answered at its
//! first try takes it back.

use std::time::Duration;

/// Bounds in a row after which they are believed rather than the samples before them.
const BOUNDS_MAX: u32 = 4;

/// What has been measured of one peer. The receiver's delay is part of every sample.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::node) struct RoundTrip {
    smoothed: Option<Duration>,
    /// The least of the bounds since the last certain sample, and how many there were.
    bound: Option<Duration>,
    n_bounds: u32,
}

impl RoundTrip {
    /// A write sent once was acknowledged after this long.
    pub(in crate::node) fn took(&mut self, sample: Duration) {
        self.smoothed = Some(match self.smoothed {
            Some(smoothed) if self.n_bounds < BOUNDS_MAX => (smoothed * 7 + sample) / 8,
            _ => sample,
        });
        (self.bound, self.n_bounds) = (None, 0);
    }

    /// A write sent more than once was acknowledged this long after the first time.
    pub(in crate::node) fn took_at_most(&mut self, sample: Duration) {
        self.bound = Some(self.bound.map_or(sample, |bound| bound.min(sample)));
        self.n_bounds = self.n_bounds.saturating_add(1);
    }

    /// The best guess; none before the first acknowledgement.
    pub(in crate::node) fn estimate(&self) -> Option<Duration> {
        match (self.smoothed, self.bound) {
            (Some(smoothed), Some(bound)) if self.n_bounds >= BOUNDS_MAX => {
                Some(smoothed.max(bound))
            }
            (Some(smoothed), _) => Some(smoothed),
            (None, bound) => bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_bound_stands_in_until_there_is_a_sample() {
        let mut trip = RoundTrip::default();
        assert_eq!(trip.estimate(), None);
        trip.took_at_most(MS * 250);
        trip.took_at_most(MS * 300);
        assert_eq!(trip.estimate(), Some(MS * 250));
        trip.took(MS * 240);
        assert_eq!(trip.estimate(), Some(MS * 240));
        trip.took(MS * 160);
        assert_eq!(trip.estimate(), Some(MS * 230), "smoothed");
    }

    #[test]
    fn loss_does_not_pass_for_a_longer_way() {
        let mut trip = RoundTrip::default();
        trip.took(MS);
        for lost in [13, 31, 58] {
            trip.took_at_most(MS * lost);
            assert_eq!(trip.estimate(), Some(MS));
        }
        trip.took(MS);
        assert_eq!(trip.estimate(), Some(MS));
    }

    #[test]
    fn a_way_that_grows_longer_is_noticed_and_so_is_one_that_shrinks() {
        let mut trip = RoundTrip::default();
        trip.took(MS * 5);
        (0..4).for_each(|_| trip.took_at_most(MS * 80));
        assert_eq!(trip.estimate(), Some(MS * 80));
        trip.took(MS * 78);
        assert_eq!(trip.estimate(), Some(MS * 78), "the sample before the change is forgotten");
        (0..60).for_each(|_| trip.took(MS * 2));
        assert!(trip.estimate() < Some(MS * 3));
    }
}
