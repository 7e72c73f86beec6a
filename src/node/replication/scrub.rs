//! Damage in memory: found, dropped, and fetched from a peer.
//!
//! A record dropped is one that the vector says is held. So until a peer turns out to hold the very
//! same as this node, or all is compared with one, it [doubts](super::known::Known::doubt): what is
//! absent here counts neither as deleted nor as a copy to be refused. Whoever copied from here now
//! would take over that it holds what it lacks, so copies are left to other nodes; where there are
//! none, they wait for a moment, and not for ever.

use super::Replication;
use super::peers::Peer;
use crate::kv::OriginId;
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

    /// Drops what is damaged in a shard, and begins to compare all with a peer.
    pub(super) fn scrub(&mut self, now: Now, shard: usize) {
        let records = self.shared.store.drop_damaged(shard);
        if records == 0 {
            return;
        }
        self.sweep.damaged_total += records as u64;
        self.shared.known.doubt(now.instant);
        self.note(Note::Damage { records });
        self.walk_to_mend(now);
    }

    /// Whether `asker` should copy from somebody else: this node is reset, or what was damaged has
    /// not been fetched and there is another peer, or a moment has not passed yet.
    pub(super) fn is_unfit(&self, now: Now, asker: OriginId) -> bool {
        let serves = |peer: &Peer| peer.info.origin != asker && peer.is_ready();
        self.is_resetting()
            || self.shared.known.doubts().is_some_and(|since| {
                now.instant.since(since) < MENDING || self.shared.peers.reachable().any(serves)
            })
    }
}
