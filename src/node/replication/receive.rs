//! Records coming in, whatever the way.

use super::context::Context;
use super::message::{Item, Ranges};
use crate::kv::{Merge, OriginId, Record};
use crate::limits::{CLOCK_AHEAD_MAX, SETTLES_MAX};
use crate::mutation::mutated;
use crate::node::io::Note;
use std::time::Duration;

/// Time between two notes that this node stamps ahead of its clock.
const LEAD_AGAIN: Duration = Duration::from_secs(60);

/// Merges records; how many were newer than what was here, and which were refused as copies
/// from before a forgotten delete, tombstones left out. `observe` also notes their numbers one
/// by one; a bulk copy is claimed at its end instead.
pub(super) fn apply(cx: &mut Context<'_>, records: &[Record], observe: bool) -> (usize, Vec<Item>) {
    let (mut n_newer, mut refused) = (0, Vec::new());
    for record in records {
        if cx.known.is_resurrected(record, cx.store) {
            cx.counters.resurrections_refused_total += 1;
            // Somebody else may remember a delete for longer.
            if !record.is_tombstone() || mutated!(DropTombstones) {
                refused.push(Item::of(record));
            }
            continue;
        }
        let dot = record.dot();
        // Its number alone would make a run of it that nobody has whole.
        let observe = observe && !cx.known.is_below_floor(dot.origin, record.stamp().time);
        match cx.store.merge(record, cx.now) {
            Merge::Newer { clock_ahead } => {
                n_newer += 1;
                if clock_ahead {
                    clock_is_ahead(cx, record);
                }
            }
            Merge::Stale => cx.counters.stale_total += 1,
            Merge::Equal => cx.counters.duplicate_total += 1,
        }
        if observe && dot.origin != cx.me && cx.known.observe(dot.origin, dot.seq, dot.seq) {
            cx.store.note_dot(dot, record.key());
        }
        if observe && cx.ready.wants_copy() {
            cx.known.came(dot.origin, record.stamp().time);
        }
        cx.known.took(record);
    }
    cx.counters.newer_total += n_newer as u64;
    (n_newer, refused)
}

/// One note a second at most; the metric counts them all.
fn clock_is_ahead(cx: &mut Context<'_>, record: &Record) {
    if cx.now.instant < cx.counters.next_clock_note {
        return;
    }
    cx.counters.next_clock_note = cx.now.instant + Duration::from_secs(1);
    let stamp = record.stamp();
    cx.note(Note::ClockAhead {
        origin: format!("{:016x}", stamp.origin.0),
        ahead_ms: stamp.time.millis().saturating_sub(cx.now.wall.0),
    });
}

/// Looks whether this node stamps its writes far ahead of its own clock: then that one was ahead
/// and has been set back, and the hybrid clock stays where it was until a restart. Told each
/// minute.
pub(super) fn own_clock(cx: &mut Context<'_>) {
    let lead_ms = cx.store.stats().hlc.millis().saturating_sub(cx.now.wall.0);
    cx.counters.clock_lead_ms = lead_ms;
    // Peers alone take it as far as that.
    let most = CLOCK_AHEAD_MAX + Duration::from_secs(1);
    if u128::from(lead_ms) <= most.as_millis() || cx.now.instant < cx.counters.next_lead_note {
        return;
    }
    cx.counters.next_lead_note = cx.now.instant + LEAD_AGAIN;
    cx.note(Note::OwnClockAhead { ahead_ms: lead_ms });
}

/// Notes which writes of `of` a push settles, not too many of them. Whether any was news.
pub(super) fn settled(cx: &mut Context<'_>, of: OriginId, settles: &Ranges) -> bool {
    let (mut news, mut room) = (false, SETTLES_MAX);
    for &(start, end) in settles {
        let n = end.saturating_sub(start).saturating_add(1);
        if start == 0 || end < start || n > room {
            cx.counters.settles_refused_total += 1;
            break;
        }
        room -= n;
        news |= cx.known.observe(of, start, end);
    }
    news
}
