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

use super::Replication;
use super::message::{KvMessage, Want};
use super::peers::Peer;
use crate::kv::OriginId;
use crate::limits::{GAPS_MAX, WANTED_WRITES_MAX};
use crate::mutation::mutated;
use crate::time::{Instant, Now};
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
pub(super) struct Gaps {
    gaps: BTreeMap<OriginId, Gap>,
    pub(super) wants_total: u64,
    pub(super) given_up_total: u64,
    pub(super) refused_total: u64,
}

impl Gaps {
    pub(super) fn deadline(&self) -> Instant {
        self.gaps.values().map(|gap| gap.due).min().unwrap_or(Instant::NEVER)
    }

    /// Whether nothing is missing that could be had.
    pub(super) fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Whether writes of `of` are being asked for.
    pub(super) fn is_asking(&self, of: OriginId) -> bool {
        self.gaps.contains_key(&of)
    }

    pub(super) fn len(&self) -> usize {
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

impl Replication {
    /// Notes holes that the last push from `from` left in `of`'s writes.
    pub(super) fn note_holes(&mut self, now: Now, of: OriginId, from: OriginId) {
        let (contiguous, highest) =
            (self.shared.known.contiguous(of), self.shared.known.highest(of));
        if contiguous < highest {
            let delay = if self.is_direct() { HOLE_DELAY } else { RUMOR_DELAY };
            self.gaps.note(of, highest, from, now.instant + delay, contiguous);
        }
    }

    /// How long what a digest claims may stay ahead of us: the writes may be on their way. With
    /// many members, not those that a beacon offers.
    pub(super) fn claim_delay(&self, whole: bool) -> Duration {
        match (self.is_direct(), whole) {
            (true, _) => CLAIM_DELAY,
            (false, true) => RUMOR_DELAY,
            (false, false) => HOLE_DELAY,
        }
    }

    /// Notes that `from` holds `of`'s writes up to `through`, to be asked for after `delay`.
    pub(super) fn note_claim(
        &mut self,
        now: Now,
        of: OriginId,
        through: u64,
        from: OriginId,
        delay: Duration,
    ) {
        let contiguous = self.shared.known.contiguous(of);
        if of == self.shared.me || of.0 == 0 || contiguous >= through {
            return;
        }
        self.gaps.note(of, through, from, now.instant + delay, contiguous);
    }

    /// Asks for what is still missing when its time has come.
    pub(super) fn gaps_due(&mut self, now: Now) {
        let due: Vec<OriginId> = self
            .gaps
            .gaps
            .iter()
            .filter(|(_, gap)| gap.due <= now.instant)
            .map(|(of, _)| *of)
            .collect();
        for of in due {
            self.gap_due(now, of);
        }
    }

    fn gap_due(&mut self, now: Now, of: OriginId) {
        let contiguous = self.shared.known.contiguous(of);
        let Some(gap) = self.gaps.gaps.get_mut(&of) else { return };
        if contiguous >= gap.through {
            self.gaps.gaps.remove(&of);
            return;
        }
        if contiguous > gap.contiguous {
            gap.tries = 0;
            gap.contiguous = contiguous;
        }
        if contiguous >= gap.through_due {
            // What was missing has come; newer claims get their own delay.
            gap.through_due = gap.through;
            gap.tries = 0;
            gap.due = now.instant + CLAIM_DELAY;
            return;
        }
        if gap.tries > WANTS_MAX && !self.is_claimed(of, contiguous) {
            self.gaps.gaps.remove(&of);
            self.gaps.given_up_total += 1;
            return;
        }
        let Some(gap) = self.gaps.gaps.get_mut(&of) else { return };
        gap.through_due = gap.through;
        let (through, from, tries) = (gap.through_due, gap.from, gap.tries);
        gap.tries += 1;
        let holder = self.holder(of, through, from, tries);
        let asked = holder.and_then(|holder| self.shared.peers.get(holder));
        // Who cannot be dialled has nothing large to answer with, and what was had from it by way
        // of others says nothing of its round trip: the next one is asked soon.
        let asked = asked.filter(|peer| !peer.paths.is_doubtful());
        let wait = asked.map_or(ANSWER_WAIT, |peer| ANSWER_WAIT.max(peer.answer_wait()));
        if let Some(gap) = self.gaps.gaps.get_mut(&of) {
            gap.due = now.instant + (wait * (1 << tries.min(6))).min(ANSWER_WAIT_MAX);
        }
        if let Some(holder) = holder {
            self.ask_for(now, of, through, holder, tries);
        }
    }

    /// Whether a reachable peer says to hold more of `of` than we do without a gap.
    fn is_claimed(&self, of: OriginId, contiguous: u64) -> bool {
        self.shared.peers.reachable().any(|peer| peer.head(of) > contiguous)
    }

    fn ask_for(&mut self, now: Now, of: OriginId, through: u64, holder: OriginId, tries: u32) {
        let ranges = self.shared.known.gaps(of, through, RANGES_MAX);
        let n_missing: u64 = ranges.iter().map(|(start, end)| end - start + 1).sum();
        if n_missing == 0 || mutated!(NeverAsk) {
            return;
        }
        if n_missing > WANTED_WRITES_MAX as u64 || tries >= WANTS_MAX {
            self.start_pull(now, holder);
            return;
        }
        self.gaps.wants_total += 1;
        let want = KvMessage::Want(Want { from: self.shared.me.0, of: of.0, ranges });
        // In vain so far: datagrams may not arrive there, or not come back.
        if tries >= LINK_TRIES && self.cx(now).link_send(holder, want.encode()) {
            return;
        }
        self.cx(now).send(holder, &want);
    }

    /// Whom to ask: who told us, then the writer itself, then anybody who may hold it.
    fn holder(
        &mut self,
        of: OriginId,
        through: u64,
        from: OriginId,
        tries: u32,
    ) -> Option<OriginId> {
        let reachable =
            |origin: OriginId| self.shared.peers.get(origin).is_some_and(|p| p.info.reachable);
        if tries == 0 && reachable(from) {
            return Some(from);
        }
        if tries == 1 && reachable(of) {
            return Some(of);
        }
        // Both have been asked: rather somebody else, and nobody who cannot be dialled.
        let is_other = |peer: &&Peer| {
            let origin = peer.info.origin;
            origin != from && origin != of && !peer.paths.is_doubtful()
        };
        let holds = |peer: &&Peer| peer.head(of) >= through;
        let others = self.shared.peers.reachable().filter(is_other);
        let holders = self.shared.peers.reachable().filter(|p| holds(p) || p.info.origin == from);
        let mut able: Vec<OriginId> = others.filter(holds).map(|peer| peer.info.origin).collect();
        if able.is_empty() && tries == 2 && self.is_direct() {
            // Each of them has got it from its writer, or asks as we do.
            let others = self.shared.peers.reachable().filter(is_other);
            able = others.map(|peer| peer.info.origin).collect();
        }
        if able.is_empty() || tries % 2 == 1 {
            able = holders.map(|peer| peer.info.origin).collect();
        }
        if able.is_empty() {
            return self.shared.peers.draw(1, &mut self.shared.rng).pop();
        }
        Some(able[self.shared.rng.below(able.len())])
    }
}
