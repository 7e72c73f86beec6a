//! The only source of randomness that nobody can foretell: the operating system's.
//!
//! The core's generator is seeded from here once; nonces, names of runs and keys come from here
//! every time.

use crate::wire::keyring::NONCE_LEN;
use std::cell::RefCell;

/// Nonces read from the system at once.
const NONCES_A_READ: usize = 64;

/// Fills `bytes` from the operating system.
///
/// # Panics
/// When the system has none to give, which no running system does: to go on with predictable
/// bytes would be worse than to end.
#[expect(clippy::disallowed_methods, reason = "this file is the one that asks the system")]
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// A random number that is not zero.
#[must_use]
pub fn nonzero_u64() -> u64 {
    loop {
        let mut bytes = [0; 8];
        fill(&mut bytes);
        let number = u64::from_le_bytes(bytes);
        if number != 0 {
            return number;
        }
    }
}

/// A fresh nonce of 96 random bits. Each is given once; a thread reads some of its own at a time.
#[must_use]
pub(super) fn nonce() -> [u8; NONCE_LEN] {
    thread_local! {
        static UNUSED: RefCell<Vec<[u8; NONCE_LEN]>> = const { RefCell::new(Vec::new()) };
    }
    UNUSED.with_borrow_mut(|unused| {
        loop {
            if let Some(nonce) = unused.pop() {
                return nonce;
            }
            let mut fresh = [[0; NONCE_LEN]; NONCES_A_READ];
            fill(fresh.as_flattened_mut());
            unused.extend(fresh);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_nonce_comes_twice() {
        let n = 10 * NONCES_A_READ;
        let nonces: BTreeSet<_> = (0..n).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), n);
        assert_ne!(nonzero_u64(), nonzero_u64());
    }
}
