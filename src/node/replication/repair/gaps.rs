//! Writes that must exist and have not come: asked for after some milliseconds.
//!
//! ```text
//! hole in the vector, or a digest that claims more
//!    --delay--> still missing? --few--> want, by datagram, again with backoff from others
//!                              --many, or asked in vain--> pull, by link
//! ```
//!
//! What no reachable peer says to hold is lost with its holders, or comes back with one: after some
//! vain tries a gap is given up until somebody claims it again.
//!
//! The delay lets packets under way arrive. A gap is judged by what was claimed when it was noted,
//! so that a stream of new writes does not look like one long gap.

use crate::kv::OriginId;
use crate::limits::{GAPS_MAX, WANTED_WRITES_MAX};
use crate::mutation::mutated;
use crate::node::replication::capacity;
use crate::node::replication::context::Context;
use crate::node::replication::facts::known::is_run;
use crate::node::replication::facts::peers::Peer;
use crate::node::replication::message::{KvMessage, Want};
use crate::node::replication::next::Next;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a hole may stay open where writes come straight from their writer.
const HOLE_DELAY: Duration = Duration::from_millis(3);
/// How long a claim may stay ahead of us, and a hole where writes spread as rumors.
const CLAIM_DELAY: Duration = Duration::from_millis(15);
const RUMOR_DELAY: Duration = Duration::from_millis(60);
/// First wait for an answer to a want, or a round trip where that is longer; it doubles.
const ANSWER_WAIT: Duration = Duration::from_millis(12);
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
/// Wants in vain before one goes over a link.
const LINK_TRIES: u32 = 2;
/// Wants in vain before a pull.
const WANTS_MAX: u32 = 4;
/// Ranges of one want; the rest follows when they are filled.
const RANGES_MAX: usize = 60;

#[derive(Debug)]
struct Gap {
    /// Judged up to here when due.
    through_due: u64,
    /// Known to exist.
    through: u64,
    /// Who says so.
    from: OriginId,
    due: Instant,
    tries: u32,
    /// Held when last judged: more now is progress.
    contiguous: u64,
}

/// All gaps, by whose writes they are.
#[derive(Debug, Default)]
pub(in crate::node) struct Gaps {
    gaps: BTreeMap<OriginId, Gap>,
    pub(in crate::node) wants_total: u64,
    pub(in crate::node) given_up_total: u64,
    pub(in crate::node) refused_total: u64,
}

impl Gaps {
    pub(in crate::node) fn deadline(&self) -> Instant {
        self.gaps.values().map(|gap| gap.due).min().unwrap_or(Instant::NEVER)
    }

    /// Whether nothing is missing that could be had.
    pub(in crate::node) fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Whether writes of `of` are being asked for.
    pub(in crate::node) fn is_asking(&self, of: OriginId) -> bool {
        self.gaps.contains_key(&of)
    }

    pub(in crate::node) fn len(&self) -> usize {
        self.gaps.len()
    }

    /// One for which there is no room is told of again: digests repeat what they claim.
    fn note(&mut self, of: OriginId, through: u64, from: OriginId, due: Instant, contiguous: u64) {
        if self.gaps.len() >= GAPS_MAX && !self.gaps.contains_key(&of) {
            self.refused_total += 1;
            return;
        }
        let gap = self.gaps.entry(of).or_insert(Gap {
            through_due: through,
            through,
            from,
            due,
            tries: 0,
            contiguous,
        });
        if through > gap.through {
            gap.through = through;
            gap.from = from;
        }
    }
}

impl Gaps {
    /// Notes holes that the last push from `from` left in `of`'s writes.
    pub(in crate::node) fn note_holes(&mut self, cx: &Context<'_>, of: OriginId, from: OriginId) {
        let (contiguous, highest) = (cx.known.contiguous(of), cx.known.highest(of));
        if contiguous < highest {
            let delay = if cx.is_direct() { HOLE_DELAY } else { RUMOR_DELAY };
            self.note(of, highest, from, cx.now.instant + delay, contiguous);
        }
    }

    /// Notes that `from` holds `of`'s writes up to `through`, to be asked for after a while.
    /// `whole` is that it is a whole digest that says so.
    pub(in crate::node) fn note_claim(
        &mut self,
        cx: &Context<'_>,
        of: OriginId,
        through: u64,
        from: OriginId,
        whole: bool,
    ) {
        let contiguous = cx.known.contiguous(of);
        if of == cx.me || !is_run(of) || contiguous >= through {
            return;
        }
        let delay = claim_delay(cx, whole);
        self.note(of, through, from, cx.now.instant + delay, contiguous);
    }

    /// Whose missing writes are to be looked at now.
    pub(in crate::node) fn due(&self, now: Instant) -> Vec<OriginId> {
        let due = self.gaps.iter().filter(|(_, gap)| gap.due <= now);
        due.map(|(of, _)| *of).collect()
    }

    /// Asks for what is still missing of a writer. Much is copied instead, and what has
    /// been asked for in vain.
    pub(in crate::node) fn ask(&mut self, cx: &mut Context<'_>, of: OriginId) -> Option<Next> {
        let contiguous = cx.known.contiguous(of);
        let gap = self.gaps.get_mut(&of)?;
        // Less than before: it has been let go of meanwhile, and all of it was held.
        if contiguous >= gap.through || contiguous < gap.contiguous {
            self.gaps.remove(&of);
            return None;
        }
        if contiguous > gap.contiguous {
            gap.tries = 0;
            gap.contiguous = contiguous;
        }
        if contiguous >= gap.through_due {
            // What was missing has come; newer claims get their own delay.
            gap.through_due = gap.through;
            gap.tries = 0;
            gap.due = cx.now.instant + CLAIM_DELAY;
            return None;
        }
        if gap.tries > WANTS_MAX && !is_claimed(cx, of, contiguous) {
            self.gaps.remove(&of);
            self.given_up_total += 1;
            return None;
        }
        let gap = self.gaps.get_mut(&of)?;
        gap.through_due = gap.through;
        let (through, from, tries) = (gap.through_due, gap.from, gap.tries);
        gap.tries += 1;
        let holder = holder(cx, of, through, from, tries);
        let asked = holder.and_then(|holder| cx.peers.get(holder));
        // Who cannot be dialled has nothing large to answer with, and what was had from it by way
        // of others says nothing of its round trip: the next one is asked soon.
        let asked = asked.filter(|peer| !peer.paths.is_doubtful());
        let wait = asked.map_or(ANSWER_WAIT, |peer| ANSWER_WAIT.max(peer.answer_wait()));
        if let Some(gap) = self.gaps.get_mut(&of) {
            gap.due = cx.now.instant + (wait * (1 << tries.min(6))).min(ANSWER_WAIT_MAX);
        }
        self.ask_for(cx, of, through, holder?, tries)
    }

    fn ask_for(
        &mut self,
        cx: &mut Context<'_>,
        of: OriginId,
        through: u64,
        holder: OriginId,
        tries: u32,
    ) -> Option<Next> {
        if capacity::is_short(cx) {
            return None;
        }
        let ranges = cx.known.gaps(of, through, RANGES_MAX);
        let n_missing: u64 = ranges.iter().map(|(start, end)| end - start + 1).sum();
        if n_missing == 0 || mutated!(NeverAsk) {
            return None;
        }
        if n_missing > WANTED_WRITES_MAX as u64 || tries >= WANTS_MAX {
            return Some(Next::Pull(holder));
        }
        self.wants_total += 1;
        let want = KvMessage::Want(Want { from: cx.me.0, of: of.0, ranges });
        // In vain so far: datagrams may not arrive there, or not come back.
        if tries >= LINK_TRIES && cx.link_send(holder, want.encode()) {
            return None;
        }
        cx.send(holder, &want);
        None
    }
}

/// Whether a reachable peer says to hold more of `of` than we do without a gap.
fn is_claimed(cx: &Context<'_>, of: OriginId, contiguous: u64) -> bool {
    cx.peers.reachable().any(|peer| peer.head(of) > contiguous)
}

/// Whom to ask: who told us, then the writer itself, then anybody who may hold it.
fn holder(
    cx: &mut Context<'_>,
    of: OriginId,
    through: u64,
    from: OriginId,
    tries: u32,
) -> Option<OriginId> {
    if tries == 0 && cx.peers.is_reachable(from) {
        return Some(from);
    }
    if tries == 1 && cx.peers.is_reachable(of) {
        return Some(of);
    }
    // Both have been asked: rather somebody else, and nobody who cannot be dialled.
    let is_other = |peer: &&Peer| {
        let origin = peer.info.origin;
        origin != from && origin != of && !peer.paths.is_doubtful()
    };
    // Where a write in between is lost nobody holds all: whoever holds most of the rest.
    let heads = cx.peers.reachable().filter(is_other).map(|peer| peer.head(of));
    let most = heads.max().unwrap_or(0).max(cx.known.contiguous(of) + 1);
    let holds = |peer: &&Peer| peer.head(of) >= through.min(most);
    let others = cx.peers.reachable().filter(is_other);
    let holders = cx.peers.reachable().filter(|p| holds(p) || p.info.origin == from);
    let mut able: Vec<OriginId> = others.filter(holds).map(|peer| peer.info.origin).collect();
    if able.is_empty() && tries == 2 && cx.is_direct() {
        // Each of them has got it from its writer, or asks as we do.
        let others = cx.peers.reachable().filter(is_other);
        able = others.map(|peer| peer.info.origin).collect();
    }
    if able.is_empty() || tries % 2 == 1 {
        able = holders.map(|peer| peer.info.origin).collect();
    }
    if able.is_empty() {
        return cx.peers.draw(1, cx.rng).pop();
    }
    Some(able[cx.rng.below(able.len())])
}

/// How long what a digest claims may stay ahead of us: the writes may be on their way. With
/// many members, not those that a beacon offers.
fn claim_delay(cx: &Context<'_>, whole: bool) -> Duration {
    match (cx.is_direct(), whole) {
        (true, _) => CLAIM_DELAY,
        (false, true) => RUMOR_DELAY,
        (false, false) => HOLE_DELAY,
    }
}
