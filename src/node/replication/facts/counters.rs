//! What is counted that belongs to no mechanism alone.

use crate::time::Instant;

/// Counters that belong to no part alone.
#[derive(Debug, Default)]
pub(in crate::node) struct Counters {
    pub(in crate::node) datagram_len_in: u64,
    pub(in crate::node) datagram_len_out: u64,
    pub(in crate::node) datagrams_out: u64,
    pub(in crate::node) link_len_in: u64,
    pub(in crate::node) unreadable_total: u64,
    pub(in crate::node) fields_passed_over_total: u64,
    pub(in crate::node) kinds_passed_over_total: u64,
    #[cfg(feature = "next-format")]
    pub(in crate::node) played_total: u64,
    pub(in crate::node) newer_total: u64,
    pub(in crate::node) stale_total: u64,
    pub(in crate::node) duplicate_total: u64,
    pub(in crate::node) resurrections_refused_total: u64,
    pub(in crate::node) settles_refused_total: u64,
    /// Messages with records, or lists of folded origins, of runs that are not met.
    pub(in crate::node) unmet_total: u64,
    pub(in crate::node) resends_total: u64,
    pub(in crate::node) wants_in_total: u64,
    pub(in crate::node) window_full_total: u64,
    pub(in crate::node) dials_failed_total: u64,
    pub(in crate::node) resets_total: u64,
    /// Times that it went on as another run, as a peer held more of the one before than there was.
    pub(in crate::node) set_backs_total: u64,
    /// Claims of such writes that counted for nothing.
    pub(in crate::node) claims_ignored_total: u64,
    pub(in crate::node) compared_total: u64,
    pub(in crate::node) damaged_total: u64,
    pub(in crate::node) next_clock_note: Instant,
    /// How far the hybrid clock is ahead of the wall's, in milliseconds, and when that is told
    /// next.
    pub(in crate::node) clock_lead_ms: u64,
    pub(in crate::node) next_lead_note: Instant,
}
