//! What is counted that belongs to no mechanism alone.

use crate::time::Instant;

/// Counters that belong to no part alone.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) datagram_len_in: u64,
    pub(super) datagram_len_out: u64,
    pub(super) datagrams_out: u64,
    pub(super) link_len_in: u64,
    pub(super) unreadable_total: u64,
    pub(super) fields_passed_over_total: u64,
    pub(super) kinds_passed_over_total: u64,
    #[cfg(feature = "next-format")]
    pub(super) played_total: u64,
    pub(super) newer_total: u64,
    pub(super) stale_total: u64,
    pub(super) duplicate_total: u64,
    pub(super) resurrections_refused_total: u64,
    pub(super) settles_refused_total: u64,
    pub(super) resends_total: u64,
    pub(super) wants_in_total: u64,
    pub(super) window_full_total: u64,
    pub(super) dials_failed_total: u64,
    pub(super) resets_total: u64,
    pub(super) compared_total: u64,
    pub(super) damaged_total: u64,
    pub(super) next_clock_note: Instant,
}
