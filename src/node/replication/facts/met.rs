//! Runs that have named this one, and so live while it does.

use crate::kv::OriginId;
use crate::limits::MEMBERS_MAX;
use crate::node::replication::facts::peers::{Peer, Peers};
use std::collections::BTreeSet;

/// At most [`MEMBERS_MAX`]: with so many only members are remembered.
#[derive(Debug, Default)]
pub(in crate::node) struct Met {
    named: BTreeSet<OriginId>,
    /// Whether all have, in a simulation that begins with a settled cluster.
    all: bool,
}

impl Met {
    /// A message of `run` names this run. Membership may not have told of it yet.
    pub(in crate::node) fn named(&mut self, run: OriginId, peers: &Peers) {
        if self.named.len() >= MEMBERS_MAX {
            self.named.retain(|run| peers.is_member(*run));
        }
        if self.named.len() < MEMBERS_MAX {
            self.named.insert(run);
        }
    }

    /// For another run of this node, which nobody has named yet.
    pub(in crate::node) fn renewed(self) -> Met {
        Met { named: BTreeSet::new(), all: self.all }
    }

    /// Takes all for met.
    pub(in crate::node) fn assume_all(&mut self) {
        self.all = true;
    }

    /// Whether what a peer sends is of our time, and no copy that somebody has kept from before all
    /// were restarted.
    pub(in crate::node) fn is_met(&self, peer: &Peer) -> bool {
        self.all || peer.names_nobody() || self.named.contains(&peer.info.origin)
    }

    /// The same of a run that may be no peer. What another kind of build sends comes here only as
    /// long as that was one.
    pub(in crate::node) fn is_met_run(&self, run: OriginId, peers: &Peers) -> bool {
        self.all
            || self.named.contains(&run)
            || peers.get(run).is_some_and(Peer::names_nobody)
            || peers.is_incompatible(run)
    }
}
