//! How many messages have been sealed with the gossip key of now.
//!
//! Each takes a nonce of 96 random bits. NIST (SP 800-38D, 8.3) allows 2^32 messages of all members
//! together under one key: past that the chance that two of them had the same nonce is no longer
//! negligible, and such a pair gives away what both say, and the means to forge others.

use crate::time::Instant;
use crate::wire::keyring::Key;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Messages of one node past which it warns: half of what all may send under one key.
const WARN_FROM: u64 = 1 << 31;
/// Time between two warnings.
const WARN_AGAIN: Duration = Duration::from_secs(60 * 60);

/// The count of one node, since it has the key or since its start.
#[derive(Debug, Default)]
pub(super) struct Seals {
    n: AtomicU64,
    key: Mutex<Option<String>>,
}

impl Seals {
    /// So many more have been sealed.
    pub fn count(&self, n: u64) {
        self.n.fetch_add(n, Relaxed);
    }

    /// How many have been sealed with the key of now.
    pub fn total(&self) -> u64 {
        self.n.load(Relaxed)
    }

    /// What follows is sealed with this key; the count begins anew if it is another one.
    pub(super) fn sealed_with(&self, key: Option<&Key>) {
        let key = key.map(|key| key.fingerprint().to_owned());
        let mut last = self.key.lock();
        if *last != key {
            *last = key;
            self.n.store(0, Relaxed);
        }
    }

    /// Warns now and then when the key is worn; `last` is when it last did.
    pub fn warn(&self, now: Instant, last: &mut Option<Instant>) {
        if !is_due(self.total(), now, *last) {
            return;
        }
        *last = Some(now);
        tracing::warn!(
            messages = self.total(),
            "this node alone has sealed half of what a cluster may seal with one gossip key: \
             rotate keys"
        );
    }
}

fn is_due(total: u64, now: Instant, last: Option<Instant>) -> bool {
    total >= WARN_FROM && last.is_none_or(|last| now.since(last) >= WARN_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_is_counted_anew() {
        let seals = Seals::default();
        let keys = [1, 2].map(|byte| Key::from_bytes(&[byte; 16]).expect("an AES key"));
        seals.sealed_with(Some(&keys[0]));
        seals.count(5);
        seals.sealed_with(Some(&keys[0]));
        seals.count(2);
        assert_eq!(seals.total(), 7);
        seals.sealed_with(Some(&keys[1]));
        assert_eq!(seals.total(), 0);
    }

    #[test]
    fn a_worn_key_is_told_of_once_an_hour() {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        assert!(!is_due(WARN_FROM - 1, at(0), None));
        assert!(is_due(WARN_FROM, at(0), None));
        assert!(!is_due(WARN_FROM, at(3_599), Some(at(0))));
        assert!(is_due(WARN_FROM, at(3_600), Some(at(0))));
    }
}
