//! Letting go: tombstones that everybody holds and whose grace is over, and origins that everybody
//! holds whole and that are gone.

use crate::kv::OriginId;
use crate::limits::STORE_SHARDS;
use crate::mutation::mutated;
use crate::node::io::Note;
use crate::node::replication::context::Context;
use crate::time::Instant;
use std::time::Duration;

/// Time between two steps.
const STEP: Duration = Duration::from_secs(1);
/// Shards swept in one step: all of them in sixteen.
pub(in crate::node) const STEP_SHARDS: usize = 16;
/// Time after which members that speak other formats are told of again.
const INCOMPATIBLE_AGAIN: Duration = Duration::from_secs(60);
/// Origins looked at in one step.
const STEP_ORIGINS: usize = 64;

/// Where the sweep is.
#[derive(Debug)]
pub(in crate::node) struct Sweep {
    next: Instant,
    shard: usize,
    after_origin: OriginId,
    /// When members that speak other formats are told of again.
    next_incompatible: Instant,
    pub(in crate::node) forgotten_total: u64,
    pub(in crate::node) folded_total: u64,
}

impl Sweep {
    pub(in crate::node) fn new(now: Instant) -> Sweep {
        Sweep {
            next: now + STEP,
            shard: 0,
            after_origin: OriginId(0),
            next_incompatible: now,
            forgotten_total: 0,
            folded_total: 0,
        }
    }

    pub(in crate::node) fn deadline(&self) -> Instant {
        self.next
    }
}

impl Sweep {
    /// Begins a step, if one is due: tells of members that speak other formats. Returns the first
    /// of the shards that the step is about.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        if self.next > cx.now.instant {
            return None;
        }
        self.next = cx.now.instant + STEP;
        self.tell_incompatible(cx);
        Some(self.shard)
    }

    /// Forgets what may be forgotten in the shards of a step.
    pub(in crate::node) fn forget(&mut self, cx: &mut Context<'_>) {
        for _ in 0..STEP_SHARDS {
            self.forget_tombstones(cx, self.shard);
            self.shard = (self.shard + 1) % STORE_SHARDS;
        }
    }

    fn tell_incompatible(&mut self, cx: &mut Context<'_>) {
        let mut there = cx.peers.incompatible().filter(|info| info.reachable);
        let Some(first) = there.next() else { return };
        if !cx.peers.is_incompatible_news && cx.now.instant < self.next_incompatible {
            return;
        }
        let note = Note::Incompatible {
            members: 1 + there.count(),
            name: first.name.to_string(),
            theirs: first.formats,
            ours: cx.config.formats,
        };
        cx.peers.is_incompatible_news = false;
        self.next_incompatible = cx.now.instant + INCOMPATIBLE_AGAIN;
        cx.note(note);
    }

    /// A tombstone goes when its grace is over and every known member holds it, dead ones too; none
    /// goes on a node that is cut off.
    fn forget_tombstones(&mut self, cx: &mut Context<'_>, shard: usize) {
        // Whoever it has not met yet may hold what the delete is to beat.
        if cx.config.expects_peers && cx.peers.n_reachable() == 0 {
            return;
        }
        let (now, grace_ms) = (cx.now, cx.grace_ms());
        let (peers, known, me) = (&*cx.peers, &mut *cx.known, cx.me);
        let folded_hash = known.folded_hash();
        let forgotten = cx.store.forget_tombstones(shard, |tombstone| {
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
        self.forgotten_total += forgotten as u64;
    }

    /// An origin folds when it is no member any more and every reachable peer holds as much of it,
    /// which is all there is: what is missing before something held went with its writer.
    /// `is_asking` says whether some of it is being asked for.
    pub(in crate::node) fn fold(
        &mut self,
        cx: &mut Context<'_>,
        is_asking: impl Fn(OriginId) -> bool,
    ) {
        if cx.peers.n_reachable() == 0 || mutated!(NeverFold) {
            return;
        }
        let after = self.after_origin;
        let mut origins: Vec<OriginId> =
            cx.known.origins().into_iter().filter(|origin| *origin > after).collect();
        origins.truncate(STEP_ORIGINS);
        self.after_origin =
            if origins.len() < STEP_ORIGINS { OriginId(0) } else { origins[STEP_ORIGINS - 1] };
        for origin in origins {
            let last = cx.known.contiguous(origin);
            let foldable = origin != cx.me
                && !cx.peers.is_member(origin)
                && (last == cx.known.highest(origin) || !is_asking(origin))
                && cx.peers.reachable().all(|peer| peer.head(origin) == last);
            if foldable {
                cx.known.fold(origin);
                self.folded_total += 1;
            }
        }
        let known = &*cx.known;
        for peer in cx.peers.iter_mut() {
            peer.heads.retain(|origin, _| !known.is_folded(*origin));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, Record, Stamp};
    use crate::node::replication::facts::paths::Via;
    use crate::node::replication::message::{Digest, Folded, Push};
    use crate::node::replication::tests::with_peer;
    use crate::time::{Now, WallMillis};
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
            node.pushed(at(10), &Bytes::new(), &push, &[delete(seq)], Via::Datagram);
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
