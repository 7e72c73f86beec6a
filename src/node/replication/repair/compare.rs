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
//! everything, whatever is written meanwhile, is a [walk](crate::node::replication::repair::walk).

use crate::kv::{Dot, OriginId, Record};
use crate::limits::{STORE_LEAVES_PER_SHARD, STORE_SHARDS, TURN_RECORDS_MAX};
use crate::mutation::mutated;
use crate::node::io::{ConnId, Note};
use crate::node::replication::context::Context;
use crate::node::replication::facts::known::Claims;
use crate::node::replication::message::supplies;
use crate::node::replication::message::{Item, KvMessage, Leaves, Name, Roots, Verdicts};
use crate::node::replication::next::Next;
use crate::node::replication::receive::apply;
use crate::node::replication::repair::leaves::{Picked, SHARDS_MAX, send_items};
use crate::time::Instant;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Rounds of one comparison.
const ROUNDS_MAX: u32 = 2_048;
/// Copies from before a delete named in one message.
const REFUSED_MAX: usize = 2_048;
/// Silence after which a comparison is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Comparison {
    peer: OriginId,
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
pub(in crate::node) struct Compare {
    asked: Option<Comparison>,
    pub(in crate::node) comparisons_total: u64,
    pub(in crate::node) leaves_repaired_total: u64,
    pub(in crate::node) dropped_total: u64,
}

impl Compare {
    pub(in crate::node) fn deadline(&self) -> Instant {
        self.asked.as_ref().map_or(Instant::NEVER, |asked| asked.last_heard + SILENCE_MAX)
    }

    pub(in crate::node) fn lost(&mut self, origin: OriginId) {
        self.asked.take_if(|asked| asked.peer == origin);
    }

    pub(in crate::node) fn conn_lost(&mut self, conn: ConnId) {
        self.asked.take_if(|asked| asked.conn == Some(conn));
    }

    /// A frame came in on `conn`.
    pub(in crate::node) fn heard(&mut self, now: Instant, conn: ConnId) {
        if let Some(asked) = self.of(conn) {
            asked.last_heard = now;
        }
    }

    pub(in crate::node) fn is_active(&self) -> bool {
        self.asked.is_some()
    }

    /// The peer does not compare now. Whether it was asked on this connection.
    pub(in crate::node) fn refused(&mut self, conn: ConnId) -> bool {
        self.asked.take_if(|asked| asked.conn == Some(conn)).is_some()
    }

    /// Whether the answers on `conn` are to a walk.
    fn is_walk(&self, conn: ConnId) -> bool {
        let asked = self.asked.as_ref().filter(|asked| asked.conn == Some(conn));
        asked.is_some_and(|asked| asked.agreed.is_none())
    }

    /// The comparison is over, or cannot go on.
    pub(in crate::node) fn end(&mut self) {
        self.asked = None;
    }

    fn of(&mut self, conn: ConnId) -> Option<&mut Comparison> {
        self.asked.as_mut().filter(|asked| asked.conn == Some(conn))
    }
}

impl Compare {
    /// Asks `peer` for the leaves of the shards that differ, or of those from `first` on; nothing
    /// when a comparison is under way.
    pub(in crate::node) fn start(
        &mut self,
        cx: &mut Context<'_>,
        peer: OriginId,
        agreed: Option<Claims>,
        first: Option<u16>,
    ) {
        if self.asked.is_some() {
            return;
        }
        let Some(conn) = ask_roots(cx, peer, first) else { return };
        self.comparisons_total += 1;
        self.asked = Some(Comparison {
            peer,
            conn,
            last_heard: cx.now.instant,
            rounds: 0,
            n_leaves: 0,
            n_unexplained: 0,
            agreed,
        });
    }

    /// Asks the same peer for the leaves of the shards from `first` on.
    pub(in crate::node) fn go_on(&mut self, cx: &mut Context<'_>, first: u16) {
        let Some(asked) = &mut self.asked else { return };
        match ask_roots(cx, asked.peer, Some(first)) {
            Some(conn) => (asked.last_heard, asked.conn) = (cx.now.instant, conn),
            None => self.asked = None,
        }
    }

    /// Gives up a comparison that has fallen silent, and its link: an answer that still came on it
    /// would be taken for one to the next question.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) {
        let silent = |asked: &mut Comparison| cx.now.instant.since(asked.last_heard) >= SILENCE_MAX;
        if let Some(asked) = self.asked.take_if(silent)
            && let Some(conn) = asked.conn
        {
            cx.links.close(conn);
            if let Some(peer) = cx.peers.get_mut(asked.peer) {
                peer.link = None;
            }
        }
    }

    /// Asker: which leaves differ, and what is in ours. `walk_waits` is that a walk has to wait for
    /// this comparison.
    pub(in crate::node) fn leaves(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        leaves: &Leaves,
        walk_waits: bool,
    ) -> Option<Next> {
        self.of(conn)?.last_heard = cx.now.instant;
        let mut told = BTreeMap::new();
        for (shard, hashes) in leaves.shards.iter().take(SHARDS_MAX) {
            let shard = usize::from(*shard);
            let hashes = bytes_to_hashes(hashes, STORE_LEAVES_PER_SHARD);
            let (true, Some(hashes)) = (shard < STORE_SHARDS, hashes) else { return None };
            told.insert(shard, hashes);
        }
        if self.is_walk(conn) {
            return Some(Next::WalkTold { conn, leaves: told });
        }
        let (mut picked, mut more) = (Picked::default(), leaves.more);
        let mut n_passed = 0;
        for (shard, theirs) in told {
            // What is left of the shards told differs in the next round, too.
            if n_passed >= TURN_RECORDS_MAX {
                more = true;
                break;
            }
            n_passed += cx.store.shard_len(shard).0;
            let ours = cx.store.leaves(shard);
            if ours != theirs {
                let end = picked.add(cx.store, shard, 0, |leaf, _| ours[leaf] != theirs[leaf]);
                more |= end < STORE_LEAVES_PER_SHARD;
            }
        }
        if picked.leaves.is_empty() {
            self.round_done(cx, conn, more && !walk_waits);
            return None;
        }
        if let Some(asked) = self.of(conn) {
            asked.n_leaves += picked.leaves.len();
        }
        send_items(cx, conn, picked, more);
        None
    }

    /// Asker: repairs. Server: drops what the asker knows to be deleted. `walk_waits` is that a
    /// walk has to wait for this comparison.
    pub(in crate::node) fn verdicts(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        verdicts: &Verdicts,
        records: &[Record],
        walk_waits: bool,
    ) -> Option<Next> {
        let n_unexplained = self.n_unexplained(cx, conn, verdicts, records);
        let resets = self.is_walk(conn) && cx.ready.is_resetting();
        for item in &verdicts.drop {
            self.drop_deleted(cx, item, resets);
        }
        let (_, refused) = apply(cx, records, true);
        self.of(conn)?.n_unexplained += n_unexplained;
        for refused in refused.chunks(REFUSED_MAX) {
            let drop = Verdicts { need: Vec::new(), drop: refused.to_vec(), more: false };
            cx.answer(conn, KvMessage::Verdicts(drop, Vec::new()).encode());
        }
        supply(cx, conn, &verdicts.need);
        if self.is_walk(conn) {
            return Some(Next::WalkJudged { conn, more: verdicts.more });
        }
        self.round_done(cx, conn, verdicts.more && !walk_waits);
        None
    }

    /// Drops what the other side knows to be deleted, in that very version. A tombstone stays until
    /// everybody holds it, whoever has forgotten it sooner; only in a reset it goes when its grace
    /// is over: the server has forgotten it, or a later delete of its key.
    fn drop_deleted(&mut self, cx: &mut Context<'_>, item: &Item, resets: bool) {
        let held = cx.store.entry(&item.key).filter(|held| held.stamp() == item.stamp());
        let Some(held) = held else { return };
        if held.is_tombstone() {
            let may_go = resets && cx.is_grace_over(&held);
            if !may_go && !mutated!(DropTombstones) {
                return;
            }
            cx.known.forget(&held);
            cx.store.follow(held.stamp().time, cx.now);
        } else {
            // A late copy of it is refused from now on, as where the delete was forgotten.
            cx.known.forget_through(held.stamp().time);
        }
        if cx.store.remove_exact(&item.key, item.stamp()) {
            self.dropped_total += 1;
        }
    }

    /// Of what differs, the records that equal heads should have made equal. The others are newer
    /// than that agreement, or come after a write that was lost with its writer: heads end before
    /// them.
    fn n_unexplained(
        &self,
        cx: &Context<'_>,
        conn: ConnId,
        verdicts: &Verdicts,
        records: &[Record],
    ) -> usize {
        let asked = self.asked.as_ref().filter(|asked| asked.conn == Some(conn));
        let Some(agreed) = asked.and_then(|asked| asked.agreed.as_ref()) else { return 0 };
        let in_heads = |dot: Dot| agreed.covers(dot);
        // What expires does so sooner on one side, and is no part of the hashes.
        let stays = |record: &Record| record.ttl().is_none();
        let is_shown = |record: &Record| !record.is_tombstone() && stays(record);
        let held = |key: &[u8]| cx.store.entry(key).filter(is_shown);
        // Of a delete that one side has forgotten sooner nobody sees anything.
        let shows = |record: &&Record| is_shown(record) || held(record.key()).is_some();
        let newer = records.iter().filter(shows).filter(|record| in_heads(record.dot()));
        let needed = verdicts.need.iter().filter_map(|key| held(key));
        let dropped = verdicts.drop.iter().filter(|item| held(&item.key).is_some());
        newer.count()
            + needed.filter(|record| in_heads(record.dot())).count()
            + dropped.filter(|item| in_heads(item.dot())).count()
    }

    /// The shards told have been compared; `more` is that it goes on with others.
    fn round_done(&mut self, cx: &mut Context<'_>, conn: ConnId, more: bool) {
        let Some(asked) = self.of(conn) else { return };
        asked.last_heard = cx.now.instant;
        asked.rounds += 1;
        let peer = asked.peer;
        let goes_on = more && asked.rounds < ROUNDS_MAX;
        if goes_on && ask_roots(cx, peer, None).is_some() {
            return;
        }
        let Some(done) = self.asked.take() else { return };
        if done.n_unexplained > 0 {
            self.leaves_repaired_total += done.n_leaves as u64;
            cx.note(Note::Divergence { buckets: done.n_leaves });
        }
    }
}

/// Server: which shards differ, or what the shards hold that were asked for.
pub(in crate::node) fn roots(cx: &mut Context<'_>, conn: ConnId, roots: &Roots) {
    cx.links.seen(conn, Some(OriginId(roots.from)));
    if let Some(peer) = cx.peers.get_mut(OriginId(roots.from)) {
        peer.heard(cx.now.instant);
    }
    if cx.refuses_comparison(conn) {
        return;
    }
    let Some(theirs) = bytes_to_hashes(&roots.roots, STORE_SHARDS) else { return };
    let ours = cx.store.shard_roots();
    let is_asked = |at: &usize| match roots.first {
        Some(first) => *at >= usize::from(first),
        None => ours[*at] != theirs[*at],
    };
    let asked: Vec<usize> = (0..STORE_SHARDS).filter(is_asked).collect();
    let told = &asked[..asked.len().min(SHARDS_MAX)];
    let shards = told
        .iter()
        .map(|shard| (*shard as u16, hashes_to_bytes(&cx.store.leaves(*shard))))
        .collect();
    let leaves = Leaves { shards, more: asked.len() > told.len() };
    cx.answer(conn, KvMessage::Leaves(leaves).encode());
}

/// `None` when the link takes nothing now.
fn ask_roots(cx: &mut Context<'_>, peer: OriginId, first: Option<u16>) -> Option<Option<ConnId>> {
    let roots = hashes_to_bytes(&cx.store.shard_roots());
    let roots = Roots { from: cx.me.0, roots, first };
    cx.name_run(peer);
    let sent = cx.link_send(peer, KvMessage::Roots(roots).encode());
    sent.then(|| cx.peers.get(peer).and_then(|peer| peer.link))
}

fn supply(cx: &mut Context<'_>, conn: ConnId, need: &[Name]) {
    let records = need.iter().filter_map(|key| cx.store.entry(key));
    for payload in supplies(cx.me, records, true) {
        cx.answer(conn, payload);
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
    use super::*;
    use crate::kv::{HlcTime, Stamp};
    use crate::node::io::Output;
    use crate::node::replication::Out;
    use crate::node::replication::facts::paths::Via;
    use crate::node::replication::message::{Digest, Push};
    use crate::node::replication::tests::Lent;
    use crate::node::replication::tests::with_peer;
    use crate::time::{Now, WallMillis};

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

    fn push(node: &mut Lent, seq: u64) {
        let push = Push { of: PEER.0, settles: vec![(seq, seq)], from: PEER.0, urgent: false };
        node.pushed(NOW, &Bytes::new(), &push, &[record(seq)], Via::Datagram);
    }

    /// A node that holds one write of its peer and has begun to compare, on this connection.
    fn comparing() -> (Lent, ConnId) {
        let (mut node, _) = with_peer(PEER, Duration::MAX, NOW);
        push(&mut node, 1);
        for _ in 0..2 {
            let heads = Digest::of_heads(PEER, vec![(PEER.0, 1)]);
            let digest = Digest { root: 7, whole: true, ..heads };
            node.digested(NOW, &digest, Via::Datagram, 100);
        }
        let conn = std::iter::from_fn(|| node.poll()).find_map(|out| match out {
            Out::Output(Output::Dial { conn, .. }) => Some(conn),
            _ => None,
        });
        (node, conn.expect("a link for the comparison"))
    }

    fn is_unexplained(node: &mut Lent, conn: ConnId, found: &Record) -> bool {
        let verdicts = Verdicts { need: Vec::new(), drop: Vec::new(), more: false };
        let records = vec![found.clone()];
        node.link_message(NOW, conn, KvMessage::Verdicts(verdicts, records));
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
