//! Damage in memory: found, dropped, and fetched from a peer.
//!
//! A record dropped is one that the vector says is held. So until a peer turns out to hold the very
//! same as this node, or all is compared with one, it doubts (`Known::doubt`): what is
//! absent here counts neither as deleted nor as a copy to be refused. Whoever copied from here now
//! would take over that it holds what it lacks, so copies are left to other nodes; where there are
//! none, they wait for a moment, and not for ever.

use crate::kv::{OriginId, Record};
use crate::limits::{STORE_SHARDS, TURN_RECORDS_MAX};
use crate::node::io::Note;
use crate::node::replication::context::Context;
use crate::node::replication::facts::peers::Peer;
use crate::node::replication::next::Next;
use crate::time::Instant;
use std::time::Duration;

/// Bytes looked at in one turn, about.
const TURN_LEN: usize = 8 << 20;
/// How long copies wait after damage was found.
const MENDING: Duration = Duration::from_secs(10);

/// Where the looking is.
#[derive(Debug, Default)]
pub(in crate::node) struct Scrub {
    /// The shard that is being looked through, and up to which record that has been done.
    shard: usize,
    after: Option<Record>,
}

impl Scrub {
    /// Looks through one shard a step, or a part of it: all of them in some four minutes. Whether
    /// some of the shard is left; what was damaged is to be fetched from a peer.
    pub(in crate::node) fn next(&mut self, cx: &mut Context<'_>) -> (bool, Option<Next>) {
        let stats = cx.store.stats();
        let mean_len = stats.bytes / (stats.n_live + stats.n_tombstones).max(1);
        let n_max = TURN_LEN / usize::try_from(mean_len).unwrap_or(TURN_LEN).max(1);
        let n_max = n_max.clamp(1, TURN_RECORDS_MAX);
        let (after, mut is_sound) = (self.after.take(), true);
        let look = |record: &Record| is_sound &= record.is_sound();
        let (_, last) = cx.store.scan_some(self.shard, after.as_ref(), n_max, look);
        if !is_sound {
            // Where one is damaged the order of keys is nothing to go by: all are dealt with.
            let is_damaged = cx.drop_damaged(self.shard);
            self.shard = (self.shard + 1) % STORE_SHARDS;
            return (false, is_damaged.then_some(Next::Mend));
        }
        if last.is_none() {
            self.shard = (self.shard + 1) % STORE_SHARDS;
        }
        self.after = last;
        (self.after.is_some(), None)
    }

    /// Whether a shard has been looked through in part.
    pub(in crate::node) fn is_within(&self) -> bool {
        self.after.is_some()
    }
}

impl Context<'_> {
    /// Drops what is damaged in a shard. True when there was any.
    pub(in crate::node) fn drop_damaged(&mut self, shard: usize) -> bool {
        let records = self.store.drop_damaged(shard);
        if records == 0 {
            return false;
        }
        self.counters.damaged_total += records as u64;
        self.known.doubt(self.now.instant);
        self.note(Note::Damage { records });
        true
    }

    /// Whether `asker` should copy from somebody else: this node is reset, or what was damaged has
    /// not been fetched and there is another peer, or a moment has not passed yet.
    pub(in crate::node) fn is_unfit(&self, asker: OriginId) -> bool {
        let serves = |peer: &Peer| peer.info.origin != asker && peer.is_ready();
        let is_mending = |since| self.now.instant.since(since) < MENDING;
        let doubts = self.known.doubts();
        self.ready.is_resetting()
            || doubts.is_some_and(|since: Instant| {
                is_mending(since) || self.peers.reachable().any(serves)
            })
    }
}
