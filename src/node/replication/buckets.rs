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
//! other side is told to drop that very version.

use super::Replication;
use super::codec::supplies;
use super::known::Claims;
use super::message::{Item, Items, KvMessage, Leaves, Name, Roots, Verdicts};
use crate::kv::{Dot, OriginId, Record};
use crate::limits::{
    COMPARED_LEAVES_MAX, COMPARED_NAMES_LEN_MAX, COMPARED_RECORDS_LEN_MAX, STORE_LEAVES_PER_SHARD,
    STORE_SHARDS,
};
use crate::node::io::{ConnId, Note};
use crate::time::{Instant, Now};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// Shards whose leaves are told in one round.
const SHARDS_MAX: usize = 16;
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
    /// What both held when their hashes differed; `None` in a reset, where nothing found is a
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

    fn of(&mut self, conn: ConnId) -> Option<&mut Comparison> {
        self.asked.as_mut().filter(|asked| asked.conn == Some(conn))
    }
}

impl Replication {
    /// Begins a comparison with `peer`, who has told the same heads as ours, or as part of a reset;
    /// nothing when one is under way.
    pub(super) fn start_buckets(&mut self, now: Now, peer: OriginId, agreed: Option<Claims>) {
        if self.buckets.asked.is_some() {
            return;
        }
        let Some(conn) = self.ask_roots(now, peer) else { return };
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
    fn ask_roots(&mut self, now: Now, peer: OriginId) -> Option<Option<ConnId>> {
        let roots = Roots { from: self.me.0, roots: hashes_to_bytes(&self.store.shard_roots()) };
        let sent = self.link_send(now, peer, KvMessage::Roots(roots).encode());
        sent.then(|| self.peers.get(peer).and_then(|peer| peer.link))
    }

    pub(super) fn buckets_due(&mut self, now: Now) {
        self.buckets.asked.take_if(|asked| now.instant.since(asked.last_heard) >= SILENCE_MAX);
    }

    /// Server: which shards differ.
    pub(super) fn roots(&mut self, now: Now, conn: ConnId, roots: &Roots) {
        self.links.seen(conn, Some(OriginId(roots.from)));
        if let Some(peer) = self.peers.get_mut(OriginId(roots.from)) {
            peer.heard(now.instant);
        }
        let Some(theirs) = bytes_to_hashes(&roots.roots, STORE_SHARDS) else { return };
        let ours = self.store.shard_roots();
        let differ: Vec<usize> = (0..STORE_SHARDS).filter(|at| ours[*at] != theirs[*at]).collect();
        let told = &differ[..differ.len().min(SHARDS_MAX)];
        let shards = told
            .iter()
            .map(|shard| (*shard as u16, hashes_to_bytes(&self.store.leaves(*shard))))
            .collect();
        let leaves = Leaves { shards, more: differ.len() > told.len() };
        self.links.send(conn, KvMessage::Leaves(leaves).encode());
    }

    /// Asker: which leaves differ, and what is in ours.
    pub(super) fn leaves(&mut self, now: Now, conn: ConnId, leaves: &Leaves) {
        let Some(asked) = self.buckets.of(conn) else { return };
        asked.last_heard = now.instant;
        let (mut told, mut told_len, mut more) = (Vec::new(), 0, leaves.more);
        for (shard, hashes) in &leaves.shards {
            let shard = usize::from(*shard);
            let theirs = bytes_to_hashes(hashes, STORE_LEAVES_PER_SHARD);
            let (true, Some(theirs)) = (shard < STORE_SHARDS, theirs) else { return };
            let ours = self.store.leaves(shard);
            for leaf in (0..STORE_LEAVES_PER_SHARD).filter(|at| ours[*at] != theirs[*at]) {
                if told.len() >= COMPARED_LEAVES_MAX || told_len >= COMPARED_NAMES_LEN_MAX {
                    more = true;
                    break;
                }
                let (items, len) = self.leaf_items(shard, leaf);
                told_len += len;
                told.push((shard as u16, leaf as u16, items));
            }
        }
        if told.is_empty() {
            self.round_done(now, conn, more);
            return;
        }
        if let Some(asked) = self.buckets.of(conn) {
            asked.n_leaves += told.len();
        }
        self.links.send(conn, KvMessage::Items(Items { leaves: told, more }).encode());
    }

    /// What is in a leaf, and the bytes of that. Of one fuller than any can be by chance, a part:
    /// the other side gives what it has of the rest.
    fn leaf_items(&self, shard: usize, leaf: usize) -> (Vec<Item>, usize) {
        let (mut items, mut len) = (Vec::new(), 0);
        self.store.scan_leaf(shard, leaf, |record| {
            if len < COMPARED_NAMES_LEN_MAX {
                let item = Item::of(record);
                len += item.len_max();
                items.push(item);
            }
        });
        (items, len)
    }

    /// Server: what we lack, what they lack, what was deleted.
    pub(super) fn items(&mut self, now: Now, conn: ConnId, items: &Items) {
        let mut verdicts = Verdicts { need: Vec::new(), drop: Vec::new(), more: items.more };
        let mut newer = Newer::default();
        for (shard, leaf, theirs) in &items.leaves {
            let (shard, leaf) = (usize::from(*shard), usize::from(*leaf));
            if shard >= STORE_SHARDS || leaf >= STORE_LEAVES_PER_SHARD {
                continue;
            }
            if newer.is_full() {
                verdicts.more = true;
                break;
            }
            self.judge_leaf(shard, leaf, theirs, &mut verdicts, &mut newer);
        }
        self.counters.compared_total += 1;
        let _ = now;
        self.links.send(conn, KvMessage::Verdicts(verdicts, newer.records).payload());
    }

    fn judge_leaf(
        &self,
        shard: usize,
        leaf: usize,
        theirs: &[Item],
        verdicts: &mut Verdicts,
        newer: &mut Newer,
    ) {
        let mut theirs: BTreeMap<&[u8], &Item> =
            theirs.iter().map(|item| (&item.key[..], item)).collect();
        self.store.scan_leaf(shard, leaf, |ours| match theirs.remove(ours.key()) {
            Some(item) if item.stamp() > ours.stamp() => verdicts.need.push(item.key.clone()),
            Some(item) if item.stamp() == ours.stamp() => {
                // One version with two contents: both sides get both, and the same one stays.
                if item.check != ours.check() && !newer.is_full() {
                    verdicts.need.push(item.key.clone());
                    newer.push(ours);
                }
            }
            Some(_) | None if newer.is_full() => verdicts.more = true,
            Some(_) | None => newer.push(ours),
        });
        for item in theirs.into_values() {
            if self.known.is_deleted(item.dot(), item.stamp().time) {
                verdicts.drop.push(item.clone());
            } else {
                verdicts.need.push(item.key.clone());
            }
        }
    }

    /// Asker: repairs. Server: drops what the asker knows to be deleted.
    pub(super) fn verdicts(
        &mut self,
        now: Now,
        conn: ConnId,
        verdicts: &Verdicts,
        records: &[Record],
    ) {
        for item in &verdicts.drop {
            if self.store.remove_exact(&item.key, item.stamp()) {
                self.buckets.dropped_total += 1;
            }
        }
        let n_unexplained = self.n_unexplained(conn, verdicts, records);
        let (_, refused) = self.apply(now, records, true);
        let Some(asked) = self.buckets.of(conn) else { return };
        asked.n_unexplained += n_unexplained;
        for refused in refused.chunks(REFUSED_MAX) {
            let drop = Verdicts { need: Vec::new(), drop: refused.to_vec(), more: false };
            self.links.send(conn, KvMessage::Verdicts(drop, Vec::new()).encode());
        }
        self.supply(conn, &verdicts.need);
        self.round_done(now, conn, verdicts.more);
    }

    /// Of what differs, the records that equal heads should have made equal. The others are newer
    /// than that agreement, or come after a write that was lost with its writer: heads end before
    /// them.
    fn n_unexplained(&self, conn: ConnId, verdicts: &Verdicts, records: &[Record]) -> usize {
        let asked = self.buckets.asked.as_ref().filter(|asked| asked.conn == Some(conn));
        let Some(agreed) = asked.and_then(|asked| asked.agreed.as_ref()) else { return 0 };
        let in_heads = |dot: Dot| agreed.covers(dot);
        let n_newer = records.iter().filter(|record| in_heads(record.dot())).count();
        let needed = verdicts.need.iter().filter_map(|key| self.store.entry(key));
        n_newer
            + needed.filter(|record| in_heads(record.dot())).count()
            + verdicts.drop.iter().filter(|item| in_heads(item.dot())).count()
    }

    fn supply(&mut self, conn: ConnId, need: &[Name]) {
        let records = need.iter().filter_map(|key| self.store.entry(key));
        for payload in supplies(self.me, records, true) {
            self.links.send(conn, payload);
        }
    }

    fn round_done(&mut self, now: Now, conn: ConnId, more: bool) {
        let Some(asked) = self.buckets.of(conn) else { return };
        asked.last_heard = now.instant;
        asked.rounds += 1;
        let peer = asked.peer;
        if more && asked.rounds < ROUNDS_MAX && self.ask_roots(now, peer).is_some() {
            return;
        }
        let Some(done) = self.buckets.asked.take() else { return };
        if done.agreed.is_some() && done.n_leaves > 0 {
            self.buckets.leaves_repaired_total += done.n_leaves as u64;
        }
        if done.n_unexplained > 0 {
            self.note(Note::Divergence { buckets: done.n_leaves });
        }
        self.compared(now);
    }
}

/// Records that go with verdicts, up to a number of bytes.
#[derive(Default)]
struct Newer {
    records: Vec<Record>,
    len: usize,
}

impl Newer {
    fn is_full(&self) -> bool {
        self.len >= COMPARED_RECORDS_LEN_MAX
    }

    fn push(&mut self, record: &Record) {
        self.len += record.as_bytes().len();
        self.records.push(record.clone());
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
    use super::super::tests::with_peer;
    use super::*;
    use crate::kv::{HlcTime, Stamp};
    use crate::node::io::Output;
    use crate::time::WallMillis;

    const PEER: OriginId = OriginId(2);
    const NOW: Now = Now { instant: Instant(1_000_000), wall: WallMillis(1_000_000) };

    fn record(seq: u64) -> Record {
        let time = HlcTime::from_millis(1_000_000 + seq);
        Record::new(Stamp { time, origin: PEER }, seq, format!("k{seq}").as_bytes(), None)
    }

    fn push(node: &mut Replication, seq: u64) {
        let push = Push { of: PEER.0, settles: vec![(seq, seq)], from: PEER.0, urgent: false };
        node.pushed(NOW, &Bytes::new(), push, &[record(seq)], false);
    }

    /// A node that holds one write of its peer and has begun to compare, on this connection.
    fn comparing() -> (Replication, ConnId) {
        let (mut node, _) = with_peer(PEER, Duration::MAX, NOW);
        push(&mut node, 1);
        for _ in 0..2 {
            node.digested(
                NOW,
                &Digest {
                    from: PEER.0,
                    heads: vec![(PEER.0, 1)],
                    root: 7,
                    folded: 0,
                    reply: false,
                    whole: true,
                    stage: None,
                },
            );
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
