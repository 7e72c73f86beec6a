//! Letting go: tombstones that everybody holds and whose grace is over, and origins that everybody
//! holds whole and that are gone.

use super::{Note, Replication};
use crate::kv::{OriginId, Record};
use crate::limits::STORE_SHARDS;
use crate::mutation::mutated;
use crate::time::{Instant, Now};
use std::time::Duration;

/// Time between two steps.
const STEP: Duration = Duration::from_secs(1);
/// Shards swept in one step: all of them in sixteen.
const STEP_SHARDS: usize = 16;
/// Time after which members that speak other formats are told of again.
const INCOMPATIBLE_AGAIN: Duration = Duration::from_secs(60);
/// Origins looked at in one step.
const STEP_ORIGINS: usize = 64;

/// Where the sweep is.
#[derive(Debug)]
pub(super) struct Sweep {
    next: Instant,
    shard: usize,
    /// The next shard looked through for damage.
    pub(super) scrubbed: usize,
    after_origin: OriginId,
    /// When members that speak other formats are told of again.
    next_incompatible: Instant,
    pub(super) forgotten_total: u64,
    pub(super) folded_total: u64,
    pub(super) damaged_total: u64,
}

impl Sweep {
    pub(super) fn new(now: Instant) -> Sweep {
        Sweep {
            next: now + STEP,
            shard: 0,
            scrubbed: 0,
            after_origin: OriginId(0),
            next_incompatible: now,
            forgotten_total: 0,
            folded_total: 0,
            damaged_total: 0,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next
    }
}

impl Replication {
    pub(super) fn sweep_due(&mut self, now: Now) {
        if self.sweep.next > now.instant {
            return;
        }
        self.sweep.next = now.instant + STEP;
        self.tell_incompatible(now);
        self.scrub_next(now);
        self.stranded_due(now);
        self.tell_stranded(now, self.sweep.shard, STEP_SHARDS);
        for _ in 0..STEP_SHARDS {
            self.forget_tombstones(now, self.sweep.shard);
            self.sweep.shard = (self.sweep.shard + 1) % STORE_SHARDS;
        }
        self.fold_origins();
    }

    fn tell_incompatible(&mut self, now: Now) {
        let mut there = self.shared.peers.incompatible().filter(|info| info.reachable);
        let Some(first) = there.next() else { return };
        if !self.shared.peers.is_incompatible_news && now.instant < self.sweep.next_incompatible {
            return;
        }
        let note = Note::Incompatible {
            members: 1 + there.count(),
            name: first.name.to_string(),
            theirs: first.formats,
            ours: self.shared.config.formats,
        };
        self.shared.peers.is_incompatible_news = false;
        self.sweep.next_incompatible = now.instant + INCOMPATIBLE_AGAIN;
        self.note(note);
    }

    fn grace_ms(&self) -> u64 {
        u64::try_from(self.shared.config.tombstone_grace.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a tombstone has been remembered for long enough by this node's clocks.
    pub(super) fn is_grace_over(&self, now: Now, tombstone: &Record) -> bool {
        let time = tombstone.stamp().time;
        time.millis().saturating_add(self.grace_ms()) <= now.wall.0
            && time <= self.shared.store.stats().hlc
    }

    /// A tombstone goes when its grace is over and every known member holds it, dead ones too; none
    /// goes on a node that is cut off.
    fn forget_tombstones(&mut self, now: Now, shard: usize) {
        // Whoever it has not met yet may hold what the delete is to beat.
        if self.shared.config.expects_peers && self.shared.peers.n_reachable() == 0 {
            return;
        }
        let grace_ms = self.grace_ms();
        let (peers, known, me) = (&self.shared.peers, &mut self.shared.known, self.shared.me);
        let folded_hash = known.folded_hash();
        let forgotten = self.shared.store.forget_tombstones(shard, |tombstone| {
            let (dot, time) = (tombstone.dot(), tombstone.stamp().time);
            if time.millis().saturating_add(grace_ms) > now.wall.0 {
                return false;
            }
            let held_here = dot.origin == me || known.covers(dot);
            let folded = known.folds(dot);
            let held = held_here
                && peers.iter().all(|peer| {
                    (dot.origin == me && peer.acked >= dot.seq)
                        || peer.head(dot.origin) >= dot.seq
                        || (folded && peer.folded_held == Some(folded_hash))
                });
            let held = held || mutated!(ForgetEarly);
            if held {
                known.forget(tombstone);
            }
            held
        });
        self.sweep.forgotten_total += forgotten as u64;
    }

    /// An origin folds when it is no member any more and every reachable peer holds as much of it,
    /// which is all there is: what is missing before something held went with its writer.
    fn fold_origins(&mut self) {
        if self.shared.peers.n_reachable() == 0 || mutated!(NeverFold) {
            return;
        }
        let after = self.sweep.after_origin;
        let mut origins: Vec<OriginId> =
            self.shared.known.origins().into_iter().filter(|origin| *origin > after).collect();
        origins.truncate(STEP_ORIGINS);
        self.sweep.after_origin =
            if origins.len() < STEP_ORIGINS { OriginId(0) } else { origins[STEP_ORIGINS - 1] };
        for origin in origins {
            let last = self.shared.known.contiguous(origin);
            let foldable = origin != self.shared.me
                && !self.shared.peers.is_member(origin)
                && (last == self.shared.known.highest(origin) || !self.gaps.is_asking(origin))
                && self.shared.peers.reachable().all(|peer| peer.head(origin) == last);
            if foldable {
                self.shared.known.fold(origin);
                self.sweep.folded_total += 1;
            }
        }
        let known = &self.shared.known;
        for peer in self.shared.peers.iter_mut() {
            peer.heads.retain(|origin, _| !known.is_folded(*origin));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Digest, Folded, Push};
    use super::super::paths::Via;
    use super::super::tests::with_peer;
    use super::*;
    use crate::kv::{HlcTime, Stamp};
    use crate::time::WallMillis;
    use bytes::Bytes;

    const PEER: OriginId = OriginId(2);
    const GONE: OriginId = OriginId(5);

    fn at(millis: u64) -> Now {
        Now { instant: Instant::from_millis(millis), wall: WallMillis(1_000_000 + millis) }
    }

    fn delete(seq: u64) -> Record {
        let stamp = Stamp { time: HlcTime::from_millis(1_000_000 + seq), origin: GONE };
        Record::new(stamp, seq, format!("k{seq}").as_bytes(), None)
    }

    #[test]
    fn a_delete_past_a_lost_write_is_not_forgotten_because_its_origin_is_folded() {
        let (mut node, store) = with_peer(PEER, STEP, at(0));
        for seq in [1, 3] {
            let push = Push { of: GONE.0, settles: vec![(seq, seq)], from: PEER.0, urgent: false };
            node.pushed(at(10), &Bytes::new(), push, &[delete(seq)], Via::Datagram);
        }
        let heads = vec![(GONE.0, 1)];
        let (root, folded, reply, whole, stage) = (0, 0, false, true, None);
        let digest = Digest { from: PEER.0, heads, root, folded, reply, whole, stage };
        node.digested(at(20), &digest, Via::Datagram, 100);
        for step in 1..400 {
            node.timeout(at(step * 100));
            // The peer has folded the same, and says so.
            let list = vec![(GONE.0, 1, 0)];
            node.folded(at(step * 100), &Folded { from: PEER.0, list });
            while node.poll().is_some() {}
        }
        assert!(node.shared.known.is_folded(GONE));
        assert_eq!(store.entry(b"k1"), None, "everybody holds it");
        assert_eq!(store.entry(b"k3"), Some(delete(3)), "nobody has said to hold it");
    }
}
