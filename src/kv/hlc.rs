//! The hybrid logical clock: civil time that never stands still and never goes back.
//!
//! Each local write [`tick`](Hlc::tick)s it, each stamp of a peer is [`observe`](Hlc::observe)d,
//! so a write is stamped later than everything its node has seen. A peer whose clock is wrong
//! must not take ours along: a stamp more than [`CLOCK_AHEAD_MAX`] ahead of our wall clock is
//! reported instead of followed.
//!
//! The low 16 bits count within a millisecond and carry into it: 65 million writes a second would
//! push the clock ahead of the wall, one write never waits for it.

use super::version::HlcTime;
use crate::limits::CLOCK_AHEAD_MAX;
use crate::mutation::mutated;
use crate::time::WallMillis;

/// A wall clock past this (the year 6429) is taken as this: half the range stays free, so that
/// counting up never reaches the end.
const WALL_MILLIS_MAX: u64 = (1 << 47) - 1;

/// A hybrid logical clock.
#[derive(Debug, Clone, Default)]
pub struct Hlc {
    last: HlcTime,
}

impl Hlc {
    /// A clock that has seen nothing.
    #[must_use]
    pub fn new() -> Hlc {
        Hlc::default()
    }

    /// The time of a local event: the wall's, or just past the last one if that is later.
    pub fn tick(&mut self, wall: WallMillis) -> HlcTime {
        let next = HlcTime(self.last.0.saturating_add(1));
        let wall = HlcTime::from_millis(wall.0.min(WALL_MILLIS_MAX));
        self.last = if mutated!(ClockBack) { wall } else { next.max(wall) };
        self.last
    }

    /// Follows a stamp made elsewhere, so that later ticks are later than it. Returns true, and
    /// follows not, when it is more than [`CLOCK_AHEAD_MAX`] ahead of `wall`.
    pub fn observe(&mut self, time: HlcTime, wall: WallMillis) -> bool {
        if time <= self.last {
            return false;
        }
        let ahead = time > latest_followed(wall) && !mutated!(FarAhead);
        if !ahead {
            self.last = time;
        }
        ahead
    }

    /// The latest time given out or followed; zero at first.
    #[must_use]
    pub fn last(&self) -> HlcTime {
        self.last
    }
}

/// The latest stamp that moves the clock while the wall says `wall`.
fn latest_followed(wall: WallMillis) -> HlcTime {
    let ahead = u64::try_from(CLOCK_AHEAD_MAX.as_millis()).unwrap_or(u64::MAX);
    HlcTime::from_millis(wall.0.saturating_add(ahead).min(WALL_MILLIS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AHEAD_MS: u64 = CLOCK_AHEAD_MAX.as_millis() as u64;

    #[test]
    fn ticks_rise_while_the_wall_stands_or_falls() {
        let mut hlc = Hlc::new();
        let first = hlc.tick(WallMillis(1_000));
        assert_eq!(first, HlcTime::from_millis(1_000));
        assert_eq!(hlc.tick(WallMillis(1_000)), HlcTime(first.0 + 1));
        assert_eq!(hlc.tick(WallMillis(3)), HlcTime(first.0 + 2));
        assert_eq!(hlc.tick(WallMillis(1_001)), HlcTime::from_millis(1_001));
    }

    #[test]
    fn a_stamp_just_within_the_bound_is_followed_and_one_past_it_is_not() {
        let (mut hlc, wall) = (Hlc::new(), WallMillis(5_000));
        let edge = HlcTime::from_millis(5_000 + AHEAD_MS);
        assert!(hlc.observe(HlcTime(edge.0 + 1), wall));
        assert_eq!(hlc.last(), HlcTime(0));
        assert!(!hlc.observe(edge, wall));
        assert_eq!(hlc.tick(wall), HlcTime(edge.0 + 1));
    }

    #[test]
    fn the_ends_of_the_range_are_survived() {
        let mut hlc = Hlc::new();
        assert!(hlc.observe(HlcTime(u64::MAX), WallMillis(u64::MAX)));
        let far = hlc.tick(WallMillis(u64::MAX));
        assert!(hlc.tick(WallMillis(u64::MAX)) > far);
        assert!(far.0 < 1 << 63);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Tick,
        Observe(u64),
    }

    proptest! {
        #[test]
        fn strictly_increasing_and_bounded_through_clock_jumps(
            steps in prop::collection::vec(
                (
                    0..10_000_000u64,
                    prop_oneof![
                        Just(Step::Tick),
                        (0..20_000_000u64 << 16).prop_map(Step::Observe),
                        any::<u64>().prop_map(Step::Observe),
                    ],
                ),
                1..200,
            )
        ) {
            let (mut hlc, mut wall_max, mut ticks) = (Hlc::new(), 0, 0u64);
            for (wall, step) in steps {
                wall_max = wall_max.max(wall);
                let before = hlc.last();
                match step {
                    Step::Tick => {
                        ticks += 1;
                        prop_assert!(hlc.tick(WallMillis(wall)) > before);
                    }
                    Step::Observe(time) => {
                        let ahead = hlc.observe(HlcTime(time), WallMillis(wall));
                        let followed = hlc.last() >= HlcTime(time);
                        prop_assert_eq!(ahead, !followed);
                        prop_assert!(hlc.last() >= before);
                    }
                }
                let bound = HlcTime::from_millis(wall_max + AHEAD_MS);
                prop_assert!(hlc.last().0 <= bound.0 + ticks);
            }
        }
    }
}
