//! Waiting for conditions.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two questions: short at first, because some answers are timed; then kinder to the
/// programs that are asked.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(50);

/// The longest suspicion of a few members under the LAN preset, and some.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

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
pub fn hold(what: &str, during: Duration, check: impl FnMut() -> Result<(), String>) {
    if let Err(why) = holds(during, check) {
        panic!("no longer: {what}: {why}");
    }
}

/// As [`hold`], for what a machine with too much else to do disturbs now and then: of three times
/// that `check` holds at first it must once hold to the end. A fault of ours disturbs them all.
///
/// # Panics
/// When `check` failed three times, or did not recover.
#[track_caller]
pub fn hold_once_in_three(
    what: &str,
    during: Duration,
    mut check: impl FnMut() -> Result<(), String>,
) {
    let mut disturbed = Vec::new();
    while disturbed.len() < 3 {
        eventually(what, RECOVERY_MAX, &mut check);
        match holds(during, &mut check) {
            Ok(()) => return,
            Err(why) => {
                println!("disturbed: {what}: {why}");
                disturbed.push(why);
            }
        }
    }
    panic!("three times no longer: {what}: {disturbed:?}");
}

fn holds(during: Duration, mut check: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let start = now();
    while start.elapsed() < during {
        check().map_err(|why| format!("after {:?}: {why}", start.elapsed()))?;
        std::thread::sleep(POLL_INTERVAL_MAX);
    }
    Ok(())
}
