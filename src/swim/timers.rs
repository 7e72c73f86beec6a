//! What is to happen when: the machine's pending deadlines, soonest first.

use super::io::ExchangeId;
use crate::time::Instant;
use crate::wire::message::NodeName;
use std::collections::{BTreeMap, BTreeSet};

/// Everything the machine waits for. Timers due at the same instant fire in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A probe's direct ping was not answered in time: ask others.
    ProbeTimeout,
    /// A probe's whole time is over: judge.
    ProbeVerdict,
    /// A ping for another was not answered in time; by the ping's number.
    Relay(u32),
    /// Ask on whose a name is, or judge.
    Inquiry(NodeName),
    /// A suspicion ends: declare dead.
    Suspicion(NodeName),
    /// The shell never told an exchange's end.
    Exchange(ExchangeId),
    /// Probe the next member.
    Probe,
    /// Gossip to some members.
    Gossip,
    /// Push-pull with a member.
    PushPull,
    /// Try to reach a dead member.
    Redial,
    /// Call members on this machine that may have been restarted.
    Call,
    /// Ask again for our name, which a peer held for another address.
    Contest,
}

/// The pending deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Instant, Timer)>,
    by_timer: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Arms `timer` for `at`, wherever it stood before.
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.cancel(&timer);
        self.by_time.insert((at, timer.clone()));
        self.by_timer.insert(timer, at);
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.by_timer.remove_entry(timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.by_timer.contains_key(timer)
    }

    /// The soonest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Disarms and returns what is due, soonest first. What its handlers arm anew is not part of
    /// it, so a round of firing always ends.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Timer> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some((_, timer)) = self.by_time.pop_first() else { break };
            self.by_timer.remove(&timer);
            due.push(timer);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_soonest_first_and_once() {
        let mut timers = Timers::default();
        let at = Instant::from_millis;
        timers.set(Timer::Gossip, at(30));
        timers.set(Timer::Probe, at(20));
        timers.set(Timer::ProbeVerdict, at(20));
        timers.set(Timer::Relay(1), at(5));
        timers.set(Timer::Relay(1), at(40));
        timers.set(Timer::PushPull, at(10));
        timers.cancel(&Timer::PushPull);
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.take_due(at(30)), [Timer::ProbeVerdict, Timer::Probe, Timer::Gossip]);
        assert!(!timers.is_set(&Timer::Gossip));
        assert_eq!(timers.take_due(at(40)), [Timer::Relay(1)]);
        assert_eq!(timers.next(), None);
    }
}
