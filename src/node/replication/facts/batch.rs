//! Records packed into pushes of a given size: one builder, one budget.

use crate::kv::{Dot, OriginId, Record, Store};
use crate::limits::LINK_CHUNK_LEN;
use crate::node::replication::message::{KvMessage, Push, Ranges};
use crate::wire::stream::Payload;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Bytes of a push before its records: prefix, two 64-bit numbers, a flag and the array headers.
const PUSH_HEAD_LEN: usize = 3 + 1 + 9 + 3 + 9 + 1;
/// Bytes of one range at most: an array of two 64-bit numbers.
const RANGE_LEN: usize = 19;

/// Writes of one origin: number and key.
pub(in crate::node) type Writes = Vec<(u64, Box<[u8]>)>;

/// The newest record of each key, with the numbers of one origin that it settles.
#[derive(Debug, Clone)]
pub(in crate::node) struct Settled {
    pub(in crate::node) record: Record,
    pub(in crate::node) seqs: Vec<u64>,
}

/// What there is for `writes` (number and key) of one origin.
pub(in crate::node) fn settle(
    store: &Store,
    writes: impl IntoIterator<Item = (u64, Box<[u8]>)>,
) -> Vec<Settled> {
    let mut settler = Settler::default();
    for (seq, key) in writes {
        settler.add(store, seq, key, usize::MAX);
    }
    settler.settled
}

/// Writes of one origin taken together: several writes of one key become one record. A write whose
/// key is absent was deleted and the tombstone forgotten: nothing settles it here, because whoever
/// lacks it may lack the delete too. A pull finds that out.
#[derive(Debug, Default)]
pub(in crate::node) struct Settler {
    by_key: BTreeMap<Box<[u8]>, usize>,
    len: usize,
    pub(in crate::node) settled: Vec<Settled>,
}

impl Settler {
    /// Adds the next write. False, and it is left out, when it needs a further record although
    /// there are `room` bytes of records.
    pub(in crate::node) fn add(
        &mut self,
        store: &Store,
        seq: u64,
        key: Box<[u8]>,
        room: usize,
    ) -> bool {
        if let Some(index) = self.by_key.get(&key) {
            self.settled[*index].seqs.push(seq);
        } else if self.len >= room {
            return false;
        } else if let Some(record) = store.entry(&key) {
            self.by_key.insert(key, self.settled.len());
            self.len += record.as_bytes().len();
            self.settled.push(Settled { record, seqs: vec![seq] });
        }
        true
    }
}

/// Pushes of writes of one origin, none longer than `room`; what does not fit one alone is handed
/// back.
#[derive(Debug, Default)]
pub(in crate::node) struct Batches {
    /// Encoded pushes.
    pub(in crate::node) payloads: Vec<Bytes>,
    /// Records too large, with what they settle.
    pub(in crate::node) large: Vec<Settled>,
}

/// How a push is addressed.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct Envelope {
    pub(in crate::node) of: OriginId,
    pub(in crate::node) from: OriginId,
    pub(in crate::node) urgent: bool,
}

/// Whether a record finds no place in a push of `room` bytes.
pub(in crate::node) fn is_large(item: &Settled, room: usize) -> bool {
    PUSH_HEAD_LEN + alone_len(item) > room
}

/// Bytes of a record and what it settles.
fn alone_len(item: &Settled) -> usize {
    item.record.as_bytes().len() + RANGE_LEN * ranges(&item.seqs).len()
}

/// Packs `settled` into as few pushes as a simple pass gives.
pub(in crate::node) fn pack(envelope: Envelope, settled: Vec<Settled>, room: usize) -> Batches {
    let mut batches = Batches::default();
    let mut open = Open::default();
    for item in settled {
        if is_large(&item, room) {
            batches.large.push(item);
            continue;
        }
        let alone_len = alone_len(&item);
        // A number that continues the last range costs nothing; others at most a range each.
        let continues =
            item.seqs.len() == 1 && open.seqs.last() == item.seqs[0].checked_sub(1).as_ref();
        let len = if continues { item.record.as_bytes().len() } else { alone_len };
        if PUSH_HEAD_LEN + open.len + len > room {
            batches.payloads.extend(open.close(envelope).map(|push| push.encode()));
            open.len = alone_len;
        } else {
            open.len += len;
        }
        open.seqs.extend(&item.seqs);
        open.records.push(item.record);
    }
    batches.payloads.extend(open.close(envelope).map(|push| push.encode()));
    batches
}

/// Parts of about the length of a chunk each, or one record: what a link carries in a frame.
pub(in crate::node) fn chunks(settled: Vec<Settled>) -> Vec<Vec<Settled>> {
    let (mut chunks, mut open, mut open_len) = (Vec::new(), Vec::new(), 0);
    for item in settled {
        open_len += item.record.as_bytes().len();
        open.push(item);
        if open_len >= LINK_CHUNK_LEN {
            open_len = 0;
            chunks.push(std::mem::take(&mut open));
        }
    }
    chunks.extend((!open.is_empty()).then_some(open));
    chunks
}

/// One push without a bound, for links: of one of these [`chunks`].
pub(in crate::node) fn single(envelope: Envelope, settled: Vec<Settled>) -> Payload {
    let mut open = Open::default();
    for item in settled {
        open.seqs.extend(item.seqs);
        open.records.push(item.record);
    }
    open.close(envelope).map(|push| push.payload()).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Open {
    records: Vec<Record>,
    seqs: Vec<u64>,
    len: usize,
}

impl Open {
    fn close(&mut self, envelope: Envelope) -> Option<KvMessage> {
        let Open { records, mut seqs, .. } = std::mem::take(self);
        if seqs.is_empty() {
            return None;
        }
        seqs.sort_unstable();
        let push = Push {
            of: envelope.of.0,
            settles: ranges(&seqs),
            from: envelope.from.0,
            urgent: envelope.urgent,
        };
        Some(KvMessage::Push(push, records))
    }
}

/// Sorted numbers as inclusive ranges.
fn ranges(seqs: &[u64]) -> Ranges {
    let mut ranges: Ranges = Vec::new();
    for seq in seqs {
        match ranges.last_mut() {
            Some((_, end)) if *seq <= *end + 1 => *end = *seq,
            _ => ranges.push((*seq, *seq)),
        }
    }
    ranges
}

/// The keys of `ranges` of `origin` as far as the log remembers them, at most `limit`; whether
/// that is all.
pub(in crate::node) fn logged(
    store: &Store,
    origin: OriginId,
    ranges: &Ranges,
    limit: usize,
) -> (Writes, bool) {
    let mut writes = Vec::new();
    let mut complete = true;
    for &(start, end) in ranges {
        for seq in start..=end {
            if writes.len() >= limit {
                return (writes, false);
            }
            match store.log_key(Dot { origin, seq }) {
                Some(key) => writes.push((seq, key)),
                None => {
                    complete = false;
                    // A range that the log does not reach is left to a pull.
                    break;
                }
            }
        }
    }
    (writes, complete)
}
