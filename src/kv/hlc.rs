//! The hybrid logical clock: civil time that never stands still and never goes back.
//!
//! Each local write [`tick`](Hlc::tick)s it, each stamp of a peer is [`observe`](Hlc::observe)d,
//! so a write is stamped later than everything its node has seen. A peer whose clock is wrong
//! must not take ours along: a stamp more than [`CLOCK_AHEAD_MAX`] ahead of our wall clock is
//! reported instead of followed.
//!
//! The low 16 bits count within a millisecond and carry into it, in steps of [`STEP`]: the lowest
//! four say nothing, so that a number without them still tells two writes of one node apart. A new
//! millisecond begins at a count that depends on the origin, so that two nodes which write one key
//! in the same millisecond do so under different times, save one in 1,024. What is left, 3,073
//! steps or more, is three million writes a second; more push the clock ahead of the wall, and no
//! write waits for it.

use super::version::{HlcTime, OriginId};
use crate::limits::CLOCK_AHEAD_MAX;
use crate::mutation::mutated;
use crate::time::WallMillis;

/// A wall clock past this (the year 6429) is taken as this: half the range stays free, so that
/// counting up never reaches the end.
const WALL_MILLIS_MAX: u64 = (1 << 47) - 1;

/// From one time of a node to its next, in counts.
pub const STEP: u64 = 16;

/// A hybrid logical clock.
#[derive(Debug, Clone, Default)]
pub struct Hlc {
    last: HlcTime,
    /// The count at which a millisecond begins.
    first: u64,
}

impl Hlc {
    /// The clock of a node that has seen nothing.
    #[must_use]
    pub fn new(origin: OriginId) -> Hlc {
        Hlc { last: HlcTime::default(), first: (origin.0 & 1023) * STEP }
    }

    /// The same clock for another run of the node.
    #[must_use]
    pub fn renewed(&self, origin: OriginId) -> Hlc {
        Hlc { last: self.last, ..Hlc::new(origin) }
    }

    /// The time of a local event: the wall's, or just past the last one if that is later.
    pub fn tick(&mut self, wall: WallMillis) -> HlcTime {
        let next = after(self.last).unwrap_or(HlcTime(u64::MAX));
        let wall = HlcTime(HlcTime::from_millis(wall.0.min(WALL_MILLIS_MAX)).0 + self.first);
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

/// The first time a node gives out that beats `time`; `None` when there is none.
#[must_use]
pub fn after(time: HlcTime) -> Option<HlcTime> {
    (time.0 | (STEP - 1)).checked_add(1).map(HlcTime)
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
        let mut hlc = Hlc::new(OriginId(1_024));
        let first = hlc.tick(WallMillis(1_000));
        assert_eq!(first, HlcTime::from_millis(1_000));
        assert_eq!(hlc.tick(WallMillis(1_000)), HlcTime(first.0 + 16));
        assert_eq!(hlc.tick(WallMillis(3)), HlcTime(first.0 + 32));
        assert_eq!(hlc.tick(WallMillis(1_001)), HlcTime::from_millis(1_001));
        assert!(!hlc.observe(HlcTime::from_millis(1_002), WallMillis(1_001)));
        assert_eq!(hlc.tick(WallMillis(1_001)), HlcTime((1_002 << 16) + 16));
    }

    #[test]
    fn no_two_times_of_a_node_differ_in_the_lowest_bits_alone() {
        let mut hlc = Hlc::new(OriginId(u64::MAX));
        let mut last = hlc.tick(WallMillis(9)).0;
        assert_eq!(last & 0xffff, 1_023 << 4);
        for count in 0..200_000 {
            // What others write is counted in the lowest bits by nodes of an older release.
            hlc.observe(HlcTime(last + count % 40), WallMillis(9));
            let next = hlc.tick(WallMillis(9)).0;
            assert!(next >> 4 > last >> 4);
            last = next;
        }
    }

    #[test]
    fn a_busy_millisecond_has_room_for_three_million_writes_a_second() {
        for origin in [1, 1_023, u64::MAX] {
            let mut hlc = Hlc::new(OriginId(origin));
            let times = (0..3_072).map(|_| hlc.tick(WallMillis(9)).millis());
            assert!(times.eq(std::iter::repeat_n(9, 3_072)), "{origin}");
        }
    }

    #[test]
    fn a_stamp_just_within_the_bound_is_followed_and_one_past_it_is_not() {
        let (mut hlc, wall) = (Hlc::new(OriginId(1)), WallMillis(5_000));
        let edge = HlcTime::from_millis(5_000 + AHEAD_MS);
        assert!(hlc.observe(HlcTime(edge.0 + 1), wall));
        assert_eq!(hlc.last(), HlcTime(0));
        assert!(!hlc.observe(edge, wall));
        assert_eq!(hlc.tick(wall), HlcTime(edge.0 + 16));
    }

    #[test]
    fn the_ends_of_the_range_are_survived() {
        let mut hlc = Hlc::new(OriginId(u64::MAX));
        assert!(hlc.observe(HlcTime(u64::MAX), WallMillis(u64::MAX)));
        let far = hlc.tick(WallMillis(u64::MAX));
        assert!(hlc.tick(WallMillis(u64::MAX)) > far);
        assert!(far.0 < 1 << 63);
        assert_eq!((after(HlcTime(u64::MAX)), after(HlcTime(16))), (None, Some(HlcTime(32))));
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
            let (mut hlc, mut wall_max, mut ticks) = (Hlc::new(OriginId(77)), 0, 0u64);
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
                prop_assert!(hlc.last().0 <= bound.0 + STEP * ticks);
            }
        }
    }
}
