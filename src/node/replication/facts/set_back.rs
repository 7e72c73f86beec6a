//! Whether this node was set back: a snapshot of its machine, or of its process, has been restored
//! while its peers went on. Then they hold more writes of this run than it has made.
//!
//! What it writes next would have numbers that others cover with other writes, so nobody would
//! take it, and all would say that they hold it. Only members can say so: a run's name is drawn at
//! its start, and what they say is sealed. One that lies makes this node compare its store, which
//! is harmless, now and then.

use crate::kv::{OriginId, SEQ_MAX};
use crate::time::Instant;
use std::time::Duration;

/// Least time between two renewals that peers' claims bring about.
const AGAIN: Duration = Duration::from_secs(600);

/// What a peer says to hold of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) struct Claim {
    /// Who says it.
    pub(in crate::node) by: OriginId,
    /// The number up to which it holds this run's writes.
    pub(in crate::node) through: u64,
    /// The last number that this run has given.
    pub(in crate::node) last: u64,
}

/// The claim that is to be followed, if any.
#[derive(Debug, Default)]
pub(in crate::node) struct SetBack {
    claim: Option<Claim>,
    /// When the next one counts.
    again: Instant,
}

impl SetBack {
    /// A peer holds more of this run than there is. False when that counts for nothing: it cannot
    /// be, or another claim has been followed of late.
    pub(in crate::node) fn claimed(&mut self, now: Instant, claim: Claim) -> bool {
        let counts = self.claim.is_some() || now >= self.again && claim.through <= SEQ_MAX;
        if counts {
            self.claim.get_or_insert(claim);
        }
        counts
    }

    /// The claim that is to be followed.
    pub(in crate::node) fn claim(&self) -> Option<Claim> {
        self.claim
    }

    /// It has been followed.
    pub(in crate::node) fn renewed(now: Instant) -> SetBack {
        SetBack { claim: None, again: now + AGAIN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_counts_when_it_can_be_and_now_and_then() {
        let claim = |through| Claim { by: OriginId(2), through, last: 7 };
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let mut set_back = SetBack::default();
        for through in [SEQ_MAX + 1, u64::MAX] {
            assert!(!set_back.claimed(at(1), claim(through)));
            assert_eq!(set_back.claim(), None);
        }
        assert!(set_back.claimed(at(2), claim(SEQ_MAX)));
        assert!(set_back.claimed(at(2), claim(9)));
        assert_eq!(set_back.claim(), Some(claim(SEQ_MAX)));
        set_back = SetBack::renewed(at(2));
        assert!(!set_back.claimed(at(601), claim(9)));
        assert!(set_back.claimed(at(602), claim(9)));
    }
}
