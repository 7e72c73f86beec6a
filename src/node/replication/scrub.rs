//! Damage in memory: found, dropped, and fetched from a peer.
//!
//! A record dropped is one that the vector says is held. So until a peer turns out to hold the very
//! same as this node, it [doubts](super::known::Known::doubt): what is absent here counts neither
//! as deleted nor as a copy to be refused. Whoever copied from here now would take over that it
//! holds what it lacks, so copies wait for a moment; not for ever, there may be no other node.

use super::Replication;
use super::known::Claims;
use crate::limits::STORE_SHARDS;
use crate::node::io::Note;
use crate::time::Now;
use std::time::Duration;

/// How long copies wait after damage was found.
const MENDING: Duration = Duration::from_secs(10);

impl Replication {
    /// Looks through one shard a step: all of them in some four minutes.
    pub(super) fn scrub_next(&mut self, now: Now) {
        self.scrub(now, self.sweep.scrubbed);
        self.sweep.scrubbed = (self.sweep.scrubbed + 1) % STORE_SHARDS;
    }

    /// Drops what is damaged in a shard, and begins to compare with a peer.
    pub(super) fn scrub(&mut self, now: Now, shard: usize) {
        let records = self.store.drop_damaged(shard);
        if records == 0 {
            return;
        }
        self.sweep.damaged_total += records as u64;
        self.known.doubt(now.instant);
        self.note(Note::Damage { records });
        if let Some(peer) = self.peers.draw(1, &mut self.rng).pop() {
            let heads = self.known.heads(self.store.last_seq());
            let agreed = Claims::new(&heads, &self.known.folded_list());
            self.start_buckets(now, peer, Some(agreed));
        }
    }

    /// Whether what was damaged is likely to be on its way.
    pub(super) fn is_mending(&self, now: Now) -> bool {
        self.known.doubts().is_some_and(|since| now.instant.since(since) < MENDING)
    }
}
