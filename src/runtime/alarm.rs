//! The engine's alarm clock: to the millisecond for what is far, exact for what is near.
//!
//! The runtime's timers round up to whole milliseconds. That is fine for probes; but writes under
//! load are gathered for fractions of one, and each rounding would be seen by a client. A near
//! deadline therefore gets a timer of the system's own, at the price of a system call.

use super::clock::Clock;
use crate::time::Instant;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Sleep;

/// Deadlines nearer than this get the exact timer.
const NEAR: Duration = Duration::from_millis(4);

/// Waits for one deadline at a time.
#[derive(Debug)]
pub(super) struct Alarm {
    clock: Clock,
    far: Pin<Box<Sleep>>,
    near: AsyncFd<OwnedFd>,
    /// What `near` is set to; it may have gone off since.
    near_at: Instant,
}

impl Alarm {
    /// Must be called within the runtime.
    #[expect(deprecated, reason = "the successor is unsafe; an OwnedFd keeps its descriptor")]
    pub fn new(clock: Clock) -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Alarm {
            clock,
            far: Box::pin(tokio::time::sleep(Duration::ZERO)),
            near: AsyncFd::with_interest(timer, Interest::READABLE)?,
            near_at: Instant::NEVER,
        })
    }

    /// Returns at `at`, or early. Cancelling the wait is fine.
    pub async fn wait(&mut self, at: Instant) {
        let left = at.since(self.clock.instant());
        if left >= NEAR || !self.set_near(at, left) {
            self.far.as_mut().reset(self.clock.timer(at));
            self.far.as_mut().await;
        } else if let Ok(mut gone_off) = self.near.readable().await {
            gone_off.clear_ready();
            self.near_at = Instant::NEVER;
        }
    }

    /// Whether the exact timer is set to `at`.
    fn set_near(&mut self, at: Instant, left: Duration) -> bool {
        if self.near_at == at {
            return true;
        }
        // Zero would switch it off.
        let nanos = left.subsec_nanos().max(1);
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec { tv_sec: 0, tv_nsec: nanos.into() },
        };
        let set = timerfd_settime(&self.near, TimerfdTimerFlags::empty(), &once).is_ok();
        self.near_at = if set { at } else { Instant::NEVER };
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far_deadlines_are_kept_in_any_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let clock = Clock::start();
            let mut alarm = Alarm::new(clock).expect("a timer");
            for micros in [300, 0, 20_000, 300, 300, 5_000, 100] {
                let at = clock.instant() + Duration::from_micros(micros);
                // It may ring early: what was set before, say.
                while clock.instant() < at {
                    alarm.wait(at).await;
                }
                // Cancelled waits leave nothing behind that hangs.
                let later = clock.instant() + Duration::from_millis(1);
                let cancelled = tokio::time::timeout(Duration::ZERO, alarm.wait(later)).await;
                assert!(cancelled.is_err() || clock.instant() >= at);
            }
        });
    }
}
