//! Letting go: tombstones that everybody holds and whose grace is over, and origins that everybody
//! holds whole and that are gone.
//!
//! A step each second is about sixteen shards. It looks at their tombstones oldest first, as far as
//! their grace is over, and so costs by what it forgets; of those that have to stay it looks at so
//! many and no more, and in the next round of all shards at those behind them. A step that has
//! much to do goes on in many turns, as other work must not wait for it.

use crate::kv::{Gone, HlcTime, Most, OriginId, Record};
use crate::limits::{STORE_SHARDS, TURN_RECORDS_MAX};
use crate::mutation::mutated;
use crate::node::io::Note;
use crate::node::replication::context::Context;
use crate::node::replication::facts::known::Known;
use crate::node::replication::facts::peers::{Peer, Peers};
use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time between two steps.
const STEP: Duration = Duration::from_secs(1);
/// Lots swept in one step: all of them in sixteen. A lot is what has been deleted in a shard, or
/// what has expired there.
const STEP_LOTS: usize = 2 * 16;
const LOTS: usize = 2 * STORE_SHARDS;
/// Time after which members that speak other formats are told of again.
const INCOMPATIBLE_AGAIN: Duration = Duration::from_secs(60);
/// Time between two turns of a step.
const TURN: Duration = Duration::from_millis(1);
/// Tombstones forgotten, or looked at, in one turn: forgetting one costs as much as looking at
/// some.
const TURN_TOMBSTONES: usize = TURN_RECORDS_MAX / 8;
/// Tombstones of a shard that have to stay, looked at in one step.
const STEP_KEPT: usize = 512;
/// Origins looked at in one step.
const STEP_ORIGINS: usize = 512;

/// Where the sweep is.
#[derive(Debug)]
pub(in crate::node) struct Sweep {
    next: Instant,
    /// When the step under way has begun.
    began: Instant,
    lot: usize,
    /// Shards left of the step.
    lots_left: usize,
    /// Something else of the step is not done.
    is_busy: bool,
    /// How many of this shard have been seen to have to stay, in this step.
    n_kept: usize,
    /// Per shard the tombstone up to which all have been looked at.
    after: Vec<Option<Record>>,
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
            began: now,
            lot: 0,
            lots_left: 0,
            is_busy: false,
            n_kept: 0,
            after: vec![None; LOTS],
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
    /// Begins a step, or goes on with one, if it is time: tells of members that speak other
    /// formats. Whether a step begins; `None` when it is not time.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) -> Option<bool> {
        if self.next > cx.now.instant {
            return None;
        }
        if self.lots_left > 0 || self.is_busy {
            return Some(false);
        }
        self.began = cx.now.instant;
        self.lots_left = STEP_LOTS;
        self.tell_incompatible(cx);
        Some(true)
    }

    /// Forgets what may be forgotten in the shards of a step, or a part of it. `is_busy` is that
    /// something else of the step is not done.
    pub(in crate::node) fn forget(&mut self, cx: &mut Context<'_>, is_busy: bool) {
        self.forget_some(cx);
        self.is_busy = is_busy;
        let is_done = self.lots_left == 0 && !is_busy;
        self.next = if is_done { self.began + STEP } else { Instant::ZERO };
        self.next = self.next.max(cx.now.instant + TURN);
    }

    fn forget_some(&mut self, cx: &mut Context<'_>) {
        // Whoever it has not met yet may hold what the delete is to beat.
        if cx.config.expects_peers && cx.peers.n_reachable() == 0 {
            self.lots_left = 0;
            return;
        }
        let (mut n_seen, mut proofs) = (0, Proofs::default());
        while self.lots_left > 0 && n_seen < TURN_TOMBSTONES {
            n_seen += self.forget_tombstones(cx, &mut proofs, TURN_TOMBSTONES - n_seen);
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
    /// goes on a node that is cut off. Looks at up to `n_max` of the shard whose turn it is, and
    /// goes on to the next one when there are no more; returns how many it looked at.
    fn forget_tombstones(
        &mut self,
        cx: &mut Context<'_>,
        proofs: &mut Proofs,
        n_max: usize,
    ) -> usize {
        let (shard, kind, grace_ms) = match self.lot % 2 {
            0 => (self.lot / 2, Gone::Deleted, cx.grace_ms()),
            _ => (self.lot / 2, Gone::Expired, cx.expired_grace_ms()),
        };
        let until = HlcTime::from_millis(cx.now.wall.0.saturating_sub(grace_ms));
        let (peers, known, me) = (&*cx.peers, &mut *cx.known, cx.me);
        let most = Most { seen: n_max, kept: STEP_KEPT - self.n_kept };
        let after = self.after[self.lot].take();
        let place = (shard, kind);
        let found =
            cx.store.forget_tombstones(cx.now, place, after.as_ref(), until, most, |tombstone| {
                let dot = known.known_as(tombstone);
                let is_held_here = dot.origin == me || known.covers(dot);
                let held = is_held_here && proofs.held_through(peers, known, dot.origin) >= dot.seq;
                let held = held || mutated!(ForgetEarly);
                if held {
                    known.forget(tombstone);
                }
                held
            });
        self.forgotten_total += found.n as u64;
        self.n_kept += found.n_kept;
        let is_done = found.last.is_none() || self.n_kept >= STEP_KEPT;
        self.after[self.lot] = found.last;
        if is_done {
            self.lot = (self.lot + 1) % LOTS;
            self.lots_left -= 1;
            self.n_kept = 0;
        }
        found.n_seen
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
            peer.drop_folded_heads(known);
        }
    }
}

/// What all peers have said to hold, looked up once for all tombstones of a turn.
#[derive(Debug, Default)]
struct Proofs {
    /// Per origin the number up to which every peer holds its writes.
    heads: BTreeMap<OriginId, u64>,
}

impl Proofs {
    /// The number up to which every peer holds the writes of `origin`.
    fn held_through(&mut self, peers: &Peers, known: &Known, origin: OriginId) -> u64 {
        *self.heads.entry(origin).or_insert_with(|| {
            let acked = |peer: &Peer| if known.is_me(origin) { peer.acked } else { 0 };
            let held = peers.iter().map(|peer| peer.holds_through(known, origin).max(acked(peer)));
            held.min().unwrap_or(u64::MAX)
        })
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
        let heads = Digest::of_heads(PEER, vec![(GONE.0, 1)]);
        let digest = Digest { whole: true, ..heads };
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
