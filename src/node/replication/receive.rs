//! Records coming in, whatever the way.

use super::message::{Item, Push};
use super::paths::Via;
use super::{Note, Replication};
use crate::kv::{Merge, OriginId, Record};
use crate::limits::SETTLES_MAX;
use crate::mutation::mutated;
use crate::time::Now;
use bytes::Bytes;

impl Replication {
    /// A push arrived, by datagram or link.
    pub(super) fn pushed(
        &mut self,
        now: Now,
        payload: &Bytes,
        push: Push,
        records: &[Record],
        via: Via,
    ) {
        let (of, from) = (OriginId(push.of), OriginId(push.from));
        self.cx(now).heard_via(from, via);
        self.note_pushed(records);
        let (n_newer, _) = self.apply(now, records, true);
        let mut news = n_newer > 0;
        if of != self.shared.me {
            let mut room = SETTLES_MAX;
            for &(start, end) in &push.settles {
                let n = end.saturating_sub(start).saturating_add(1);
                if start == 0 || end < start || n > room {
                    self.shared.counters.settles_refused_total += 1;
                    break;
                }
                room -= n;
                news |= self.shared.known.observe(of, start, end);
            }
            self.owe_ack(now, &push, via);
            let cx = &self.shared.lend(now, &mut self.links);
            self.gaps.note_holes(cx, of, from);
        }
        if news {
            let cx = &mut self.shared.lend(now, &mut self.links);
            self.rumors.came(cx, payload, of, via);
        }
    }

    /// Merges records; how many were newer than what was here, and which were refused as copies
    /// from before a forgotten delete, tombstones left out. `observe` also notes their numbers one
    /// by one; a bulk copy is claimed at its end instead.
    pub(super) fn apply(
        &mut self,
        now: Now,
        records: &[Record],
        observe: bool,
    ) -> (usize, Vec<Item>) {
        let (mut n_newer, mut refused) = (0, Vec::new());
        for record in records {
            if self.shared.known.is_resurrected(record, &self.shared.store) {
                self.shared.counters.resurrections_refused_total += 1;
                // Somebody else may remember a delete for longer.
                if !record.is_tombstone() || mutated!(DropTombstones) {
                    refused.push(Item::of(record));
                }
                continue;
            }
            let dot = record.dot();
            match self.shared.store.merge(record, now) {
                Merge::Newer { clock_ahead } => {
                    n_newer += 1;
                    if clock_ahead {
                        self.clock_is_ahead(now, record);
                    }
                }
                Merge::Stale => self.shared.counters.stale_total += 1,
                Merge::Equal => self.shared.counters.duplicate_total += 1,
            }
            if observe
                && dot.origin != self.shared.me
                && self.shared.known.observe(dot.origin, dot.seq, dot.seq)
            {
                self.shared.store.note_dot(dot, record.key());
            }
        }
        self.shared.counters.newer_total += n_newer as u64;
        (n_newer, refused)
    }

    /// One note a second at most; the metric counts them all.
    fn clock_is_ahead(&mut self, now: Now, record: &Record) {
        if now.instant < self.shared.counters.next_clock_note {
            return;
        }
        self.shared.counters.next_clock_note = now.instant + std::time::Duration::from_secs(1);
        let stamp = record.stamp();
        self.note(Note::ClockAhead {
            origin: format!("{:016x}", stamp.origin.0),
            ahead_ms: stamp.time.millis().saturating_sub(now.wall.0),
        });
    }
}
