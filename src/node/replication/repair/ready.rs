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

use crate::kv::OriginId;
use crate::mutation::mutated;
use crate::node::io::Note;
use crate::node::replication::capacity;
use crate::node::replication::context::Context;
use crate::node::replication::facts::peers::Peer;
use crate::node::replication::facts::stage::{Readiness, Stage, State};
use crate::node::replication::message::Digest;
use crate::node::replication::next::Next;
use crate::time::Instant;
use std::time::Duration;

/// Least time between two tries for a first copy.
const RETRY: Duration = Duration::from_millis(200);
/// How long a node that has been ready waits for a ready peer before it trusts its own store again.
const PATIENCE: Duration = Duration::from_secs(2);
/// When such a peer is asked again.
const ASK_NEW: Duration = Duration::from_millis(500);
/// How long ago a founder may have said that it is new, to have founded the same cluster.
const FOUNDED_TOGETHER: Duration = Duration::from_secs(5);
/// Least time between two questions to a peer that has not told its stage, and most at once.
const GREET_AGAIN: Duration = Duration::from_millis(300);
const GREETED_MAX: usize = 16;

/// Peers to be asked now how far they have come, as they have not told: until this node has
/// copied a store, and while it may found, those that were new. Digests go to one random peer a
/// second: a new node would take as many seconds as there are members to hear of all, and a founder
/// to hear of a cluster founded apart.
pub(in crate::node) fn to_greet(cx: &mut Context<'_>) -> Vec<OriginId> {
    if cx.ready.has_copied {
        return Vec::new();
    }
    let is_new = cx.ready.is_new();
    let now = cx.now.instant;
    let is_due = |peer: &&mut Peer| {
        let again = peer.greeted.is_none_or(|at| now.since(at) >= GREET_AGAIN);
        let is_old = is_new && !peer.is_new_within(now, ASK_NEW) && !peer.is_ready();
        peer.info.reachable && again && (peer.told_at.is_none() || is_old)
    };
    let mut asked = Vec::new();
    for peer in cx.peers.iter_mut().filter(is_due).take(GREETED_MAX) {
        peer.greeted = Some(now);
        asked.push(peer.info.origin);
    }
    asked
}

/// Founds a cluster: a new node becomes ready with what it holds. Nothing for any other.
pub(in crate::node) fn found(cx: &mut Context<'_>) -> Option<Next> {
    if cx.ready.state != State::New || mutated!(NeverReady) {
        return None;
    }
    cx.ready.has_founded = true;
    Some(become_ready(cx))
}

/// Why this node is not ready, as far as replication can tell; `None` when it is, and while it
/// waits for a reason to found.
pub(in crate::node) fn not_ready_why(
    ready: &Readiness,
    copying: Option<(String, u64)>,
) -> Option<String> {
    match ready.state {
        State::Copying { .. } => Some(match copying {
            Some((name, n)) => format!("copies the store of {name}: {n} records so far"),
            None => "waits for a ready member to copy the store from".to_owned(),
        }),
        State::Resetting if ready.was_set_back => Some(
            "was set back to an earlier state: compares its store with a ready member".to_owned(),
        ),
        State::Resetting => Some(
            "was away for longer than deletes are remembered: compares its store with a \
             ready member"
                .to_owned(),
        ),
        State::New | State::Ready => None,
    }
}

/// Begins the first copy when there is a ready peer. Pulls see to it that none is under way.
pub(in crate::node) fn first_copy(cx: &mut Context<'_>) -> Option<Next> {
    let since = match cx.ready.state {
        State::New => cx.now.instant,
        State::Copying { since, .. } => since,
        State::Resetting | State::Ready => return None,
    };
    if capacity::is_short(cx) {
        cx.ready.state = State::Copying { retry_at: cx.now.instant + RETRY, since };
        return None;
    }
    let server = if cx.ready.is_held { None } else { draw_server(cx) };
    let Some(peer) = server else {
        return nobody_to_copy(cx, since);
    };
    cx.ready.state = State::Copying { retry_at: cx.now.instant + RETRY, since: cx.now.instant };
    Some(Next::Pull(peer))
}

/// A reachable peer that serves first copies; of a foreign cluster, when this node is to join
/// one. Beside members whose formats this node does not speak, one that tells no stage may be
/// as new as this node: it counts only where it has told.
fn draw_server(cx: &mut Context<'_>) -> Option<OriginId> {
    let is_among_strangers = cx.peers.incompatible().any(|info| info.reachable);
    let told = |peer: &&Peer| peer.stage.is_some() || !is_among_strangers;
    let is_there = |peer: &&Peer| peer.has_copies() || mutated!(CopyFromAnybody);
    // Of whom somebody has copied, has ready peers in its own cluster.
    let is_of_several = cx.ready.has_served || cx.ready.has_copied;
    let fits = |peer: &&Peer| peer.is_foreign || !is_of_several;
    let servers = cx.peers.reachable().filter(is_there).filter(told).filter(fits);
    let mut servers: Vec<&Peer> = servers.collect();
    if servers.iter().any(|peer| !peer.is_leaving()) {
        servers.retain(|peer| !peer.is_leaving());
    }
    let servers: Vec<OriginId> = servers.iter().map(|peer| peer.info.origin).collect();
    (!servers.is_empty()).then(|| servers[cx.rng.below(servers.len())])
}

/// No peer serves a first copy. Who has been ready before trusts its own store again after a
/// while; who has not waits for evidence to found.
fn nobody_to_copy(cx: &mut Context<'_>, since: Instant) -> Option<Next> {
    if !matches!(cx.ready.state, State::Copying { .. }) {
        return None;
    }
    if !cx.ready.has_been_ready() {
        cx.ready.state = State::New;
    } else if cx.now.instant.since(since) >= PATIENCE {
        return Some(become_ready(cx));
    } else {
        cx.ready.state = State::Copying { retry_at: cx.now.instant + RETRY, since };
    }
    None
}

/// A first copy from a ready peer is complete.
pub(in crate::node) fn copied(cx: &mut Context<'_>, records: u64) -> Option<Next> {
    if !cx.ready.wants_copy() || capacity::is_short(cx) || mutated!(NeverReady) {
        return None;
    }
    cx.ready.has_copied = true;
    for peer in cx.peers.iter_mut() {
        peer.is_foreign = false;
    }
    cx.note(Note::CopyDone { records });
    Some(become_ready(cx))
}

/// A peer says that we lack deletes that are forgotten: hide until all is compared.
pub(in crate::node) fn hide(cx: &mut Context<'_>) -> Next {
    if !matches!(cx.ready.state, State::Resetting) {
        cx.counters.resets_total += 1;
        cx.note(Note::Reset);
    }
    cx.ready.state = State::Resetting;
    Next::StageChanged
}

/// Everything has been compared with a peer.
pub(in crate::node) fn compared(cx: &mut Context<'_>) -> Option<Next> {
    if cx.ready.state != State::Resetting {
        return None;
    }
    cx.ready.has_copied = true;
    Some(become_ready(cx))
}

/// Tries again when it is time.
pub(in crate::node) fn due(cx: &mut Context<'_>) -> Option<Next> {
    if let State::Copying { retry_at, .. } = cx.ready.state
        && retry_at <= cx.now.instant
    {
        return first_copy(cx);
    }
    None
}

/// A whole digest of `from` tells its stage: who is new may copy from it, and a founder that
/// meets a cluster with data joins that one. Then is the time for a first copy.
pub(in crate::node) fn told(cx: &mut Context<'_>, digest: &Digest) -> Option<Next> {
    let (from, stage) = (OriginId(digest.from), digest.stage);
    let has_folded = digest.folded != 0 && digest.folded != cx.known.folded_hash();
    // A founder that is already about to copy from one of a foreign cluster learns who else is.
    let founder = cx.ready.has_founded && !cx.ready.has_copied;
    let is_lone = founder && !cx.ready.has_served;
    let serves = cx.ready.state == State::Ready;
    let me = cx.me;
    let peer = cx.peers.get_mut(from)?;
    // One that was new may have copied from elsewhere.
    let was_ready = peer.told_at.is_some() && peer.has_copies();
    let was_new = peer.is_new_within(cx.now.instant, FOUNDED_TOGETHER);
    peer.told_at = Some(cx.now.instant);
    peer.stage = stage.map(Stage::of).or(peer.stage);
    peer.came_new |= peer.stage == Some(Stage::New);
    if peer.came_new {
        cx.known.put_above_floor(from);
    }
    let is_ready = peer.is_ready();
    if !was_ready && is_lone && is_ready {
        let heads: Vec<(OriginId, u64)> =
            peer.heads.iter().map(|(origin, through)| (*origin, *through)).collect();
        let lacks = |(origin, through): &(OriginId, u64)| {
            *origin != me && !cx.known.covers_through(*origin, *through)
        };
        // One that tells no stage may be as new as it is full of what clients wrote to it.
        let holds_other = stage.is_some() && (has_folded || heads.iter().any(lacks));
        // Who was new a moment ago has founded as this node has. What it holds since is on its way.
        let is_of_ours = was_new && stage.map(Stage::of) == Some(Stage::Founded);
        let is_foreign = holds_other && !is_of_ours;
        if let Some(peer) = cx.peers.get_mut(from) {
            peer.is_foreign = is_foreign;
        }
    }
    if founder && serves && is_ready {
        return yield_to(cx, from);
    }
    None
}

/// Joins the cluster of a foreign peer, unless that peer is the one to join ours.
fn yield_to(cx: &mut Context<'_>, from: OriginId) -> Option<Next> {
    let peer = cx.peers.get(from)?;
    let first = peer.stage() != Some(Stage::Founded) || from < cx.me;
    if peer.is_foreign && first && !mutated!(NeverYield) {
        cx.note(Note::Merging { with: peer.info.name.to_string() });
        cx.ready.state = State::Copying { retry_at: cx.now.instant, since: cx.now.instant };
        return Some(Next::StageChanged);
    }
    None
}

fn become_ready(cx: &mut Context<'_>) -> Next {
    cx.ready.state = State::Ready;
    cx.ready.was_set_back = false;
    Next::StageChanged
}
