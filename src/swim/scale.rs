//! How the protocol's numbers grow with the cluster: pure formulas.
//!
//! `n` is always the number of members in the probe order, ourselves and the recently dead
//! included, as memberlist counts.

use std::time::Duration;

/// Above this many members push-pulls become rarer.
const PUSH_PULL_SCALE_ABOVE: usize = 32;

/// Above this many members each redials more rarely, so that all together do it as often as ever:
/// a dead member that returns is not met by a crowd.
pub const REDIAL_SCALE_ABOVE: usize = 20;

/// How many times a rumor is sent: `mult * ceil(log10(n + 1))`, which is `mult` times the number
/// of decimal digits of `n`.
#[must_use]
pub fn retransmit_limit(mult: u32, n: usize) -> u32 {
    mult.saturating_mul(n.checked_ilog10().map_or(0, |log| log + 1))
}

/// The least time a suspicion lasts: `mult * max(1, log10 n) * probe_interval`, the logarithm cut
/// to three decimals.
#[must_use]
pub fn suspicion_timeout(mult: u32, n: usize, probe_interval: Duration) -> Duration {
    let scale_thousandths = ((n.max(1) as f64).log10().max(1.0) * 1000.0) as u128;
    let nanos = probe_interval.as_nanos() * u128::from(mult) * scale_thousandths / 1000;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How many independent accusers shorten a suspicion to its least: `mult - 2`, or none in a
/// cluster too small to provide them.
#[must_use]
pub fn suspicion_confirmations(mult: u32, n: usize) -> u32 {
    let wanted = mult.saturating_sub(2);
    if n.saturating_sub(2) < wanted as usize { 0 } else { wanted }
}

/// Time between two push-pulls: `interval`, times `ceil(log2 n - log2 32) + 1` above 32 members.
#[must_use]
pub fn push_pull_interval(interval: Duration, n: usize) -> Duration {
    if n <= PUSH_PULL_SCALE_ABOVE {
        return interval;
    }
    let log_up = usize::BITS - (n - 1).leading_zeros();
    interval.saturating_mul(log_up - PUSH_PULL_SCALE_ABOVE.ilog2() + 1)
}

/// Time between two redials: `interval`, times `n / 20` above 20 members.
#[must_use]
pub fn redial_interval(interval: Duration, n: usize) -> Duration {
    let n = u32::try_from(n.max(REDIAL_SCALE_ABOVE)).unwrap_or(u32::MAX);
    interval.saturating_mul(n) / REDIAL_SCALE_ABOVE as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rumors_are_sent_once_per_decade_of_members() {
        for (n, sends) in [(0, 0), (1, 4), (9, 4), (10, 8), (99, 8), (100, 12), (999, 12)] {
            assert_eq!(retransmit_limit(4, n), sends, "n = {n}");
        }
    }

    #[test]
    fn suspicions_last_longer_in_larger_clusters() {
        let second = Duration::from_secs(1);
        for (n, millis) in [(0, 4000), (1, 4000), (10, 4000), (99, 7980), (100, 8000)] {
            assert_eq!(suspicion_timeout(4, n, second), Duration::from_millis(millis), "n = {n}");
        }
    }

    #[test]
    fn small_clusters_ask_for_no_confirmation() {
        for (n, wanted) in [(0, 0), (3, 0), (4, 2), (100, 2)] {
            assert_eq!(suspicion_confirmations(4, n), wanted, "n = {n}");
        }
        assert_eq!(suspicion_confirmations(1, 100), 0);
    }

    #[test]
    fn push_pulls_become_rarer_with_every_doubling() {
        let base = Duration::from_secs(30);
        for (n, times) in [(1, 1), (32, 1), (33, 2), (64, 2), (65, 3), (128, 3), (129, 4), (256, 4)]
        {
            assert_eq!(push_pull_interval(base, n), base * times, "n = {n}");
        }
    }

    #[test]
    fn all_together_redial_as_often_in_any_large_cluster() {
        let base = Duration::from_secs(2);
        for (n, seconds) in [(1, 2), (20, 2), (30, 3), (100, 10), (5_000, 500)] {
            assert_eq!(redial_interval(base, n), Duration::from_secs(seconds), "n = {n}");
        }
    }
}
