//! The safety net: two stores compared by bucket hashes, whatever made them differ.
//!
//! ```text
//! asker  --Roots{256 hashes}-->              server
//!        <--Leaves{hashes of shards that differ}--
//!        --Items{name and version of each record in leaves that differ}-->
//!        <--Verdicts{need, drop} + records newer there--
//!        --Supply{needed records}-->   --Verdicts{drop}-->          again while more differ
//! ```
//!
//! A record that one side covers and lacks, older than what it has forgotten, was deleted: the
//! other side is told to drop that very version. A tombstone is not dropped on the word of a peer
//! who has forgotten it sooner, and takes no part in what counts as a divergence.
//!
//! A comparison like this ends when the hashes agree, or after so many rounds; one that must see
//! everything, whatever is written meanwhile, is a [walk](super::walk).

use super::Replication;
use super::codec::supplies;
use super::known::Claims;
use super::leaves::{Newer, Picked, judge_shard};
use super::message::{Busy, Item, Items, KvMessage, Leaves, Name, Roots, Verdicts};
use crate::kv::{Dot, OriginId, Record};
use crate::limits::{STORE_LEAVES_PER_SHARD, STORE_SHARDS};
use crate::mutation::mutated;
use crate::node::io::{ConnId, Note};
use crate::time::{Instant, Now};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Shards whose leaves are told in one round, and whose records are compared in one message.
pub(super) const SHARDS_MAX: usize = 16;
/// Rounds of one comparison.
const ROUNDS_MAX: u32 = 2_048;
/// Copies from before a delete named in one message.
const REFUSED_MAX: usize = 2_048;
/// Silence after which a comparison is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// What a node that hides asks for.
const BUSY_RETRY_MS: u32 = 200;

#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) peer: OriginId,
    conn: Option<ConnId>,
    last_heard: Instant,
    rounds: u32,
    n_leaves: usize,
    /// Records that differed although both had said to hold their writes.
    n_unexplained: usize,
    /// What both held when their hashes differed; `None` in a walk, where nothing found is a
    /// surprise. Later writes arrive while the comparison runs, on one side first.
    agreed: Option<Claims>,
}

/// The comparison under way, and what comparisons have found.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    asked: Option<Comparison>,
    pub(super) comparisons_total: u64,
    pub(super) leaves_repaired_total: u64,
    pub(super) dropped_total: u64,
}

impl Buckets {
    pub(super) fn deadline(&self) -> Instant {
        self.asked.as_ref().map_or(Instant::NEVER, |asked| asked.last_heard + SILENCE_MAX)
    }

    pub(super) fn lost(&mut self, origin: OriginId) {
        self.asked.take_if(|asked| asked.peer == origin);
    }

    pub(super) fn conn_lost(&mut self, conn: ConnId) {
        self.asked.take_if(|asked| asked.conn == Some(conn));
    }

    /// A frame came in on `conn`.
    pub(super) fn heard(&mut self, now: Instant, conn: ConnId) {
        if let Some(asked) = self.of(conn) {
            asked.last_heard = now;
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) fn is_asked(&self, conn: ConnId) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.conn == Some(conn))
    }

    /// Whom we compare with.
    pub(super) fn peer(&self) -> Option<OriginId> {
        self.asked.as_ref().map(|asked| asked.peer)
    }

    /// The next question has gone out on this connection.
    pub(super) fn goes_on(&mut self, now: Instant, conn: Option<ConnId>) {
        if let Some(asked) = &mut self.asked {
            (asked.last_heard, asked.conn) = (now, conn);
        }
    }

    /// Whether the answers on `conn` are to a walk.
    pub(super) fn is_walk(&self, conn: ConnId) -> bool {
        let asked = self.asked.as_ref().filter(|asked| asked.conn == Some(conn));
        asked.is_some_and(|asked| asked.agreed.is_none())
    }

    /// The comparison is over, or cannot go on.
    pub(super) fn end(&mut self) {
        self.asked = None;
    }

    fn of(&mut self, conn: ConnId) -> Option<&mut Comparison> {
        self.asked.as_mut().filter(|asked| asked.conn == Some(conn))
    }
}

impl Replication {
    /// Begins a comparison with `peer`, who has told the same heads as ours; nothing when one is
    /// under way.
    pub(super) fn start_buckets(&mut self, now: Now, peer: OriginId, agreed: Claims) {
        self.start_comparison(now, peer, Some(agreed), None);
    }

    /// Asks `peer` for the leaves of the shards that differ, or of those from `first` on.
    pub(super) fn start_comparison(
        &mut self,
        now: Now,
        peer: OriginId,
        agreed: Option<Claims>,
        first: Option<u16>,
    ) {
        if self.buckets.asked.is_some() {
            return;
        }
        let Some(conn) = self.ask_roots(now, peer, first) else { return };
        self.buckets.comparisons_total += 1;
        self.buckets.asked = Some(Comparison {
            peer,
            conn,
            last_heard: now.instant,
            rounds: 0,
            n_leaves: 0,
            n_unexplained: 0,
            agreed,
        });
    }

    /// `None` when the link takes nothing now.
    pub(super) fn ask_roots(
        &mut self,
        now: Now,
        peer: OriginId,
        first: Option<u16>,
    ) -> Option<Option<ConnId>> {
        let roots = hashes_to_bytes(&self.shared.store.shard_roots());
        let roots = Roots { from: self.shared.me.0, roots, first };
        let sent = self.cx(now).link_send(peer, KvMessage::Roots(roots).encode());
        sent.then(|| self.shared.peers.get(peer).and_then(|peer| peer.link))
    }

    /// Gives up a comparison that has fallen silent, and its link: an answer that still came on it
    /// would be taken for one to the next question.
    pub(super) fn buckets_due(&mut self, now: Now) {
        let silent = |asked: &mut Comparison| now.instant.since(asked.last_heard) >= SILENCE_MAX;
        if let Some(asked) = self.buckets.asked.take_if(silent)
            && let Some(conn) = asked.conn
        {
            self.links.close(conn);
            if let Some(peer) = self.shared.peers.get_mut(asked.peer) {
                peer.link = None;
            }
        }
    }

    /// Whether a comparison that somebody asks for is refused: who hides knows less than anybody.
    fn refuse_comparison(&mut self, conn: ConnId) -> bool {
        let refused = self.is_resetting();
        if refused {
            let busy = Busy { retry_ms: BUSY_RETRY_MS };
            self.links.send(conn, KvMessage::Busy(busy).encode());
        }
        refused
    }

    /// Server: which shards differ, or what the shards hold that were asked for.
    pub(super) fn roots(&mut self, now: Now, conn: ConnId, roots: &Roots) {
        self.links.seen(conn, Some(OriginId(roots.from)));
        if let Some(peer) = self.shared.peers.get_mut(OriginId(roots.from)) {
            peer.heard(now.instant);
        }
        if self.refuse_comparison(conn) {
            return;
        }
        let Some(theirs) = bytes_to_hashes(&roots.roots, STORE_SHARDS) else { return };
        let ours = self.shared.store.shard_roots();
        let is_asked = |at: &usize| match roots.first {
            Some(first) => *at >= usize::from(first),
            None => ours[*at] != theirs[*at],
        };
        let asked: Vec<usize> = (0..STORE_SHARDS).filter(is_asked).collect();
        let told = &asked[..asked.len().min(SHARDS_MAX)];
        let shards = told
            .iter()
            .map(|shard| (*shard as u16, hashes_to_bytes(&self.shared.store.leaves(*shard))))
            .collect();
        let leaves = Leaves { shards, more: asked.len() > told.len() };
        self.links.send(conn, KvMessage::Leaves(leaves).encode());
    }

    /// Asker: which leaves differ, and what is in ours.
    pub(super) fn leaves(&mut self, now: Now, conn: ConnId, leaves: &Leaves) {
        let Some(asked) = self.buckets.of(conn) else { return };
        asked.last_heard = now.instant;
        let mut told = BTreeMap::new();
        for (shard, hashes) in leaves.shards.iter().take(SHARDS_MAX) {
            let shard = usize::from(*shard);
            let hashes = bytes_to_hashes(hashes, STORE_LEAVES_PER_SHARD);
            let (true, Some(hashes)) = (shard < STORE_SHARDS, hashes) else { return };
            told.insert(shard, hashes);
        }
        if self.buckets.is_walk(conn) {
            self.walk_told(now, conn, told);
            return;
        }
        let (mut picked, mut more) = (Picked::default(), leaves.more);
        for (shard, theirs) in told {
            let ours = self.shared.store.leaves(shard);
            if ours != theirs {
                let end =
                    picked.add(&self.shared.store, shard, 0, |leaf, _| ours[leaf] != theirs[leaf]);
                more |= end < STORE_LEAVES_PER_SHARD;
            }
        }
        if picked.leaves.is_empty() {
            self.round_done(now, conn, more);
            return;
        }
        if let Some(asked) = self.buckets.of(conn) {
            asked.n_leaves += picked.leaves.len();
        }
        self.send_items(conn, picked, more);
    }

    pub(super) fn send_items(&mut self, conn: ConnId, picked: Picked, more: bool) {
        let items = Items { leaves: picked.leaves, more };
        self.links.send(conn, KvMessage::Items(items).encode());
    }

    /// Server: what we lack, what they lack, what was deleted. Of shards past a number nothing is
    /// said but that there are more.
    pub(super) fn items(&mut self, conn: ConnId, items: &Items) {
        if self.refuse_comparison(conn) {
            return;
        }
        let mut shards: BTreeMap<usize, Vec<(usize, &[Item])>> = BTreeMap::new();
        for (shard, leaf, theirs) in &items.leaves {
            shards.entry(usize::from(*shard)).or_default().push((usize::from(*leaf), theirs));
        }
        let more = items.more || shards.len() > SHARDS_MAX;
        let mut verdicts = Verdicts { need: Vec::new(), drop: Vec::new(), more };
        let mut newer = Newer::default();
        for (shard, leaves) in shards.into_iter().take(SHARDS_MAX) {
            judge_shard(
                &self.shared.store,
                &self.shared.known,
                shard,
                &leaves,
                &mut verdicts,
                &mut newer,
            );
        }
        self.shared.counters.compared_total += 1;
        self.links.send(conn, KvMessage::Verdicts(verdicts, newer.records).payload());
    }

    /// Asker: repairs. Server: drops what the asker knows to be deleted.
    pub(super) fn verdicts(
        &mut self,
        now: Now,
        conn: ConnId,
        verdicts: &Verdicts,
        records: &[Record],
    ) {
        let n_unexplained = self.n_unexplained(conn, verdicts, records);
        let resets = self.buckets.is_walk(conn) && self.is_resetting();
        for item in &verdicts.drop {
            self.drop_deleted(now, item, resets);
        }
        let (_, refused) = self.apply(now, records, true);
        let Some(asked) = self.buckets.of(conn) else { return };
        asked.n_unexplained += n_unexplained;
        for refused in refused.chunks(REFUSED_MAX) {
            let drop = Verdicts { need: Vec::new(), drop: refused.to_vec(), more: false };
            self.links.send(conn, KvMessage::Verdicts(drop, Vec::new()).encode());
        }
        self.supply(conn, &verdicts.need);
        if self.buckets.is_walk(conn) {
            self.walk_judged(now, conn, verdicts.more);
        } else {
            self.round_done(now, conn, verdicts.more);
        }
    }

    /// Drops what the other side knows to be deleted, in that very version. A tombstone stays until
    /// everybody holds it, whoever has forgotten it sooner; only in a reset it goes when its grace
    /// is over: the server has forgotten it, or a later delete of its key.
    fn drop_deleted(&mut self, now: Now, item: &Item, resets: bool) {
        let held = self.shared.store.entry(&item.key).filter(|held| held.stamp() == item.stamp());
        let Some(held) = held else { return };
        if held.is_tombstone() {
            let may_go = resets && self.cx(now).is_grace_over(&held);
            if !may_go && !mutated!(DropTombstones) {
                return;
            }
            self.shared.known.forget(&held);
        } else {
            // A late copy of it is refused from now on, as where the delete was forgotten.
            self.shared.known.forget_through(held.stamp().time);
        }
        if self.shared.store.remove_exact(&item.key, item.stamp()) {
            self.buckets.dropped_total += 1;
        }
    }

    /// Of what differs, the records that equal heads should have made equal. The others are newer
    /// than that agreement, or come after a write that was lost with its writer: heads end before
    /// them.
    fn n_unexplained(&self, conn: ConnId, verdicts: &Verdicts, records: &[Record]) -> usize {
        let asked = self.buckets.asked.as_ref().filter(|asked| asked.conn == Some(conn));
        let Some(agreed) = asked.and_then(|asked| asked.agreed.as_ref()) else { return 0 };
        let in_heads = |dot: Dot| agreed.covers(dot);
        let held =
            |key: &[u8]| self.shared.store.entry(key).filter(|record| !record.is_tombstone());
        // Of a delete that one side has forgotten sooner nobody sees anything.
        let shows = |record: &&Record| !record.is_tombstone() || held(record.key()).is_some();
        let newer = records.iter().filter(shows).filter(|record| in_heads(record.dot()));
        let needed = verdicts.need.iter().filter_map(|key| held(key));
        let dropped = verdicts.drop.iter().filter(|item| held(&item.key).is_some());
        newer.count()
            + needed.filter(|record| in_heads(record.dot())).count()
            + dropped.filter(|item| in_heads(item.dot())).count()
    }

    fn supply(&mut self, conn: ConnId, need: &[Name]) {
        let records = need.iter().filter_map(|key| self.shared.store.entry(key));
        for payload in supplies(self.shared.me, records, true) {
            self.links.send(conn, payload);
        }
    }

    fn round_done(&mut self, now: Now, conn: ConnId, more: bool) {
        let Some(asked) = self.buckets.of(conn) else { return };
        asked.last_heard = now.instant;
        asked.rounds += 1;
        let peer = asked.peer;
        // A walk has to wait for this one.
        let goes_on = more && asked.rounds < ROUNDS_MAX && !self.walk.is_wanted();
        if goes_on && self.ask_roots(now, peer, None).is_some() {
            return;
        }
        let Some(done) = self.buckets.asked.take() else { return };
        if done.n_unexplained > 0 {
            self.buckets.leaves_repaired_total += done.n_leaves as u64;
            self.note(Note::Divergence { buckets: done.n_leaves });
        }
    }
}

fn hashes_to_bytes(hashes: &[u64]) -> Bytes {
    hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect::<Vec<u8>>().into()
}

fn bytes_to_hashes(bytes: &[u8], n: usize) -> Option<Vec<u64>> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    (chunks.len() == n && rest.is_empty())
        .then(|| chunks.iter().map(|chunk| u64::from_be_bytes(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Out;
    use super::super::message::{Digest, Push};
    use super::super::paths::Via;
    use super::super::tests::with_peer;
    use super::*;
    use crate::kv::{HlcTime, Stamp};
    use crate::node::io::Output;
    use crate::time::WallMillis;

    const PEER: OriginId = OriginId(2);
    const NOW: Now = Now { instant: Instant(1_000_000), wall: WallMillis(1_000_000) };

    fn record(seq: u64) -> Record {
        let time = HlcTime::from_millis(1_000_000 + seq);
        Record::new(
            Stamp { time, origin: PEER },
            seq,
            format!("k{seq}").as_bytes(),
            Some((b"v", None)),
        )
    }

    fn push(node: &mut Replication, seq: u64) {
        let push = Push { of: PEER.0, settles: vec![(seq, seq)], from: PEER.0, urgent: false };
        node.pushed(NOW, &Bytes::new(), push, &[record(seq)], Via::Datagram);
    }

    /// A node that holds one write of its peer and has begun to compare, on this connection.
    fn comparing() -> (Replication, ConnId) {
        let (mut node, _) = with_peer(PEER, Duration::MAX, NOW);
        push(&mut node, 1);
        for _ in 0..2 {
            let heads = vec![(PEER.0, 1)];
            let (root, folded, reply, whole, stage) = (7, 0, false, true, None);
            let digest = Digest { from: PEER.0, heads, root, folded, reply, whole, stage };
            node.digested(NOW, &digest, Via::Datagram, 100);
        }
        let conn = std::iter::from_fn(|| node.poll()).find_map(|out| match out {
            Out::Output(Output::Dial { conn, .. }) => Some(conn),
            _ => None,
        });
        (node, conn.expect("a link for the comparison"))
    }

    fn is_unexplained(node: &mut Replication, conn: ConnId, found: &Record) -> bool {
        let verdicts = Verdicts { need: Vec::new(), drop: Vec::new(), more: false };
        node.verdicts(NOW, conn, &verdicts, std::slice::from_ref(found));
        let is_note = |out| matches!(out, Out::Output(Output::Note(Note::Divergence { .. })));
        std::iter::from_fn(|| node.poll()).any(is_note)
    }

    #[test]
    fn what_both_had_said_to_hold_should_have_been_equal() {
        let (mut node, conn) = comparing();
        assert!(is_unexplained(&mut node, conn, &record(1)));
    }

    #[test]
    fn a_write_that_arrives_during_the_comparison_is_no_divergence() {
        let (mut node, conn) = comparing();
        push(&mut node, 2);
        assert!(!is_unexplained(&mut node, conn, &record(2)));
    }
}
