//! How long discovery waits between two looks. Pure: randomness is an argument.
//!
//! ```text
//!   alone:   full jitter below 0.25 s, 0.5 s, 1 s, 2 s, 2 s ..   for the first 30 looks
//!            then 2 s to 4 s, for ever
//!   joined:  8 s to 12 s, for ever; alone again starts over
//! ```
//!
//! A record that appears is therefore seen within 4 s by a node alone, and two clusters formed
//! apart find each other within 12 s of a common record.

use crate::rng::Rng;
use std::time::Duration;

/// Ceiling of the first wait.
const FIRST: Duration = Duration::from_millis(250);
/// Ceiling of the waits of the first looks.
const CEILING: Duration = Duration::from_secs(2);
/// Shortest wait, lest jitter near zero becomes a busy loop.
const FLOOR: Duration = Duration::from_millis(50);
/// Looks before a node alone settles for the slower pace.
const EAGER_LOOKS: u32 = 30;
/// Shortest standing wait of a node alone, and the width of its jitter.
const ALONE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(2));
/// Shortest standing wait of a node with peers, and the width of its jitter.
const JOINED: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(4));

/// The exponential ceiling of try `attempt`, counted from 0: `min(ceiling, first * 2^attempt)`.
#[must_use]
pub fn exponential(first: Duration, ceiling: Duration, attempt: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(ceiling)
}

/// A wait drawn evenly below the exponential ceiling ("full jitter"), but at least `FLOOR`.
fn full_jitter(attempt: u32, rng: &mut Rng) -> Duration {
    rng.duration_below(exponential(FIRST, CEILING, attempt)).max(FLOOR)
}

/// The pace of the loop.
#[derive(Debug, Default)]
pub struct Pace {
    eager_looks: u32,
}

impl Pace {
    /// How long to wait before the next look.
    pub fn pause(&mut self, alone: bool, rng: &mut Rng) -> Duration {
        if !alone {
            self.eager_looks = 0;
            return JOINED.0 + rng.duration_below(JOINED.1);
        }
        if self.eager_looks < EAGER_LOOKS {
            self.eager_looks += 1;
            return full_jitter(self.eager_looks - 1, rng);
        }
        ALONE.0 + rng.duration_below(ALONE.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_bound_and_never_overflows() {
        let ceilings: Vec<u128> =
            (0..6).map(|n| exponential(FIRST, CEILING, n).as_millis()).collect();
        assert_eq!(ceilings, [250, 500, 1000, 2000, 2000, 2000]);
        assert_eq!(exponential(FIRST, Duration::MAX, u32::MAX), FIRST.saturating_mul(1 << 31));
    }

    #[test]
    fn a_node_alone_looks_eagerly_then_every_two_to_four_seconds() {
        for rng_seed in 0..50 {
            let mut rng = Rng::from_seed(rng_seed);
            let mut pace = Pace::default();
            for look in 0..EAGER_LOOKS {
                let pause = pace.pause(true, &mut rng);
                assert!(pause >= FLOOR && pause <= exponential(FIRST, CEILING, look), "{pause:?}");
            }
            for _ in 0..20 {
                let pause = pace.pause(true, &mut rng).as_millis();
                assert!((2000..4000).contains(&pause), "{pause}");
            }
        }
    }

    #[test]
    fn a_node_with_peers_looks_every_ten_seconds_and_is_eager_again_when_alone() {
        let mut rng = Rng::from_seed(7);
        let mut pace = Pace::default();
        for _ in 0..EAGER_LOOKS {
            pace.pause(true, &mut rng);
        }
        let pause = pace.pause(false, &mut rng).as_millis();
        assert!((8000..12_000).contains(&pause), "{pause}");
        assert!(pace.pause(true, &mut rng) <= FIRST);
    }

    #[test]
    fn jitter_spreads_nodes_that_start_together() {
        let mut pauses: Vec<Duration> = (0..100)
            .map(|rng_seed| Pace::default().pause(false, &mut Rng::from_seed(rng_seed)))
            .collect();
        pauses.sort();
        pauses.dedup();
        assert!(pauses.len() > 90, "{} different waits of 100", pauses.len());
    }
}
