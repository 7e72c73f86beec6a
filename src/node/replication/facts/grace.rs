//! How long a delete is remembered now: as long as is asked for, and less where deletes would take
//! too much of a bounded store.
//!
//! ```text
//! grace  asked |--------------.
//!              |               `-.
//!        floor |                  `----------
//!              0     half of     all of      bytes of deletes
//!                    their part  their part
//! ```
//!
//! A delete is forgotten before that by nobody, and after it only when every known member holds it:
//! what a shorter grace gives up is protection from what comes later than that from somebody whom
//! nobody knows. A member that slept past a forgotten delete is told so by marks, and is reset.

use crate::kv::StoreStats;
use crate::limits::{TOMBSTONE_GRACE_FLOOR, TOMBSTONES_SHARE};
use std::time::Duration;

/// The grace of now in milliseconds, in a store bounded to `limit` bytes; 0 for no bound.
pub(in crate::node) fn grace_ms(asked: Duration, store: &StoreStats, limit: u64) -> u64 {
    let asked = u64::try_from(asked.as_millis()).unwrap_or(u64::MAX);
    let floor = asked.min(TOMBSTONE_GRACE_FLOOR.as_millis() as u64);
    let (part, half) = (limit / TOMBSTONES_SHARE, limit / TOMBSTONES_SHARE / 2);
    if limit == 0 || store.tombstone_bytes <= half {
        return asked;
    }
    let left = part.saturating_sub(store.tombstone_bytes);
    let shrunk = u128::from(asked - floor) * u128::from(left) / u128::from((part - half).max(1));
    floor + u64::try_from(shrunk).unwrap_or(u64::MAX)
}

/// How long what has expired is remembered after its expiry, where deletes are for `grace_ms`.
pub(in crate::node) fn expired_grace_ms(asked: Duration, grace_ms: u64) -> u64 {
    u64::try_from(asked.as_millis()).unwrap_or(u64::MAX).min(grace_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_shrinks_as_deletes_fill_their_part() {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let of = |asked, tombstone_bytes, limit| {
            let stats = StoreStats { tombstone_bytes, ..StoreStats::default() };
            Duration::from_millis(grace_ms(asked, &stats, limit))
        };
        let (part, half) = (1_000, 500);
        let limit = part * TOMBSTONES_SHARE;
        assert_eq!(of(DAY, u64::MAX, 0), DAY, "without a bound");
        assert_eq!(of(DAY, half, limit), DAY);
        let middle = of(DAY, (half + part) / 2, limit);
        assert_eq!(middle, (DAY - TOMBSTONE_GRACE_FLOOR) / 2 + TOMBSTONE_GRACE_FLOOR);
        assert!(of(DAY, part - 1, limit) > TOMBSTONE_GRACE_FLOOR);
        for bytes in [part, 2 * part, u64::MAX] {
            assert_eq!(of(DAY, bytes, limit), TOMBSTONE_GRACE_FLOOR);
            assert_eq!(of(TOMBSTONE_GRACE_FLOOR / 2, bytes, limit), TOMBSTONE_GRACE_FLOOR / 2);
        }
        assert_eq!(of(DAY, 1, 1), TOMBSTONE_GRACE_FLOOR);
        assert_eq!(of(Duration::MAX, half, limit), Duration::from_millis(u64::MAX));
    }
}
