//! What of two stores is compared record by record: the names in some leaves.
//!
//! A shard is passed twice, however many of its leaves are compared.

use crate::kv::Store;
use crate::limits::{COMPARED_LEAVES_MAX, COMPARED_NAMES_LEN_MAX, STORE_LEAVES_PER_SHARD};
use crate::node::io::ConnId;
use crate::node::replication::context::Context;
use crate::node::replication::message::{Item, Items, KvMessage, LeafItems};

/// Shards whose leaves are told in one round.
pub(in crate::node) const SHARDS_MAX: usize = 16;

/// What a leaf holds.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::node) struct LeafSize {
    /// Records, tombstones too.
    pub(in crate::node) n: usize,
    /// Of them those that the sums leave out: tombstones, and what expires.
    pub(in crate::node) n_unsummed: usize,
    /// Bytes of their names in a message, at most.
    names_len: usize,
}

/// The names of records in some leaves, as many as go into one message.
#[derive(Debug, Default)]
pub(in crate::node) struct Picked {
    pub(in crate::node) leaves: Vec<LeafItems>,
    names_len: usize,
}

impl Picked {
    fn is_full(&self) -> bool {
        self.leaves.len() >= COMPARED_LEAVES_MAX || self.names_len >= COMPARED_NAMES_LEN_MAX
    }

    /// Adds the leaves of a shard from `first` on that `pick` picks. Returns the first leaf for
    /// which there was no room, or the number of leaves when all found some.
    ///
    /// Of a leaf fuller than any can be by chance, a part is named: the other side gives what it
    /// has of the rest.
    pub(in crate::node) fn add(
        &mut self,
        store: &Store,
        shard: usize,
        first: usize,
        pick: impl Fn(usize, LeafSize) -> bool,
    ) -> usize {
        let mut sizes = [LeafSize::default(); STORE_LEAVES_PER_SHARD];
        store.scan_leaves(shard, |leaf, record| {
            let size = &mut sizes[leaf];
            size.n += 1;
            size.n_unsummed += usize::from(record.is_tombstone() || record.ttl().is_some());
            size.names_len += Item::len_max_of(record);
        });
        let mut places = [None; STORE_LEAVES_PER_SHARD];
        let mut end = STORE_LEAVES_PER_SHARD;
        for leaf in first..STORE_LEAVES_PER_SHARD {
            if !pick(leaf, sizes[leaf]) {
                continue;
            }
            if self.is_full() {
                end = leaf;
                break;
            }
            places[leaf] = Some(self.leaves.len());
            self.leaves.push((shard as u16, leaf as u16, Vec::new()));
            self.names_len += sizes[leaf].names_len.min(COMPARED_NAMES_LEN_MAX);
        }
        let mut lens = [0; STORE_LEAVES_PER_SHARD];
        store.scan_leaves(shard, |leaf, record| {
            if let Some(place) = places[leaf]
                && lens[leaf] < COMPARED_NAMES_LEN_MAX
            {
                let item = Item::of(record);
                lens[leaf] += item.len_max();
                self.leaves[place].2.push(item);
            }
        });
        end
    }
}

/// Sends the names of records for their verdicts.
pub(in crate::node) fn send_items(cx: &mut Context<'_>, conn: ConnId, picked: Picked, more: bool) {
    let items = Items { leaves: picked.leaves, more };
    cx.answer(conn, KvMessage::Items(items).encode());
}
