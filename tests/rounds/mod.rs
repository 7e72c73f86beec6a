//! Rounds of a test, some of them side by side.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `one` with the numbers 0 to `n`, at most `at_once` of them at a time, and returns what each
/// came to, in the order in which they ended.
pub fn side_by_side<T: Send>(n: usize, at_once: usize, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..n.min(at_once) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= n {
                        return;
                    }
                    let result = one(number);
                    done.lock().expect("nobody panics with it").push(result);
                }
            });
        }
    });
    done.into_inner().expect("all have ended")
}
