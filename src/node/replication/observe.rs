//! What can be seen of replication from outside.

use super::capacity;
use super::facts::floor::FLOOR;
use super::facts::grace;
use super::facts::peers::{Peer, PeerInfo};
use super::facts::stage::Stage;
use super::machine::Replication;
use super::repair::ready;
use crate::kv::{Coverage, Dot, OriginId};
use crate::node::command::Health;
use crate::time::Instant;
use crate::wire::message::NodeName;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a peer that was new counts as new, while this node may found: it may have founded
/// meanwhile, and telling so may have been lost.
const NEW_FOR: Duration = Duration::from_millis(1500);

/// A peer, as far as it matters for founding a cluster.
#[derive(Debug, Clone, Copy)]
pub(in crate::node) struct Told<'a> {
    pub(in crate::node) origin: OriginId,
    pub(in crate::node) name: &'a NodeName,
    pub(in crate::node) addr: SocketAddr,
    /// How far it has come, when it has told.
    pub(in crate::node) stage: Option<Stage>,
}

impl Told<'_> {
    fn of(peer: &Peer) -> Told<'_> {
        let info = &peer.info;
        Told { origin: info.origin, name: &info.name, addr: info.addr, stage: peer.stage() }
    }
}

/// Replication, to look at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(pub(super) &'a Replication);

impl<'a> View<'a> {
    /// A look at it.
    pub(in crate::node) fn of(replication: &'a Replication) -> View<'a> {
        View(replication)
    }

    /// Readiness as replication sees it.
    #[must_use]
    pub fn health(self) -> Health {
        self.0.shared.ready.health()
    }

    /// How far this node has come.
    #[must_use]
    pub fn stage(self) -> Stage {
        self.0.shared.ready.stage()
    }

    /// Whether this node has never been ready, and no first copy is under way.
    #[must_use]
    pub fn is_new(self) -> bool {
        self.0.shared.ready.is_new()
    }

    /// Whether this node has slept past forgotten deletes and compares its store with a peer's.
    #[must_use]
    pub fn is_resetting(self) -> bool {
        self.0.shared.ready.is_resetting()
    }

    /// Whether its first copy does not go on because the cluster holds more than its limit allows.
    #[must_use]
    pub fn is_short_of_room(self) -> bool {
        let shared = &self.0.shared;
        let is_copying = !shared.ready.is_new() && shared.ready.wants_copy();
        is_copying && shared.store.is_overfull()
    }

    /// Why this node is not ready, as far as replication can tell; `None` when it is, and while it
    /// waits for a reason to found.
    #[must_use]
    pub fn not_ready_why(self) -> Option<String> {
        let shared = &self.0.shared;
        if self.is_short_of_room() {
            return Some(capacity::too_small_why(&shared.store));
        }
        ready::not_ready_why(&shared.ready, self.0.pulls.copying_from(&shared.peers))
    }

    /// Whether the store may be compared as soon as one of the peers tells what it holds, or has
    /// sent what is asked for.
    #[must_use]
    pub fn is_to_compare(self) -> bool {
        self.0.absence.is_to_compare(&self.0.shared.peers) || self.0.pulls.is_active()
    }

    /// Up to which number every write of `origin` is held here, replaced, or deleted and forgotten.
    #[must_use]
    pub fn contiguous(self, origin: OriginId) -> u64 {
        let shared = &self.0.shared;
        let is_mine = origin == shared.me;
        if is_mine { shared.store.last_seq() } else { shared.known.contiguous(origin) }
    }

    /// What is held without gaps, and which deletes were forgotten.
    #[must_use]
    pub fn coverage(self) -> Coverage {
        let shared = &self.0.shared;
        // A build that reads no sums would refuse the token of a reader that comes to it.
        let reads_sums = |peer: &Peer| peer.takes_parts || peer.told_at.is_none();
        let by_sum = shared.peers.reachable().all(reads_sums);
        let coverage = shared.known.coverage(shared.store.last_seq(), by_sum);
        let holds_more = self.0.pulls.is_active() || shared.known.holds_past_gaps();
        let is_exact = self.0.gaps.is_empty() && !holds_more;
        let mut coverage =
            Coverage { is_exact, removed_total: shared.store.removed_total(), ..coverage };
        coverage.seen.set_expired_through(shared.store.swept());
        coverage
    }

    /// Whether this very write is held here, replaced, or deleted and forgotten.
    #[must_use]
    pub fn covers(self, dot: Dot) -> bool {
        self.0.shared.known.covers(dot)
    }

    /// The number of the floor below which no run that is over is known by name; 0 for none.
    #[must_use]
    pub fn floor(self) -> u64 {
        self.0.shared.known.floor()
    }

    /// Every origin heard of, our own and folded ones too, by number.
    #[must_use]
    pub fn origins(self) -> Vec<OriginId> {
        let known = &self.0.shared.known;
        let folded = known.folded_list().into_iter().map(|(origin, ..)| OriginId(origin));
        let folded = folded.filter(|origin| *origin != FLOOR);
        let mut origins: Vec<OriginId> = known.origins().into_iter().chain(folded).collect();
        origins.push(self.0.shared.me);
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    /// An origin that still has its place in digests although its run is over and everybody has
    /// all of it, as far as this node can tell.
    #[must_use]
    pub fn unfolded(self) -> Option<OriginId> {
        let shared = &self.0.shared;
        let mut origins = shared.known.origins().into_iter();
        origins.find(|origin| *origin != shared.me && !shared.peers.is_member(*origin))
    }

    /// How long a delete is remembered at least, as things are.
    pub(in crate::node) fn grace_ms(self) -> u64 {
        let shared = &self.0.shared;
        let (stats, limit) = (shared.store.stats(), shared.store.limit());
        grace::grace_ms(shared.config.tombstone_grace, &stats, limit)
    }

    /// Tombstones forgotten here.
    #[must_use]
    pub fn forgotten_total(self) -> u64 {
        self.0.sweep.forgotten_total
    }

    /// Copies from before a forgotten delete that were refused.
    #[must_use]
    pub fn resurrections_refused_total(self) -> u64 {
        self.0.shared.counters.resurrections_refused_total
    }

    /// Peers that answer.
    #[must_use]
    pub fn n_peers(self) -> usize {
        self.0.shared.peers.n_reachable()
    }

    /// Whether the run `origin` is among the peers, dead ones too.
    #[must_use]
    pub fn has_peer(self, origin: OriginId) -> bool {
        self.0.shared.peers.get(origin).is_some()
    }

    /// Members of our kind, by origin, dead ones too, whether or not they are peers.
    pub(in crate::node) fn infos(self) -> impl Iterator<Item = &'a PeerInfo> {
        let peers = &self.0.shared.peers;
        peers.iter().map(|peer| &peer.info).chain(peers.incompatible())
    }

    /// Members of our kind that share no format with this node, by origin; dead ones too.
    pub fn incompatible(self) -> impl Iterator<Item = &'a PeerInfo> {
        self.0.shared.peers.incompatible()
    }

    /// Whether UDP to a peer seems blocked, and whether TCP does.
    #[must_use]
    pub fn blocked(self, origin: OriginId) -> (bool, bool) {
        let paths = self.0.shared.peers.get(origin).map(|peer| &peer.paths);
        paths.map_or((false, false), |paths| (paths.udp_blocked, paths.tcp_blocked))
    }

    /// The peers that answer.
    pub(in crate::node) fn reachable(self) -> impl Iterator<Item = Told<'a>> {
        self.0.shared.peers.reachable().map(Told::of)
    }

    /// The peers that do not.
    pub(in crate::node) fn absent(self) -> impl Iterator<Item = Told<'a>> {
        self.0.shared.peers.iter().filter(|peer| !peer.info.reachable).map(Told::of)
    }

    /// Whether every peer that answers has said a short while ago that it is new; else who has not,
    /// and what it said last.
    pub(in crate::node) fn peers_are_new(self, now: Instant) -> Result<(), Told<'a>> {
        let peers = self.0.shared.peers.reachable();
        let mut others = peers.filter(|peer| !peer.is_new_within(now, NEW_FOR));
        others.next().map_or(Ok(()), |peer| Err(Told::of(peer)))
    }

    /// Where a peer gossips.
    pub(in crate::node) fn addr(self, origin: OriginId) -> Option<SocketAddr> {
        self.0.shared.peers.get(origin).map(|peer| peer.info.addr)
    }

    /// The reachable peers, by name.
    pub(in crate::node) fn reachable_names(self) -> Vec<(OriginId, String)> {
        let peers = self.0.shared.peers.reachable();
        peers.map(|peer| (peer.info.origin, peer.info.name.to_string())).collect()
    }
}
