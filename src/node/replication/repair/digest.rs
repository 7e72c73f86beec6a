//! Digests: what a node holds, told to a random peer every second, and what follows from one.
//!
//! A digest acknowledges our writes, shows gaps, lets tombstones and origins be let go of, and
//! where two nodes agree on every write their root hashes must agree: if not, twice in a row, the
//! buckets are compared.

use crate::kv::OriginId;
use crate::mutation::mutated;
use crate::node::replication::capacity;
use crate::node::replication::context::Context;
use crate::node::replication::facts::floor::FLOOR;
use crate::node::replication::facts::folds::{FoldedHash, covered_hash};
use crate::node::replication::facts::known::Claims;
use crate::node::replication::facts::paths::Via;
use crate::node::replication::facts::shared_folds::{FoldedThere, FoldedTold};
use crate::node::replication::floor;
use crate::node::replication::message::{Digest, Folded, Heads, KvMessage};
use crate::node::replication::next::Next;
use crate::rng::Rng;
use crate::time::Instant;
use std::borrow::Cow;
use std::time::Duration;

/// Time between two digests, and the width of its jitter.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(900), Duration::from_millis(200));
/// Least and longest time between two tellings of our folded origins to one peer: it doubles while
/// neither side folds anything.
const FOLDED_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));
/// Between two tellings of all of them to one peer that takes a part: ten times the least, and so
/// much for each.
const FOLDED_PAUSE: Duration = Duration::from_millis(20);
/// The root hash of a digest whose sender holds more than its heads say.
const ROOT_UNTOLD: u64 = 0;
/// Disagreements in a row before the buckets are compared.
const DIVERGED_MAX: u32 = 2;

/// Peers told over links at once that they should use them.
const TOLD_BY_LINK: usize = 4;
/// Most peers told at once that this node's stage has changed; the others hear it by digests.
const STAGE_TOLD_MAX: usize = 64;

/// When the next one goes out.
#[derive(Debug)]
pub(in crate::node) struct Digests {
    next: Instant,
    pub(in crate::node) sent_total: u64,
}

impl Digests {
    pub(in crate::node) fn new(now: Instant, rng: &mut Rng) -> Digests {
        Digests { next: now + rng.duration_below(INTERVAL.0), sent_total: 0 }
    }

    /// The first peer is here: tell it at once.
    pub(in crate::node) fn soon(&mut self, now: Instant) {
        self.next = now;
    }

    /// Whether it is time to tell one; then the next one is set.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) -> bool {
        if self.next > cx.now.instant || cx.peers.n_reachable() == 0 {
            return false;
        }
        let interval = if mutated!(Chatty) { INTERVAL.0 / 50 } else { INTERVAL.0 };
        self.next = cx.now.instant + interval + cx.rng.duration_below(INTERVAL.1);
        true
    }

    /// Tells a digest to a drawn peer, and over links when datagrams seem to reach nobody.
    pub(in crate::node) fn tell(&mut self, cx: &mut Context<'_>, is_exact: bool) {
        self.sent_total += 1;
        let digest = whole(cx, is_exact, true);
        let told = |to| KvMessage::Digest(digest.clone().for_run(to)).encode();
        if cx.unanswered.is_mute() {
            for origin in cx.peers.draw(TOLD_BY_LINK, cx.rng) {
                cx.link_send(origin, told(origin));
            }
        }
        let Some(origin) = cx.peers.draw(1, cx.rng).pop() else { return };
        let payload = told(origin);
        // Who only asks for links hears no digest over them: it would take that for our asking.
        let paths = cx.peers.get(origin).map(|peer| &peer.paths);
        if payload.len() > cx.room || paths.is_some_and(|paths| paths.udp_blocked) {
            cx.link_send(origin, payload);
            return;
        }
        cx.unanswered.told();
        cx.send_datagram(&[origin], vec![payload]);
        #[cfg(feature = "next-format")]
        cx.play(origin);
    }

    pub(in crate::node) fn deadline(&self, any_peer: bool) -> Instant {
        if any_peer { self.next } else { Instant::NEVER }
    }
}

/// What we hold now. Encoded, it is also the user state of a push-pull between our kind. `is_exact`
/// is that our heads say all that we hold: no write past a gap that may still be filled, no bulk
/// copy under way. Only then does our hash follow from them.
pub(in crate::node) fn whole(cx: &Context<'_>, is_exact: bool, reply: bool) -> Digest {
    Digest {
        from: cx.me.0,
        heads: cx.known.heads(cx.store.last_seq()),
        root: if is_exact { cx.store.root() } else { ROOT_UNTOLD },
        folded: cx.known.folded_hash(),
        reply,
        whole: true,
        stage: Some(cx.ready.stage().code()),
        limit: capacity::told(cx),
        to: None,
        at: Some(cx.now.instant.as_millis()),
        covered: Some(cx.known.folded_sums().covered()),
        floor: Some(cx.known.floor()),
    }
}

/// Asks these peers for their digests, by ours.
pub(in crate::node) fn ask(cx: &mut Context<'_>, is_exact: bool, peers: &[OriginId]) {
    for peer in peers {
        let digest = whole(cx, is_exact, true).for_run(*peer);
        cx.send(*peer, &KvMessage::Digest(digest));
    }
}

/// Tells peers at once how far this node has come, so that nobody waits for it, or copies from it,
/// in vain. One that has become ready asks those for theirs of whom it has heard none: it takes
/// writes from now on, and has to know the limits that these have to keep to.
pub(in crate::node) fn tell_stage(cx: &mut Context<'_>, is_exact: bool) {
    let is_ready = cx.ready.stage().is_ready();
    for peer in cx.peers.draw(STAGE_TOLD_MAX, cx.rng) {
        let is_unheard = cx.peers.get(peer).is_some_and(|peer| peer.told_at.is_none());
        let asks = is_ready && is_unheard;
        let digest = whole(cx, is_exact, asks).for_run(peer);
        cx.send(peer, &KvMessage::Digest(digest));
    }
}

/// Whether a digest is for this run. A late copy, or one that somebody has kept and sends again,
/// may be for an earlier one at this address, from when its sender was new.
pub(in crate::node) fn is_for(me: OriginId, digest: &Digest) -> bool {
    digest.to.is_none_or(|to| to == me.0)
}

/// What a digest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum Heard {
    /// Of nobody that is known as a peer.
    Stranger,
    /// Of a peer that has said something later since: it holds all that it held then, and whatever
    /// else it said of itself is over.
    Earlier,
    /// Of a peer, as it is.
    News,
}

/// What of the heads of a digest counts. Runs that have been let go of may stand in one that
/// somebody has kept, or that comes late, or whose teller has yet to cut its list as we have.
pub(in crate::node) fn heads<'d>(cx: &Context<'_>, digest: &'d Digest) -> Cow<'d, Heads> {
    let peer = cx.peers.get(OriginId(digest.from));
    let is_late = |as_of| digest.at.is_some_and(|at| at < as_of);
    let is_late = peer.is_some_and(|peer| is_late(peer.told_as_of));
    let theirs = digest.floor.or_else(|| peer.and_then(|peer| peer.floor));
    let is_behind = theirs.is_some_and(|theirs| theirs < cx.known.floor());
    if cx.known.floor() == 0 || !(is_late || is_behind) {
        return Cow::Borrowed(&digest.heads);
    }
    let heads = digest.heads.iter().filter(|(of, _)| !floor::may_be_over(cx, OriginId(*of)));
    Cow::Owned(heads.copied().collect())
}

/// Notes what a peer says to hold: these heads of its digest.
pub(in crate::node) fn heard(cx: &mut Context<'_>, digest: &Digest, heads: &Heads) -> Heard {
    let Some(peer) = cx.peers.get_mut(OriginId(digest.from)) else { return Heard::Stranger };
    peer.holds(heads);
    if !digest.whole {
        return Heard::News;
    }
    if digest.at.is_some_and(|at| at < peer.told_as_of) {
        return Heard::Earlier;
    }
    digest.at.into_iter().for_each(|at| peer.tells_as_of(cx.now.instant, at));
    peer.limit = digest.limit;
    peer.folded_hash = Some(digest.folded);
    peer.takes_parts = digest.covered.is_some();
    peer.floor = digest.floor;
    if digest.floor.is_some_and(|floor| floor > 0 && floor == cx.known.floor()) {
        peer.names_no_others(cx.known, &digest.heads);
    }
    let is_same = digest.folded == cx.known.folded_hash();
    if is_same {
        peer.holds_folded(cx.known);
        peer.folded_there = peer.takes_parts.then(|| FoldedThere::all(cx.known));
        agree_on_folds(cx);
    } else {
        // One that remembers a member that is dead counts with it, and has not folded it.
        peer.prove_folds(cx.known, &Claims::default());
        let there = peer.folded_there.take();
        peer.folded_there = there.and_then(|there| there.counts_with(cx.known, &digest.heads));
    }
    Heard::News
}

/// Notes the folded origins as those on which all members agree, if they do.
fn agree_on_folds(cx: &mut Context<'_>) {
    let hash = cx.known.folded_hash();
    if cx.peers.reachable().all(|peer| peer.folded_hash == Some(hash)) {
        cx.known.agree_on_folds(cx.moment(), cx.config.folded);
    }
}

/// To a beacon just the acknowledgement, to a whole digest ours.
pub(in crate::node) fn answer(cx: &mut Context<'_>, digest: &Digest, via: Via, is_exact: bool) {
    let from = OriginId(digest.from);
    let answer = match digest.whole {
        true => whole(cx, is_exact, false).for_run(from),
        false => cx.beacon_digest(from, false).for_run(from),
    };
    cx.answer_via(from, via, &KvMessage::Digest(answer));
}

/// Where two nodes agree on every write, their hashes must agree. Both see when they do not; the
/// one that has asked for the other's digest begins the comparison, so that not both do.
pub(in crate::node) fn compare(
    cx: &mut Context<'_>,
    digest: &Digest,
    is_exact: bool,
) -> Option<Next> {
    let from = OriginId(digest.from);
    if digest.folded != cx.known.folded_hash() {
        tell_folded(cx, from, digest.folded);
    }
    // Who has folded what must not matter: one may remember a dead member for a day longer.
    let heads = cx.known.heads(cx.store.last_seq());
    let ours = cx.known.covered_hash(&heads);
    let folded = digest.covered.unwrap_or_else(|| covered_folds(cx, from, digest.folded));
    let theirs = covered_hash(folded, &digest.heads);
    let comparable = is_exact && digest.root != ROOT_UNTOLD;
    let differ = comparable && ours == theirs && digest.root != cx.store.root();
    if comparable && ours == theirs && !differ {
        cx.known.trust();
    }
    let peer = cx.peers.get_mut(from)?;
    if !differ {
        peer.diverged = 0;
        return None;
    }
    peer.diverged += 1;
    if peer.diverged < DIVERGED_MAX || digest.reply {
        return None;
    }
    peer.diverged = 0;
    let agreed = Claims::new(&heads, &cx.known.folded_list());
    Some(Next::Compare { peer: from, agreed: Some(agreed), first: None })
}

/// What a peer covers by its folded origins that tells no more of them than the hash: an earlier
/// build, which tells the whole list where that hash is not ours.
fn covered_folds(cx: &Context<'_>, from: OriginId, told: u64) -> u64 {
    let listed = cx.peers.get(from).map(|peer| peer.folded_listed);
    let known = [Some(cx.known.folded_sums()), listed].into_iter().flatten();
    let mut matching = known.filter(|sums| sums.all == told);
    matching.next().map_or(told, FoldedHash::covered)
}

/// Tells a peer whose folded origins are not ours what is folded here and not known to be folded
/// there: after a year the whole list is tens of kilobytes, and two nodes may differ for the day
/// for which one of them remembers a dead member. All of it follows seldom, as by what a node tells
/// a peer knows that it holds those. `theirs` is the hash that it has told.
fn tell_folded(cx: &mut Context<'_>, to: OriginId, theirs: u64) {
    let (now, hashes) = (cx.now.instant, (cx.known.folded_hash(), theirs));
    let (least, longest) = FOLDED_INTERVAL;
    let whole_interval = least * 10 + FOLDED_PAUSE * cx.known.n_folded() as u32;
    let Some(peer) = cx.peers.get_mut(to) else { return };
    let told = peer.folded_told;
    let again = told.filter(|told| told.hashes == hashes);
    let is_whole_due = told.is_none_or(|told| now.since(told.whole_at) >= whole_interval);
    let wait = again.map_or(least, |told| told.wait);
    if !is_whole_due && told.is_some_and(|told| now.since(told.at) < wait) {
        return;
    }
    let there = peer.folded_there.as_ref().filter(|_| !is_whole_due);
    let (mut list, whole_at) = match (there, told) {
        (Some(there), Some(told)) => (there.rest(cx.known), told.whole_at),
        _ => (cx.known.folded_list(), now),
    };
    if list.is_empty() {
        return;
    }
    if list.iter().all(|(origin, ..)| *origin != FLOOR.0)
        && let Some(floor) = cx.known.folded(FLOOR)
    {
        // It says which of them are left out.
        list.push((FLOOR.0, floor.last, floor.forgotten));
    }
    let wait = again.map_or(least, |told| longest.min(2 * told.wait));
    peer.folded_told = Some(FoldedTold { at: now, wait, whole_at, hashes });
    let folded = Folded { from: cx.me.0, list };
    cx.send(to, &KvMessage::Folded(folded));
}

/// A peer has folded an origin of which we hold as much: we fold it too, unless more of it is being
/// asked for.
pub(in crate::node) fn fold_too(cx: &mut Context<'_>, of: OriginId, is_asking: bool) {
    if !cx.known.is_folded(of) && !cx.peers.is_member(of) && !is_asking {
        cx.known.fold(of);
    }
}

/// Notes what a peer has folded: the whole list, or what of it it does not know of us.
pub(in crate::node) fn folded(cx: &mut Context<'_>, folded: &Folded) {
    let theirs = Claims::new(&Vec::new(), &folded.list);
    let Some(peer) = cx.peers.get_mut(OriginId(folded.from)) else { return };
    peer.folded_listed = FoldedHash::of(&folded.list);
    let is_whole = peer.takes_parts && Some(peer.folded_listed.all) == peer.folded_hash;
    let there = peer.folded_there.take().or(is_whole.then(FoldedThere::default));
    peer.folded_there = there.and_then(|there| there.told(cx.known, &theirs));
    peer.prove_folds(cx.known, &theirs);
}
