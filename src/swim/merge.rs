//! What a rumor does to the table: the rules of alive, suspect and dead.
//!
//! The numbers in the comments are the rows of the tables in `docs/membership.md`. Each rule is a
//! pure judgement over what is known, then its consequences.

use super::departed::Claim;
use super::io::Event;
use super::machine::Swim;
use super::member::{Announcement, Member, MemberState};
use super::scale;
use super::suspicion::Suspicion;
use super::timers::Timer;
use super::versions::is_presumed;
use crate::limits::{INCARNATION_RESERVE, INCARNATION_STEP_MAX, NODE_NAME_LEN_MAX};
use crate::mutation::mutated;
use crate::time::Instant;
use crate::wire::message::{Alive, Dead, Message, NodeName, Suspect};
use std::time::Duration;

/// What to do about an alive message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Known, or older than what is known.
    Stale,
    /// No member can have come so far.
    Implausible,
    /// What we told of ourselves has come back.
    Echo,
    /// The name is another's, as far as we know.
    Conflict,
    /// Someone knows better than we who we are.
    Refute,
    /// One of our kind has adopted a delegate version and presumes that we have too.
    Follow,
    /// News.
    Accept,
}

impl Swim {
    /// Someone says a member is alive.
    pub(super) fn alive(&mut self, now: Instant, alive: Alive) {
        if self.is_leaving() && alive.node == self.name {
            self.stats.ignored.stale += 1; // A1
            return;
        }
        let own_port = self.me().port;
        let checked = Announcement::check(alive, own_port, &mut self.stats.refusals); // A2
        let Some(announcement) = checked else { return };
        if self.name_taken().is_some() {
            self.stats.ignored.stale += 1; // Who has no name passes nobody on.
            return;
        }
        let verdict = match self.members.known(&announcement.name) {
            Some(known) if known.name == self.name => judge_alive_me(known, &announcement),
            Some(known) => judge_alive(known, &announcement, now, self.config.dead_node_reclaim),
            None => self.judge_unknown(now, &announcement),
        };
        match verdict {
            Verdict::Stale => self.stats.ignored.stale += 1,
            Verdict::Echo => {
                self.stats.ignored.stale += 1;
                self.name_acknowledged();
            }
            Verdict::Implausible => self.stats.ignored.implausible += 1,
            Verdict::Conflict => self.claimed_elsewhere(now, &announcement),
            Verdict::Refute => self.refute(announcement.incarnation),
            Verdict::Follow => {
                if !announcement.vsn.is_some_and(|presumed| self.adopt_from_alive(presumed)) {
                    self.refute(announcement.incarnation);
                }
            }
            Verdict::Accept => self.accept(now, &announcement),
        }
    }

    /// An alive message about a name that the protocol does not know. One that has departed has to
    /// show that it is there, by refuting what it is told.
    fn judge_unknown(&mut self, now: Instant, announced: &Announcement) -> Verdict {
        let (name, claimed) = (&announced.name, announced.incarnation);
        if self.members.get(name).is_some() {
            return Verdict::Accept; // A5
        }
        let Claim::Old { incarnation, tell } = self.members.departed.judge(now, name, claimed)
        else {
            return Verdict::Accept; // A5
        };
        if tell {
            let from = self.name.clone();
            let dead = Dead { incarnation, node: name.clone(), from };
            self.send(announced.socket_addr, &Message::Dead(dead));
        }
        Verdict::Stale // A5b
    }

    pub(super) fn accept(&mut self, now: Instant, announcement: &Announcement) {
        let name = &announcement.name;
        if self.members.known(name).is_none() {
            let assumed = self.me().vsn;
            match self.members.add(announcement, assumed, now, &mut self.rng) {
                Ok(Some(forgotten)) => self.event(Event::Reaped(forgotten)),
                Ok(None) => {}
                Err(_full) => {
                    self.stats.refusals.full += 1;
                    return;
                }
            }
        }
        self.drop_suspicion(name); // A9
        let Some(before) = self.members.known(name) else { return };
        let (old_state, old_addr) = (before.state, before.socket_addr);
        let differs = before.meta != announcement.meta || old_addr != announcement.socket_addr;
        if mutated!(RaiseOthers) {
            let raised = announcement.incarnation.saturating_add(1);
            self.members.accept(&Announcement { incarnation: raised, ..announcement.clone() }, now);
        } else {
            self.members.accept(announcement, now);
        }
        let Some(member) = self.members.known(name) else { return };
        let (rumor, vsn) = (Message::Alive(member.to_alive()), member.vsn);
        self.broadcast(name, &rumor, false); // A12
        self.adopt_from_alive(vsn);
        match old_state {
            MemberState::Dead | MemberState::Left => {
                self.stats.joins += 1;
                self.event(Event::Joined(name.clone())); // A13
                return;
            }
            MemberState::Suspect => {
                self.stats.recoveries += 1;
                self.event(Event::Recovered(name.clone()));
            }
            MemberState::Alive => {}
        }
        if differs {
            self.event(Event::Updated(name.clone()));
        }
    }

    /// Someone suspects a member.
    pub(super) fn suspect(&mut self, now: Instant, suspect: Suspect) {
        let Some(known) = self.accusable(&suspect.node, &suspect.from, suspect.incarnation) else {
            return; // S1, S2
        };
        let state = known.state;
        if let Some(suspicion) = self.suspicions.get_mut(&suspect.node) {
            if suspicion.confirm(&suspect.from) {
                let deadline = suspicion.deadline(); // S3
                self.timers.set(Timer::Suspicion(suspect.node.clone()), deadline);
                self.broadcast(&suspect.node.clone(), &Message::Suspect(suspect), false);
            } else {
                self.stats.ignored.stale += 1;
            }
        } else if state != MemberState::Alive {
            self.stats.ignored.stale += 1; // S4
        } else if suspect.node == self.name {
            self.refute(suspect.incarnation); // S5
        } else {
            self.begin_suspicion(now, suspect); // S6
        }
    }

    fn begin_suspicion(&mut self, now: Instant, suspect: Suspect) {
        let Suspect { node, from, incarnation } = suspect.clone();
        self.broadcast(&node, &Message::Suspect(suspect), false);
        self.members.accuse(&node, incarnation, MemberState::Suspect, now);
        let (n, mult) = (self.members.n_known(), self.config.suspicion_mult);
        let min = scale::suspicion_timeout(mult, n, self.config.probe_interval);
        let max = min.saturating_mul(self.config.suspicion_max_mult);
        let wanted = scale::suspicion_confirmations(mult, n);
        let suspicion = Suspicion::new(now, from.clone(), wanted, min, max);
        self.timers.set(Timer::Suspicion(node.clone()), suspicion.deadline());
        self.suspicions.insert(node.clone(), suspicion);
        self.stats.suspicions += 1;
        self.call_member(now, &node);
        self.event(Event::Suspected(node, from));
    }

    /// A suspicion's time is over: we declare the member dead.
    pub(super) fn suspicion_ended(&mut self, now: Instant, name: &NodeName) {
        let Some(suspicion) = self.suspicions.get(name) else { return };
        if suspicion.deadline() > now || mutated!(NeverBury) {
            return;
        }
        let Some(member) = self.members.known(name) else { return };
        let (incarnation, from) = (member.incarnation, self.name.clone());
        self.dead(now, Dead { incarnation, node: name.clone(), from });
    }

    /// Someone says a member is dead, or a member says it leaves.
    pub(super) fn dead(&mut self, now: Instant, dead: Dead) {
        let Some(known) = self.accusable(&dead.node, &dead.from, dead.incarnation) else {
            return; // D1, D2
        };
        let present = known.is_present();
        if !present {
            self.stats.ignored.stale += 1; // D4
        } else if dead.node == self.name {
            self.refute(dead.incarnation); // D5
        } else {
            self.bury(now, dead, false); // D7
        }
    }

    /// A present member is now dead or gone; `awaited` when it is ourselves who leave.
    pub(super) fn bury(&mut self, now: Instant, dead: Dead, awaited: bool) {
        let name = dead.node.clone();
        self.drop_suspicion(&name); // D3
        self.call_member(now, &name);
        self.broadcast(&name, &Message::Dead(dead.clone()), awaited);
        let (state, event) = if dead.from == name {
            (MemberState::Left, Event::Left(name.clone()))
        } else {
            self.stats.deaths += 1;
            (MemberState::Dead, Event::Failed(name.clone()))
        };
        self.members.accuse(&name, dead.incarnation, state, now); // D8
        if self.members.n_in(MemberState::Alive) == 1 && state == MemberState::Dead {
            self.name_lapses();
        }
        self.event(event);
    }

    fn drop_suspicion(&mut self, name: &NodeName) {
        if self.suspicions.remove(name).is_some() {
            self.timers.cancel(&Timer::Suspicion(name.clone()));
        }
    }

    /// The known member that this accusation could be about, or `None` with the reason counted.
    fn accusable(&mut self, node: &NodeName, from: &NodeName, incarnation: u32) -> Option<&Member> {
        let ignored = &mut self.stats.ignored;
        let Some(known) = self.members.known(node) else {
            ignored.unknown_member += 1;
            return None;
        };
        if from.as_bytes().len() > NODE_NAME_LEN_MAX {
            ignored.malformed += 1;
        } else if incarnation < known.incarnation {
            ignored.stale += 1;
        } else if !plausible(known.incarnation, incarnation) {
            ignored.implausible += 1;
        } else {
            return Some(known);
        }
        None
    }
}

/// An alive message about another member we know.
fn judge_alive(
    known: &Member,
    announced: &Announcement,
    now: Instant,
    dead_node_reclaim: Duration,
) -> Verdict {
    let mut reclaim = false;
    if known.socket_addr != announced.socket_addr {
        let dead_for_long =
            !dead_node_reclaim.is_zero() && now.since(known.state_change) > dead_node_reclaim;
        reclaim = match known.state {
            MemberState::Left => true,
            MemberState::Dead => announced.incarnation > known.incarnation || dead_for_long, // A6b
            MemberState::Alive | MemberState::Suspect => false,
        };
        if !reclaim {
            return Verdict::Conflict; // A6c
        }
    }
    if !reclaim && announced.incarnation <= known.incarnation {
        Verdict::Stale // A7
    } else if !plausible(known.incarnation, announced.incarnation) {
        Verdict::Implausible
    } else {
        Verdict::Accept
    }
}

/// An alive message about ourselves.
fn judge_alive_me(me: &Member, announced: &Announcement) -> Verdict {
    if me.socket_addr != announced.socket_addr {
        return Verdict::Conflict; // A6c
    }
    if announced.incarnation < me.incarnation {
        return Verdict::Stale; // A8
    }
    // One that lost our versions on the way says nothing against us: refuting it would make it
    // come back for ever.
    let as_now = announced.incarnation == me.incarnation && announced.meta == me.meta;
    if as_now && announced.vsn.is_none_or(|vsn| vsn == me.vsn) {
        Verdict::Echo // A10
    } else if as_now && announced.vsn.is_some_and(|vsn| is_presumed(me.vsn, vsn)) {
        Verdict::Follow
    } else if !plausible(me.incarnation, announced.incarnation) {
        Verdict::Implausible
    } else {
        Verdict::Refute // A11
    }
}

/// Whether a member known at incarnation `known` can have come to `claimed`. Only forgery jumps
/// into the reserve at the top; from there the accused could soon refute no more.
fn plausible(known: u32, claimed: u32) -> bool {
    claimed <= u32::MAX - INCARNATION_RESERVE
        || claimed.saturating_sub(known) <= INCARNATION_STEP_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_reach_the_reserve_only_step_by_step() {
        let reserve = u32::MAX - INCARNATION_RESERVE;
        for (known, claimed, expected) in [
            (1, 5, true),
            (1, reserve, true),
            (1, reserve + 1, false),
            (reserve, reserve + 1, true),
            (reserve, reserve + INCARNATION_STEP_MAX, true),
            (reserve, reserve + INCARNATION_STEP_MAX + 1, false),
            (u32::MAX - 1, u32::MAX, true),
            (1, u32::MAX, false),
        ] {
            assert_eq!(plausible(known, claimed), expected, "{known} to {claimed}");
        }
    }
}
