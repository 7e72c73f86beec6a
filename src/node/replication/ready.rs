//! Readiness: whether this node's answers are worth a load balancer's trust.
//!
//! The promise: **a ready node holds every write that some ready node held when its copy began, or
//! it belongs to the first cluster.**
//!
//! ```text
//! New --a ready peer--> Copying --copy complete--> Ready <--compared-- Resetting
//!   `------- found(): the composition has evidence ---^ |  |             ^
//!                Copying <-- founded apart, meets data -'  `-- slept past forgotten deletes
//! ```
//!
//! Only a ready peer serves a first copy, so nodes that start together never copy from each other.
//! Whether a node may found a cluster is decided by the composition (`node/founding.rs`), which
//! knows what discovery saw. A founder of whom nobody has copied joins any cluster it meets; of two
//! such founders the one with the higher origin copies first, and the other follows. Clusters of
//! several that were founded apart merge as the sides of a partition do.

use super::message::{Digest, KvMessage};
use super::peers::Peer;
use super::stage::{Readiness, Stage, State};
use super::{Replication, Told};
use crate::kv::OriginId;
use crate::mutation::mutated;
use crate::node::io::Note;
use crate::time::{Instant, Now};
use std::time::Duration;

/// Least time between two tries for a first copy.
const RETRY: Duration = Duration::from_millis(200);
/// How long a node that has been ready waits for a ready peer before it trusts its own store again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a peer that was new counts as new, while this node may found: it may have founded
/// meanwhile, and telling so may have been lost.
const NEW_FOR: Duration = Duration::from_millis(1500);
/// When such a peer is asked again.
const ASK_NEW: Duration = Duration::from_millis(500);
/// Least time between two questions to a peer that has not told its stage, and most at once.
const GREET_AGAIN: Duration = Duration::from_millis(300);
const GREETED_MAX: usize = 16;
/// Most peers told at once that this node's stage has changed; the others hear it by digests.
const TOLD_MAX: usize = 64;

impl Replication {
    /// How far this node has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.shared.ready.stage()
    }

    /// Whether this node has never been ready, and no first copy is under way.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.shared.ready.state == State::New
    }

    /// Takes this node for one that has long been ready, as all its peers. For simulations that
    /// begin with a settled cluster.
    pub(in crate::node) fn assume_ready(&mut self) {
        self.shared.ready = Readiness { state: State::Ready, has_copied: true, ..Readiness::new() };
    }

    /// Whether every peer that answers has said a short while ago that it is new; else who has not,
    /// and what it said last.
    pub(in crate::node) fn peers_are_new(&self, now: Instant) -> Result<(), Told<'_>> {
        let mut others =
            self.shared.peers.reachable().filter(|peer| !peer.is_new_within(now, NEW_FOR));
        others.next().map_or(Ok(()), |peer| Err(Told::of(peer)))
    }

    /// Asks peers that have not told how far they have come, until this node has copied a store,
    /// and while it may found, those that were new. Digests go to one random peer a second: a new
    /// node would take as many seconds as there are members to hear of all, and a founder to hear
    /// of a cluster founded apart.
    pub(in crate::node) fn greet(&mut self, now: Now) {
        if self.shared.ready.has_copied {
            return;
        }
        let is_new = self.is_new();
        let is_due = |peer: &&mut Peer| {
            let again = peer.greeted.is_none_or(|at| now.instant.since(at) >= GREET_AGAIN);
            let is_old = is_new && !peer.is_new_within(now.instant, ASK_NEW) && !peer.is_ready();
            peer.info.reachable && again && (peer.told_at.is_none() || is_old)
        };
        let mut asked = Vec::new();
        for peer in self.shared.peers.iter_mut().filter(is_due).take(GREETED_MAX) {
            peer.greeted = Some(now.instant);
            asked.push(peer.info.origin);
        }
        for peer in asked {
            let digest = self.digest(true);
            self.cx(now).send(peer, &KvMessage::Digest(digest));
        }
    }

    /// Whether this node has slept past forgotten deletes and compares its store with a peer's.
    #[must_use]
    pub fn is_resetting(&self) -> bool {
        matches!(self.shared.ready.state, State::Resetting)
    }

    /// Founds a cluster: a new node becomes ready with what it holds. Nothing for any other.
    pub fn found(&mut self, now: Now) {
        if self.shared.ready.state == State::New && !mutated!(NeverReady) {
            self.shared.ready.has_founded = true;
            self.become_ready(now);
        }
    }

    /// Why this node is not ready, as far as replication can tell; `None` when it is, and while it
    /// waits for a reason to found.
    #[must_use]
    pub fn not_ready_why(&self) -> Option<String> {
        match self.shared.ready.state {
            State::Copying { .. } => Some(match self.pulls.copying_from(&self.shared.peers) {
                Some((name, n)) => format!("copies the store of {name}: {n} records so far"),
                None => "waits for a ready member to copy the store from".to_owned(),
            }),
            State::Resetting => Some(
                "was away for longer than deletes are remembered: compares its store with a \
                 ready member"
                    .to_owned(),
            ),
            State::New | State::Ready => None,
        }
    }

    /// Begins the first copy when there is a ready peer and no pull is under way.
    pub(super) fn first_copy(&mut self, now: Now) {
        let since = match self.shared.ready.state {
            State::New => now.instant,
            State::Copying { since, .. } => since,
            State::Resetting | State::Ready => return,
        };
        let Some(peer) = self.draw_server() else {
            self.nobody_to_copy(now, since);
            return;
        };
        self.shared.ready.state =
            State::Copying { retry_at: now.instant + RETRY, since: now.instant };
        self.pulls.start(&mut self.shared.lend(now, &mut self.links), peer);
    }

    /// A reachable peer that serves first copies; of a foreign cluster, when this node is to join
    /// one. Beside members whose formats this node does not speak, one that tells no stage may be
    /// as new as this node: it counts only where it has told.
    fn draw_server(&mut self) -> Option<OriginId> {
        let is_among_strangers = self.shared.peers.incompatible().any(|info| info.reachable);
        let told = |peer: &&Peer| peer.stage.is_some() || !is_among_strangers;
        let is_there = |peer: &&Peer| peer.has_copies() || mutated!(CopyFromAnybody);
        // Of whom somebody has copied, has ready peers in its own cluster.
        let is_of_several = self.shared.ready.has_served || self.shared.ready.has_copied;
        let fits = |peer: &&Peer| peer.is_foreign || !is_of_several;
        let servers = self.shared.peers.reachable().filter(is_there).filter(told).filter(fits);
        let mut servers: Vec<&Peer> = servers.collect();
        if servers.iter().any(|peer| !peer.is_leaving()) {
            servers.retain(|peer| !peer.is_leaving());
        }
        let servers: Vec<OriginId> = servers.iter().map(|peer| peer.info.origin).collect();
        (!servers.is_empty()).then(|| servers[self.shared.rng.below(servers.len())])
    }

    /// No peer serves a first copy. Who has been ready before trusts its own store again after a
    /// while; who has not waits for evidence to found.
    fn nobody_to_copy(&mut self, now: Now, since: Instant) {
        if !matches!(self.shared.ready.state, State::Copying { .. }) {
            return;
        }
        if !self.shared.ready.has_been_ready() {
            self.shared.ready.state = State::New;
        } else if now.instant.since(since) >= PATIENCE {
            self.become_ready(now);
        } else {
            self.shared.ready.state = State::Copying { retry_at: now.instant + RETRY, since };
        }
    }

    /// A first copy from a ready peer is complete.
    pub(super) fn copied(&mut self, now: Now, records: u64) {
        if self.shared.ready.wants_copy() && !mutated!(NeverReady) {
            self.shared.ready.has_copied = true;
            for peer in self.shared.peers.iter_mut() {
                peer.is_foreign = false;
            }
            self.note(Note::CopyDone { records });
            self.become_ready(now);
        }
    }

    /// This node is about to end. First copies that it serves go on: nobody else may have the data.
    pub(super) fn tell_leaving(&mut self, now: Now) {
        self.shared.ready.is_leaving = true;
        self.tell_stage(now);
    }

    /// A peer says that we lack deletes that are forgotten: hide until all is compared.
    pub(super) fn hide(&mut self, now: Now) {
        if !matches!(self.shared.ready.state, State::Resetting) {
            self.shared.counters.resets_total += 1;
            self.note(Note::Reset);
        }
        self.shared.ready.state = State::Resetting;
        self.stage_changed(now);
    }

    /// Everything has been compared with a peer.
    pub(super) fn compared(&mut self, now: Now) {
        if self.shared.ready.state == State::Resetting {
            self.shared.ready.has_copied = true;
            self.become_ready(now);
        }
    }

    pub(super) fn ready_due(&mut self, now: Now) {
        if let State::Copying { retry_at, .. } = self.shared.ready.state
            && retry_at <= now.instant
        {
            self.first_copy(now);
        }
    }

    /// A whole digest of `from` tells its stage: who is new may copy from it, and a founder that
    /// meets a cluster with data joins that one.
    pub(super) fn stage_told(&mut self, now: Now, digest: &Digest) {
        let (from, stage) = (OriginId(digest.from), digest.stage);
        let has_folded = digest.folded != 0 && digest.folded != self.shared.known.folded_hash();
        // A founder that is already about to copy from one of a foreign cluster learns who else is.
        let founder = self.shared.ready.has_founded && !self.shared.ready.has_copied;
        let is_lone = founder && !self.shared.ready.has_served;
        let serves = self.shared.ready.state == State::Ready;
        let me = self.shared.me;
        let Some(peer) = self.shared.peers.get_mut(from) else { return };
        // One that was new may have copied from elsewhere.
        let was_ready = peer.told_at.is_some() && peer.has_copies();
        peer.told_at = Some(now.instant);
        peer.stage = stage.map(Stage::of).or(peer.stage);
        peer.came_new |= peer.stage == Some(Stage::New);
        let is_ready = peer.is_ready();
        if !was_ready && is_lone && is_ready {
            let heads: Vec<(OriginId, u64)> =
                peer.heads.iter().map(|(origin, through)| (*origin, *through)).collect();
            let lacks = |(origin, through): &(OriginId, u64)| {
                *origin != me && !self.shared.known.covers_through(*origin, *through)
            };
            // One that tells no stage may be as new as it is full of what clients wrote to it.
            let is_foreign = stage.is_some() && (has_folded || heads.iter().any(lacks));
            if let Some(peer) = self.shared.peers.get_mut(from) {
                peer.is_foreign = is_foreign;
            }
        }
        if founder && serves && is_ready {
            self.yield_to(now, from);
        }
        self.first_copy(now);
    }

    /// Joins the cluster of a foreign peer, unless that peer is the one to join ours.
    fn yield_to(&mut self, now: Now, from: OriginId) {
        let Some(peer) = self.shared.peers.get(from) else { return };
        let first = peer.stage() != Some(Stage::Founded) || from < self.shared.me;
        if peer.is_foreign && first && !mutated!(NeverYield) {
            self.note(Note::Merging { with: peer.info.name.to_string() });
            self.shared.ready.state = State::Copying { retry_at: now.instant, since: now.instant };
            self.stage_changed(now);
        }
    }

    fn become_ready(&mut self, now: Now) {
        self.shared.ready.state = State::Ready;
        self.stage_changed(now);
    }

    /// Tells peers at once, so that nobody waits for us, or copies from us, in vain.
    fn stage_changed(&mut self, now: Now) {
        if !self.shared.ready.stage().has_copies() {
            self.pulls.refuse_first_copies(&mut self.shared.lend(now, &mut self.links));
        }
        self.tell_stage(now);
    }

    fn tell_stage(&mut self, now: Now) {
        for peer in self.shared.peers.draw(TOLD_MAX, &mut self.shared.rng) {
            let digest = self.digest(false);
            self.cx(now).send(peer, &KvMessage::Digest(digest));
        }
    }
}
