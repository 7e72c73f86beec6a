//! Our own life: starting, refuting, changing, leaving.

use super::io::Event;
use super::machine::Swim;
use super::member::{Announcement, MemberState};
use super::stats::Refusals;
use super::timers::Timer;
use crate::limits::META_LEN_MAX;
use crate::mutation::mutated;
use crate::time::Instant;
use crate::wire::message::{AddrBytes, Alive, Dead, Message, NodeName, Vsn};
use bytes::Bytes;
use std::net::SocketAddr;

/// The versions a node of ours announces at first: memberlist's protocol 2 with all features up to
/// 5 (stream pings, nacks, checksums), any delegate protocol from 0 to 5.
pub const VSN: Vsn = Vsn { pmin: 1, pmax: 5, pcur: 2, dmin: 0, dmax: 5, dcur: 0 };

/// Who we are to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Our name, unique in the cluster.
    pub name: NodeName,
    /// The address the others dial; the same bytes for as long as we live.
    pub addr: AddrBytes,
    /// The port the others dial, UDP and TCP.
    pub port: u16,
    /// What we tell about ourselves, at most [`META_LEN_MAX`] bytes.
    pub meta: Bytes,
    /// The versions we announce; normally [`VSN`].
    pub vsn: Vsn,
}

/// How far our leave has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The others are being told.
    Telling,
    /// They have been told; we still answer whoever asks.
    Done,
}

/// A peer held our name for another address: the one we had before, most likely.
#[derive(Debug)]
pub(super) struct Contest {
    /// Until when we ask again soon.
    until: Instant,
    peer: SocketAddr,
}

impl Swim {
    /// Enters ourselves into the table, announces us and starts the clocks, each with a delay of
    /// its own so that a cluster started at once does not beat in step.
    pub(super) fn start(&mut self, now: Instant, me: Identity, incarnation: u32) {
        let announced = Alive {
            incarnation,
            node: me.name,
            addr: Some(me.addr),
            port: me.port,
            meta: Some(me.meta),
            vsn: Some(me.vsn.to_bytes()),
        };
        assert!(me.port != 0, "the port others dial is not 0");
        let mut refusals = Refusals::default();
        let checked = Announcement::check(announced, me.port, &mut refusals);
        let Some(announcement) = checked else { panic!("our peers would refuse us: {refusals:?}") };
        let added = self.members.add(&announcement, me.vsn, now, &mut self.rng);
        assert_eq!(added, Ok(None), "the table was empty");
        self.members.accept(&announcement, now);
        self.announce();
        for (timer, interval) in [
            (Timer::Probe, self.config.probe_interval),
            (Timer::PushPull, self.config.push_pull_interval),
            (Timer::Redial, self.config.redial_interval),
        ] {
            if !interval.is_zero() {
                let delay = self.rng.duration_below(interval);
                self.timers.set(timer, now + delay);
            }
        }
        self.gossip_phase = now + self.rng.duration_below(self.config.gossip_interval);
    }

    /// Queues the rumor of who we are now.
    pub(super) fn announce(&mut self) {
        let rumor = Message::Alive(self.me().to_alive());
        self.broadcast(&self.name.clone(), &rumor, false);
    }

    /// Someone claims or accuses us at incarnation `accused`: overtakes it, tells everyone, and
    /// takes it as a sign that we are slow.
    pub(super) fn refute(&mut self, accused: u32) {
        if mutated!(NeverRefute) {
            return;
        }
        let incarnation = next_incarnation(self.me().incarnation, accused);
        self.members.renew(&self.name, |me| me.incarnation = incarnation);
        self.awareness.adjust(1);
        self.stats.refutes += 1;
        self.announce();
        self.event(Event::Refuted(incarnation));
    }

    /// Tells the others a new meta, under a higher incarnation. Nothing happens after a leave.
    ///
    /// # Panics
    /// When `meta` is longer than [`META_LEN_MAX`].
    pub fn update_meta(&mut self, now: Instant, meta: Bytes) {
        assert!(meta.len() <= META_LEN_MAX, "a meta has at most {META_LEN_MAX} bytes");
        if self.is_leaving() {
            return;
        }
        let changed = self.me().meta != meta;
        self.members.renew(&self.name, |me| {
            me.meta = meta;
            me.incarnation = next_incarnation(me.incarnation, 0);
        });
        self.announce();
        if changed {
            self.event(Event::Updated(self.name.clone()));
        }
        self.settle(now);
    }

    /// Tells the others that we leave. Ends in an [`Event::LeaveDone`] when they have been told
    /// often enough, at once when there are none. We go on answering; whether and when to stop is
    /// the shell's business. Leaving twice is leaving once.
    pub fn leave(&mut self, now: Instant) {
        if self.is_leaving() {
            return;
        }
        self.leaving = Leaving::Telling;
        let name = self.name.clone();
        let incarnation = self.me().incarnation;
        self.bury(now, Dead { incarnation, node: name.clone(), from: name }, true);
        if !self.config.gossip_interval.is_zero() {
            self.timers.set(Timer::Gossip, now);
        }
        self.settle(now);
    }

    /// True when we leave and nobody is left to tell: we were alone, or all others leave too.
    pub(super) fn leaves_nobody(&self) -> bool {
        let n_others =
            self.members.n_in(MemberState::Alive) + self.members.n_in(MemberState::Suspect);
        self.leaving == Leaving::Telling && n_others == 0
    }

    /// The others have been told.
    pub(super) fn left(&mut self) {
        if self.leaving == Leaving::Telling {
            self.leaving = Leaving::Done;
            self.event(Event::LeaveDone);
        }
    }

    /// Forgets a member that is dead or gone before its time, for whoever knows that it will not
    /// come back. One that does is a new member.
    ///
    /// # Errors
    /// No such member, or one that is present.
    pub fn forget(&mut self, now: Instant, name: &NodeName) -> Result<(), ForgetError> {
        let member = self.members.get(name).ok_or(ForgetError::Unknown)?;
        if member.is_present() {
            return Err(ForgetError::Present);
        }
        self.members.depart_absent(name, now);
        self.event(Event::Reaped(name.clone()));
        Ok(())
    }

    /// The end of the probe order: shuffles it; the long dead are buried, the long gone forgotten.
    pub(super) fn reset_order(&mut self, now: Instant) {
        let keep = self.config.gossip_to_the_dead;
        for name in self.members.reset(&self.name, now, keep, &mut self.rng) {
            self.event(Event::Reaped(name));
        }
    }

    /// `peer` holds our name for another address. Our alive messages are refused while that one
    /// counts as alive, so we ask again and again for a while; once it is dead we are taken.
    pub(super) fn contested(&mut self, now: Instant, peer: SocketAddr, incarnation: u32) {
        if !self.name_stands() && incarnation >= self.me().incarnation {
            // Our clock went back while we were away: nobody would believe that we are newer.
            self.refute(incarnation);
        }
        let until = now + self.config.contest_time;
        let contest = self.contest.get_or_insert(Contest { until, peer });
        contest.peer = peer;
        if now < contest.until && !self.config.probe_interval.is_zero() {
            self.timers.set(Timer::Contest, now + self.config.probe_interval);
        }
    }

    pub(super) fn contest_again(&mut self, now: Instant) {
        if let Some(peer) = self.contest.as_ref().map(|contest| contest.peer)
            && !self.is_leaving()
        {
            self.ask_for_our_name(now, peer);
        }
    }
}

/// Why a member is not forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// Nobody of that name is known.
    #[error("no member of that name is known")]
    Unknown,
    /// The member is alive, or only suspected.
    #[error("the member is not dead: it is alive or suspected here")]
    Present,
}

/// The incarnation that overtakes both our own and one we are accused at. It never wraps: at the
/// very end there is nothing left to refute with.
pub(super) fn next_incarnation(own: u32, accused: u32) -> u32 {
    own.max(accused).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swim::Config;
    use crate::swim::io::Output;

    #[test]
    fn incarnations_overtake_and_saturate() {
        for (own, accused, next) in
            [(1, 1, 2), (5, 3, 6), (5, 5, 6), (5, 9, 10), (u32::MAX, 3, u32::MAX)]
        {
            assert_eq!(next_incarnation(own, accused), next, "{own}, accused at {accused}");
        }
    }

    #[test]
    fn a_leave_ends_at_once_when_all_others_have_left_too() {
        let now = Instant::ZERO;
        let addr = AddrBytes(vec![127, 0, 0, 1].into());
        let [me, other] = ["me", "other"].map(NodeName::from);
        let identity =
            Identity { name: me, addr: addr.clone(), port: 1, meta: Bytes::new(), vsn: VSN };
        let mut swim = Swim::new(Config::local(), identity, 1, 0, now);
        let from: SocketAddr = ([127, 0, 0, 1], 2).into();
        let addr = Some(addr);
        let vsn = Some(Bytes::from_static(&[1, 5, 2, 0, 5, 0]));
        let node = other.clone();
        let alive = Alive { incarnation: 1, node, addr, port: 2, vsn, ..Alive::default() };
        swim.message(now, from, Message::Alive(alive));
        let done = |swim: &mut Swim| {
            let outputs = std::iter::from_fn(|| swim.poll());
            outputs.filter(|out| matches!(out, Output::Event(Event::LeaveDone))).count()
        };
        swim.leave(now);
        assert_eq!(done(&mut swim), 0, "the other has not been told");
        let dead = Dead { incarnation: 1, node: other.clone(), from: other };
        swim.message(now, from, Message::Dead(dead));
        assert_eq!(done(&mut swim), 1);
    }
}
