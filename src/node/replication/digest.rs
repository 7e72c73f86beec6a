//! Digests: what a node holds, told to a random peer every second, and what follows from one.
//!
//! A digest acknowledges our writes, shows gaps, lets tombstones and origins be let go of, and
//! where two nodes agree on every write their root hashes must agree: if not, twice in a row, the
//! buckets are compared.

use super::Replication;
use super::known::{Claims, FoldedHash, covered_hash};
use super::message::{Digest, Folded, KvMessage, MessageError, format_of};
use super::next::Next;
use super::paths::Via;
use crate::kv::{Dot, OriginId};
use crate::mutation::mutated;
use crate::node::formats::Formats;
use crate::rng::Rng;
use crate::time::{Instant, Now};
use bytes::Bytes;
use std::time::Duration;

/// Time between two digests, and the width of its jitter.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(900), Duration::from_millis(200));
/// Least time between two tellings of our folded origins to one peer.
const FOLDED_INTERVAL: Duration = Duration::from_secs(1);
/// The root hash of a digest whose sender holds more than its heads say.
const ROOT_UNTOLD: u64 = 0;
/// Disagreements in a row before the buckets are compared.
const DIVERGED_MAX: u32 = 2;

/// When the next one goes out.
#[derive(Debug)]
pub(super) struct Digests {
    next: Instant,
    pub(super) sent_total: u64,
}

impl Digests {
    pub(super) fn new(now: Instant, rng: &mut Rng) -> Digests {
        Digests { next: now + rng.duration_below(INTERVAL.0), sent_total: 0 }
    }

    /// The first peer is here: tell it at once.
    pub(super) fn soon(&mut self, now: Instant) {
        self.next = now;
    }

    pub(super) fn deadline(&self, any_peer: bool) -> Instant {
        if any_peer { self.next } else { Instant::NEVER }
    }
}

impl Replication {
    /// Whether our heads say all that we hold: no write past a gap that may still be filled, no
    /// bulk copy under way. Only then does our hash follow from them.
    fn is_exact(&self) -> bool {
        self.gaps.is_empty() && !self.pulls.is_active()
    }

    /// What we hold now. Encoded, it is also the user state of a push-pull between our kind.
    pub(super) fn digest(&self, reply: bool) -> Digest {
        Digest {
            from: self.shared.me.0,
            heads: self.shared.known.heads(self.shared.store.last_seq()),
            root: if self.is_exact() { self.shared.store.root() } else { ROOT_UNTOLD },
            folded: self.shared.known.folded_hash(),
            reply,
            whole: true,
            stage: Some(self.shared.ready.stage().code()),
        }
    }

    /// The digest as the user state of a push-pull with a member that speaks `theirs`; nothing when
    /// no format is shared.
    #[must_use]
    pub fn user_state(&self, theirs: Formats) -> Bytes {
        let digest = || KvMessage::Digest(self.digest(false));
        let common = self.shared.config.formats.common(theirs);
        let payload = common.and_then(|common| digest().payload_for(common));
        payload.map(|payload| payload.join()).unwrap_or_default()
    }

    /// The user state that answers that of a push-pull, in the format it is in: who has asked may
    /// not be known yet.
    #[must_use]
    pub fn answer_state(&self, asked: &Bytes) -> Bytes {
        let format = format_of(asked);
        format.map_or_else(Bytes::new, |format| self.user_state(Formats::only(format)))
    }

    /// The user state of a peer's push-pull.
    pub fn merge_user_state(&mut self, now: Now, from: std::net::SocketAddr, state: &Bytes) {
        match self.read(state).map(|read| read.message) {
            Ok(KvMessage::Digest(digest)) => {
                self.digested(now, &digest, Via::Exchange, state.len());
            }
            Ok(_) => self.unreadable("user state is no digest", from),
            Err(MessageError::Kind(_)) => {}
            Err(error) => self.unreadable(&error.to_string(), from),
        }
    }

    pub(super) fn digest_due(&mut self, now: Now) {
        if self.digests.next > now.instant || self.shared.peers.n_reachable() == 0 {
            return;
        }
        let interval = if mutated!(Chatty) { INTERVAL.0 / 50 } else { INTERVAL.0 };
        self.digests.next = now.instant + interval + self.shared.rng.duration_below(INTERVAL.1);
        self.greet(now);
        self.digests.sent_total += 1;
        self.tell_digest(now);
        self.cx(now).try_blocked();
    }

    /// A digest of `len` bytes arrived.
    pub(super) fn digested(&mut self, now: Now, digest: &Digest, via: Via, len: usize) {
        let from = OriginId(digest.from);
        if digest.from == self.shared.me.0 {
            return;
        }
        self.cx(now).heard_via(from, via);
        self.digest_came(now, digest, via, len);
        for &(of, through) in &digest.heads {
            if OriginId(of) == self.shared.me {
                self.acknowledged(now, from, through);
            } else {
                let cx = &self.shared.lend(now, &mut self.links);
                self.gaps.note_claim(cx, OriginId(of), through, from, digest.whole);
            }
        }
        let Some(peer) = self.shared.peers.get_mut(from) else { return };
        peer.holds(&digest.heads);
        if digest.whole && digest.folded == self.shared.known.folded_hash() {
            peer.folded_held = Some(digest.folded);
        }
        if digest.reply {
            self.answer_digest(now, digest, via);
        }
        if digest.whole {
            self.stage_told(now, digest);
            self.absence_ends(now, from);
            self.compare(now, digest);
        }
    }

    /// To a beacon just the acknowledgement, to a whole digest ours.
    fn answer_digest(&mut self, now: Now, digest: &Digest, via: Via) {
        let from = OriginId(digest.from);
        let answer =
            if digest.whole { self.digest(false) } else { self.cx(now).beacon_digest(from, false) };
        self.cx(now).answer_via(from, via, &KvMessage::Digest(answer));
    }

    /// Where two nodes agree on every write, their hashes must agree. Both see when they do not;
    /// the one that has asked for the other's digest begins the comparison, so that not both do.
    fn compare(&mut self, now: Now, digest: &Digest) {
        let from = OriginId(digest.from);
        if digest.folded != self.shared.known.folded_hash() {
            self.tell_folded(now, from);
        }
        // Who has folded what must not matter: one may remember a dead member for a day longer.
        let heads = self.shared.known.heads(self.shared.store.last_seq());
        let ours = self.shared.known.covered_hash(&heads);
        let theirs = covered_hash(self.covered_folds(from, digest.folded), &digest.heads);
        let comparable = self.is_exact() && digest.root != ROOT_UNTOLD;
        let differ = comparable && ours == theirs && digest.root != self.shared.store.root();
        if comparable && ours == theirs && !differ {
            self.shared.known.trust();
        }
        let Some(peer) = self.shared.peers.get_mut(from) else { return };
        if !differ {
            peer.diverged = 0;
            return;
        }
        peer.diverged += 1;
        if peer.diverged >= DIVERGED_MAX && !digest.reply {
            peer.diverged = 0;
            let agreed = Claims::new(&heads, &self.shared.known.folded_list());
            let next = Next::Compare { peer: from, agreed: Some(agreed), first: None };
            self.follow(now, next);
        }
    }

    /// What a peer covers by its folded origins, of which it has told the hash. It tells the list
    /// where that hash is not ours.
    fn covered_folds(&self, from: OriginId, told: u64) -> u64 {
        let listed = self.shared.peers.get(from).map(|peer| peer.folded_listed);
        let known = [Some(self.shared.known.folded_sums()), listed].into_iter().flatten();
        let mut matching = known.filter(|sums| sums.all == told);
        matching.next().map_or(told, FoldedHash::covered)
    }

    /// Tells a peer whose folded origins are not ours what ours are.
    fn tell_folded(&mut self, now: Now, to: OriginId) {
        let list = self.shared.known.folded_list();
        let Some(peer) = self.shared.peers.get_mut(to) else { return };
        let told_lately =
            peer.folded_told.is_some_and(|at| now.instant.since(at) < FOLDED_INTERVAL);
        if list.is_empty() || told_lately {
            return;
        }
        peer.folded_told = Some(now.instant);
        let folded = Folded { from: self.shared.me.0, list };
        self.cx(now).send(to, &KvMessage::Folded(folded));
    }

    /// A peer has folded origins: every member it knew held all of them. So what we lack of them
    /// we ask it for, and what we hold whole we fold too.
    pub(super) fn folded(&mut self, now: Now, folded: &Folded) {
        let from = OriginId(folded.from);
        for &(of, last, forgotten) in &folded.list {
            let of = OriginId(of);
            if of == self.shared.me {
                // It has folded us while we were cut off: it holds so much of ours.
                self.acknowledged(now, from, last);
                continue;
            }
            if self.shared.known.covers_through(of, last) {
                if !self.shared.known.is_folded(of)
                    && !self.shared.peers.is_member(of)
                    && !self.gaps.is_asking(of)
                {
                    self.shared.known.fold(of);
                }
            } else {
                let cx = &self.shared.lend(now, &mut self.links);
                self.gaps.note_claim(cx, of, last, from, true);
            }
            self.shared.known.take_mark(of, forgotten);
        }
        let theirs = Claims::new(&Vec::new(), &folded.list);
        let Some(peer) = self.shared.peers.get_mut(from) else { return };
        peer.folded_listed = FoldedHash::of(&folded.list);
        let holds = |dot: Dot| theirs.covers(dot) || peer.head(dot.origin) >= dot.seq;
        if self.shared.known.folded_within(holds) {
            peer.folded_held = Some(self.shared.known.folded_hash());
        }
    }
}
