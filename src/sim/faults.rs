//! Fault events: what breaks, and how it is mended.

use super::check::{self, Violation};
use super::dns::Mood;
use super::host::Guise;
use super::options::Fault;
use super::run::{Mend, Run, Step};
use super::workload;
use crate::node::command::{Command, Reply};
use crate::node::formats::Formats;
use crate::node::io::Ticket;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long a leaving node may take.
pub(super) const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Time between two jumps of a clock that goes to and fro, and how many there are.
const STROBE_STEP: Duration = Duration::from_millis(150);
const STROBES: u32 = 20;

/// Writes of a burst, and the longest time between two: none waits for the one before to be
/// acknowledged, and the last have no time to be sent again.
const BURST: u32 = 30;
const BURST_STEP: Duration = Duration::from_millis(3);

/// Large values written before a leave.
const BACKLOG: usize = 30;

/// Fault events so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) counts: BTreeMap<Fault, u64>,
    /// What was lost with a node that said to leave nothing behind.
    pub(super) broken: Option<Violation>,
    /// Leaves that said to leave something behind.
    pub(super) n_unsent: u64,
    leaves: BTreeMap<usize, Ticket>,
}

impl Faults {
    pub(super) fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }
}

/// Faults that are events; the others are there all along.
const EVENTS: [Fault; 18] = [
    Fault::Partition,
    Fault::OneWay,
    Fault::Crash,
    Fault::Move,
    Fault::Reuse,
    Fault::Pause,
    Fault::Roll,
    Fault::Clock,
    Fault::Dns,
    Fault::Slow,
    Fault::Surge,
    Fault::OtherKey,
    Fault::OtherLabel,
    Fault::OtherFormat,
    Fault::Restart,
    Fault::Twin,
    Fault::Backlog,
    Fault::Burst,
];

impl Run {
    fn seconds_below(&mut self, seconds: u64) -> Duration {
        self.rng.duration_below(self.options.lasting(seconds))
    }

    /// Nodes of ours that run, paused ones too.
    fn running(&self) -> Vec<usize> {
        let hosts = self.cluster.hosts.iter().enumerate();
        hosts
            .filter(|(_, host)| {
                host.node().is_some() && !host.is_stranger && host.leaving.is_none()
            })
            .map(|(index, _)| index)
            .collect()
    }

    /// One fault event of this run's kinds.
    pub(super) fn break_something(&mut self) {
        let kinds: Vec<Fault> =
            EVENTS.into_iter().filter(|fault| self.options.has(*fault)).collect();
        if kinds.is_empty() {
            return;
        }
        let fault = kinds[self.rng.below(kinds.len())];
        let running = self.running();
        if running.len() < 2 {
            return;
        }
        let victim = running[self.rng.below(running.len())];
        self.faults.count(fault);
        match fault {
            Fault::Surge | Fault::OtherKey | Fault::OtherLabel | Fault::OtherFormat => {
                self.begin_roll(fault, running);
            }
            Fault::Restart => self.restart_all(&running),
            Fault::Twin => self.twin(victim),
            Fault::Backlog => self.backlog(victim),
            Fault::Burst => self.burst_on(victim, self.cluster.hosts[victim].standing.since, BURST),
            Fault::Partition => self.partition(&running),
            Fault::OneWay => self.one_way(&running),
            Fault::Crash => self.crash(victim),
            Fault::Move => self.relocate(victim),
            Fault::Reuse => {
                self.end_process(victim);
                self.cluster.hosts[victim].name = self.fresh_name();
                let pause = self.seconds_below(5);
                self.after(pause, Step::Mend(Mend::Restart(victim)));
            }
            Fault::Pause => {
                let until = self.cluster.now + self.seconds_below(40);
                self.cluster.pause(victim, until);
            }
            Fault::Roll => self.roll(victim),
            Fault::Clock => self.derange(victim),
            Fault::Dns => {
                self.dns.mood = self.silence_dns();
                let pause = self.seconds_below(30);
                self.after(pause, Step::Mend(Mend::Dns));
            }
            _ => {
                let delay = self.rng.duration_below(Duration::from_millis(900));
                let ip = self.cluster.hosts[victim].addr.ip();
                self.cluster.network.slow(ip, delay);
                let pause = self.seconds_below(20);
                self.after(pause, Step::Mend(Mend::Slow(victim)));
            }
        }
    }

    fn ip(&self, index: usize) -> IpAddr {
        self.cluster.hosts[index].addr.ip()
    }

    /// Two sides, whoever is on either; sometimes some still see both.
    fn partition(&mut self, running: &[usize]) {
        let hosts: Vec<usize> = (0..self.cluster.hosts.len()).collect();
        let side: Vec<bool> = hosts.iter().map(|_| self.rng.chance(0.5)).collect();
        let bridge = self.rng.chance(0.2).then(|| running[self.rng.below(running.len())]);
        for &a in &hosts {
            for &b in &hosts {
                if side[a] != side[b] && bridge != Some(a) && bridge != Some(b) {
                    let (from, to) = (self.ip(a), self.ip(b));
                    self.cluster.network.block(self.cluster.now, from, to);
                }
            }
        }
        let pause = self.seconds_below(45);
        self.after(pause, Step::Mend(Mend::Network));
    }

    fn one_way(&mut self, running: &[usize]) {
        for _ in 0..=self.rng.below(3) {
            let a = running[self.rng.below(running.len())];
            let b = running[self.rng.below(running.len())];
            let (from, to) = (self.ip(a), self.ip(b));
            if a != b {
                self.cluster.network.block(self.cluster.now, from, to);
            }
        }
        let pause = self.seconds_below(30);
        self.after(pause, Step::Mend(Mend::Network));
    }

    fn crash(&mut self, victim: usize) {
        self.end_process(victim);
        // Some never come back, as long as three are left.
        if self.running().len() >= 3 && self.rng.chance(0.2) {
            return;
        }
        let pause = self.seconds_below(20);
        self.after(pause, Step::Mend(Mend::Restart(victim)));
    }

    /// Its name goes on at a new address.
    fn relocate(&mut self, victim: usize) {
        let name = self.cluster.hosts[victim].name.clone();
        let clock = self.cluster.hosts[victim].clock;
        self.end_process(victim);
        self.cluster.hosts[victim].name = self.fresh_name();
        let place = self.add_place(Guise::Ours);
        self.cluster.hosts[place].name = name;
        self.cluster.hosts[place].clock = clock;
        let pause = self.seconds_below(5);
        self.after(pause, Step::Mend(Mend::Restart(place)));
    }

    /// It leaves in good order; the look that sees it done ends it.
    fn roll(&mut self, victim: usize) {
        if self.cluster.hosts[victim].is_paused(self.cluster.now) {
            return;
        }
        let deadline = self.cluster.now + LEAVE_LIMIT;
        self.cluster.begins_to_leave(victim);
        let ticket = self.cluster.command(victim, Command::Leave { deadline });
        self.faults.leaves.insert(victim, ticket);
    }

    /// Ends nodes whose leave is answered, and has another take their place.
    pub(super) fn finish_leaves(&mut self) {
        let done: Vec<(usize, Ticket)> = self
            .faults
            .leaves
            .iter()
            .filter(|(_, ticket)| self.cluster.replies.contains_key(ticket))
            .map(|(index, ticket)| (*index, *ticket))
            .collect();
        for (index, ticket) in done {
            self.faults.leaves.remove(&index);
            let reply = self.cluster.replies.remove(&ticket);
            self.judge_leave(index, reply.as_ref());
            if self.cluster.hosts[index].leaving.is_some() {
                self.end_process(index);
                self.cluster.hosts[index].name = self.fresh_name();
                let pause = self.seconds_below(3);
                self.after(pause, Step::Mend(Mend::Restart(index)));
            }
        }
    }

    /// What a leaving node has answered.
    pub(super) fn judge_leave(&mut self, index: usize, reply: Option<&Reply>) {
        match reply {
            None => {}
            Some(Reply::Left { unsent: 0 }) => {
                let lost = check::not_handed_over(&self.cluster, index, &self.history);
                self.faults.broken = self.faults.broken.take().or(lost);
            }
            Some(Reply::Left { .. }) => self.faults.n_unsent += 1,
            reply => self.history.complain(format!("a leave was answered with {reply:?}")),
        }
    }

    /// All processes end at once, and come back with nothing. Not beside a stranger: it refuses
    /// them, so that nobody may found a cluster.
    fn restart_all(&mut self, running: &[usize]) {
        let is_beside = self.cluster.hosts.iter().any(|host| host.is_stranger && host.is_up());
        if is_beside || self.faults.counts.get(&Fault::Restart).is_some_and(|n| *n > 1) {
            return;
        }
        for index in running {
            self.end_process(*index);
            let pause = self.seconds_below(3);
            self.after(pause, Step::Mend(Mend::Restart(*index)));
        }
    }

    /// A node that has the name of another one, for a while.
    fn twin(&mut self, victim: usize) {
        let place = self.add_place(Guise::Twin);
        self.cluster.hosts[place].name = self.cluster.hosts[victim].name.clone();
        self.start_node(place);
        let lasts = Duration::from_secs(5) + self.seconds_below(20);
        self.after(lasts, Step::Mend(Mend::End(place)));
    }

    /// It takes large values, and leaves at once.
    fn backlog(&mut self, victim: usize) {
        if self.cluster.hosts[victim].is_paused(self.cluster.now) {
            return;
        }
        let rate = self.options.load.line_rate.unwrap_or(1 << 20);
        let seconds = 0.1 + 3.0 * self.rng.below(1000) as f64 / 1000.0;
        let total = (rate as f64 * seconds) as usize;
        let len = (total / BACKLOG).min(40 << 10);
        for _ in 0..BACKLOG {
            let key = format!("key-{}", self.rng.below(self.options.n_keys)).into_bytes();
            workload::store(self, victim, &key, len);
        }
        self.roll(victim);
    }

    /// A client makes one of so many writes; the process dies with the last. Every third deletes.
    fn burst(&mut self, victim: usize, left: u32) {
        let ip = self.ip(victim);
        if left == 0 {
            self.cluster.network.lose_from(None);
            return self.crash(victim);
        }
        self.cluster.network.lose_from(Some(ip));
        let key = format!("key-{}", self.rng.below(self.options.n_keys)).into_bytes();
        if left.is_multiple_of(3) {
            workload::delete(self, victim, &key);
        } else {
            workload::store(self, victim, &key, 20);
        }
        let since = self.cluster.hosts[victim].standing.since;
        let pause = self.rng.duration_below(BURST_STEP);
        self.after(pause, Step::Mend(Mend::Burst(victim, since, left - 1)));
    }

    /// Goes on with a burst, unless its process has ended, is stopped or about to leave.
    fn burst_on(&mut self, victim: usize, since: Instant, left: u32) {
        let host = &self.cluster.hosts[victim];
        let is_same = host.node().is_some() && host.standing.since == since;
        if !is_same || host.is_paused(self.cluster.now) || host.leaving.is_some() || self.is_calm {
            self.cluster.network.lose_from(None);
        } else {
            self.burst(victim, left);
        }
    }

    /// A clock jumps, begins to gain or lose, and sometimes goes to and fro.
    fn derange(&mut self, victim: usize) {
        let jump_ms = self.rng.below(60_000) as i64 - 30_000;
        let far = if self.rng.chance(0.1) { 10 } else { 1 };
        let drift_ppm = self.rng.below(2000) as i64 - 1000;
        self.set_clock(victim, self.options.clock_error_ms(jump_ms * far), drift_ppm);
        if self.rng.chance(0.2) {
            self.after(STROBE_STEP, Step::Mend(Mend::Strobe(victim, STROBES)));
        }
    }

    fn set_clock(&mut self, victim: usize, offset_ms: i64, drift_ppm: i64) {
        let now = self.cluster.now;
        let host = &mut self.cluster.hosts[victim];
        host.see_clock(now);
        host.clock.offset_ms = offset_ms;
        host.clock.drift_ppm = drift_ppm;
        host.see_clock(now);
    }

    pub(super) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Network => self.cluster.network.heal(self.cluster.now),
            Mend::Slow(index) => {
                let ip = self.ip(index);
                self.cluster.network.slow(ip, Duration::ZERO);
            }
            Mend::Restart(index) => self.start_node(index),
            Mend::Dns => self.dns.mood = Mood::Fine,
            Mend::Burst(index, since, left) => self.burst_on(index, since, left),
            Mend::End(index) => {
                if self.cluster.hosts[index].is_up() {
                    self.end_process(index);
                }
            }
            Mend::Strobe(index, left) => {
                let clock = self.cluster.hosts[index].clock;
                self.set_clock(index, -clock.offset_ms, clock.drift_ppm);
                if left > 0 {
                    self.after(STROBE_STEP, Step::Mend(Mend::Strobe(index, left - 1)));
                }
            }
        }
    }

    /// Ends every fault. Places whose process was to come back get it back through the agenda.
    pub(super) fn begin_calm(&mut self) {
        self.cluster.calm();
        self.dns.mood = Mood::Fine;
        let now = self.cluster.now;
        for index in 0..self.cluster.hosts.len() {
            if self.cluster.hosts[index].is_stranger && self.cluster.hosts[index].is_up() {
                self.end_process(index);
                continue;
            }
            if self.cluster.hosts[index].is_paused(now) {
                self.cluster.go_on(index);
            }
            self.end_old_starter(index);
        }
    }

    /// A node that speaks the format before alone cannot say that it is new: others wait to copy
    /// from it. One that came in a roll, and then lost all who were ready, is rolled on.
    fn end_old_starter(&mut self, index: usize) {
        let host = &self.cluster.hosts[index];
        let is_old = host.standing.formats == Formats::only(Formats::SPOKEN.first);
        if host.node().is_some() && is_old && host.standing.ok_since.is_none() {
            self.end_process(index);
            self.after(Duration::ZERO, Step::Mend(Mend::Restart(index)));
        }
    }
}
