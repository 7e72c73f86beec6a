//! Waiting for conditions.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two questions: short at first, because some answers are timed; then kinder to the
/// programs that are asked.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(50);

/// The one place where the tests read the clock.
#[expect(clippy::disallowed_methods, reason = "the tests watch real programs in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `check` until it is satisfied and returns its value and how long that took.
///
/// # Panics
/// After `within`, with the last thing that `check` was missing.
#[track_caller]
pub fn eventually<T, E: Display>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<T, E>,
) -> (T, Duration) {
    let start = now();
    let mut pause = POLL_INTERVAL_MIN;
    loop {
        let begun = start.elapsed();
        match check() {
            Ok(value) => return (value, start.elapsed()),
            // A check that began in time counts, however long it took to answer.
            Err(why) if begun >= within => panic!("not within {within:?}: {what}: {why}"),
            Err(_) => std::thread::sleep(pause),
        }
        pause = POLL_INTERVAL_MAX.min(pause * 2);
    }
}

/// Asks `check` again and again for as long as `during`.
///
/// # Panics
/// As soon as `check` fails.
#[track_caller]
pub fn hold(what: &str, during: Duration, mut check: impl FnMut() -> Result<(), String>) {
    let start = now();
    while start.elapsed() < during {
        if let Err(why) = check() {
            panic!("after {:?} no longer: {what}: {why}", start.elapsed());
        }
        std::thread::sleep(POLL_INTERVAL_MAX);
    }
}
