//! Whose name is it? Two addresses claim it, and both are asked.
//!
//! ```text
//!   the address we hold    the address claimed    so
//!   silent                 answers                the member has moved: its claim is taken
//!   answers                answers                two nodes have one name: told, nothing else
//!   answers or silent      silent                 a rumor that is over
//! ```
//!
//! A member that crashed may return under its name at another address, long before anybody has
//! noticed its death; and two nodes may be given one name. A rumor looks the same in both cases:
//! whoever hears one that is newer asks at both addresses for a node of that name, by ping, and
//! over a stream who does not answer.
//!
//! A node that joins and finds its own name taken asks at that address, and neither joins nor tells
//! who it is while somebody else answers there. It is the newcomer that yields: a node whose name
//! stands, because the node was ready under it or a member of the cluster has passed its
//! announcement on, only tells of the conflict. Its name stands no longer once it has been stopped
//! for long or has lost everybody: what took its place meanwhile may stay. One that hears its own
//! question has asked itself: the address leads back to it.

use super::io::{Event, ExchangeId, JoinError, Refusal};
use super::machine::Swim;
use super::member::{Announcement, MemberState, diallable};
use super::timers::Timer;
use crate::limits::{INQUIRIES_MAX, INQUIRY_VERDICTS_MAX, JOINS_MAX};
use crate::time::Instant;
use crate::wire::message::{Message, NodeName, Ping, PushNodeState};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Steps of an inquiry: two pings and a stream, a third of the time each.
const STEPS: u32 = 3;
/// How long two nodes of one name are not asked about again, nor told of.
const CONFLICT_PAUSE: Duration = Duration::from_secs(60);
/// Probe intervals for which an address that did not answer for our name is not asked again.
const FREE_FOR: u32 = 5;
/// Probe intervals between two questions to the node that has our name.
const TAKEN_AGAIN: u32 = 2;

/// What is known of contested names.
#[derive(Debug, Default)]
pub(super) struct Names {
    inquiries: BTreeMap<NodeName, Inquiry>,
    /// Until when a name is not asked about at an address again.
    settled: BTreeMap<(NodeName, SocketAddr), Instant>,
    /// Nobody of our name answered there, or we did ourselves; until when that counts.
    free: Option<(SocketAddr, Instant)>,
    /// Where another node of our name answers while we have no right to it.
    taken: Option<SocketAddr>,
    /// Whether our name stands, and whether it ever did.
    held: bool,
    was_held: bool,
    /// Until when the conflict that we yield to is not told again.
    told_until: Instant,
    /// Joins that wait until it is known whether our name is free.
    waiting: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Inquiry {
    about: About,
    places: Vec<Place>,
    steps: u32,
    until: Instant,
}

#[derive(Debug)]
enum About {
    /// A member announced from elsewhere. Asked are where we hold it, and where it is claimed.
    Member(Box<Announcement>),
    /// Our own name at another address.
    Us,
}

#[derive(Debug)]
struct Place {
    addr: SocketAddr,
    /// Drawn at random, so that nobody but ourselves can hear it from us.
    seq_no: u32,
    stream: Option<ExchangeId>,
    answered: bool,
    /// Our own question reached us there.
    ourselves: bool,
}

impl Names {
    pub(super) fn is_waiting(&self, peer: SocketAddr) -> bool {
        self.waiting.contains(&peer)
    }

    fn place(&mut self, fits: impl Fn(&Place) -> bool) -> Option<(&NodeName, &mut Place)> {
        self.inquiries.iter_mut().find_map(|(name, inquiry)| {
            Some((name, inquiry.places.iter_mut().find(|place| fits(place))?))
        })
    }
}

impl Swim {
    /// The address at which another live node has our name. While there is one this node tells
    /// nobody who it is, joins nobody, and asks there again and again.
    #[must_use]
    pub fn name_taken(&self) -> Option<SocketAddr> {
        self.names.taken
    }

    /// Whether our name stands although another node that answers claims it: asking a member again
    /// and again would change nothing.
    pub(super) fn is_conflict_told(&self, now: Instant) -> bool {
        let mut settled = self.names.settled.iter();
        self.names.held && settled.any(|((name, _), until)| *name == self.name && now < *until)
    }

    /// Whether our name stands, whoever else claims it.
    pub(super) fn name_stands(&self) -> bool {
        self.names.held
    }

    /// Says that our name stands, whoever else claims it, as this node is ready under it. Only the
    /// first time: after that it stands while members pass on what we tell of ourselves.
    pub fn hold_name(&mut self) {
        if self.names.taken.is_none() && !std::mem::replace(&mut self.names.was_held, true) {
            self.names.held = true;
        }
    }

    /// We did not run for long, or have lost everybody: somebody may have come back in our place.
    pub(super) fn name_lapses(&mut self) {
        self.names.held = false;
    }

    /// Whether what `remote` says may be merged as far as our name goes: not while a node of our
    /// name may live where it says. An inquiry is begun then, if none is under way.
    pub(super) fn name_is_ours(&mut self, now: Instant, remote: &[PushNodeState]) -> bool {
        if self.names.held {
            return true;
        }
        let Some(other) = self.told_elsewhere(remote) else { return true };
        if self.names.free.is_some_and(|(addr, until)| addr == other && now < until) {
            return true;
        }
        self.ask_for_our_name_at(now, other);
        // Without room to ask, the right to the name is in doubt: later looks ask again.
        false
    }

    /// Where `remote` says that our name lives, if not here.
    fn told_elsewhere(&self, remote: &[PushNodeState]) -> Option<SocketAddr> {
        let me = self.me();
        remote
            .iter()
            .filter(|state| state.name == self.name && matches!(state.state, 0 | 1))
            .filter_map(|state| diallable(&state.addr.clone().unwrap_or_default(), state.port))
            .find(|addr| *addr != me.socket_addr)
    }

    /// Has a join wait until it is known whether our name is free.
    pub(super) fn join_later(&mut self, peer: SocketAddr) {
        if self.names.is_waiting(peer) {
            return;
        }
        let asking = self.names.inquiries.contains_key(&self.name);
        let error = match self.names.taken {
            _ if asking && self.names.waiting.len() < JOINS_MAX => {
                self.names.waiting.push(peer);
                return;
            }
            Some(other) => Refusal::NameTaken(other).into(),
            None => JoinError::NoAnswer("whether our name is free is not known yet".to_owned()),
        };
        self.event(Event::JoinDone { peer, result: Err(error) });
    }

    /// A member passes on what we told of ourselves. While it is asked who else has our name that
    /// says nothing: the member may be as new as we are.
    pub(super) fn name_acknowledged(&mut self) {
        if self.names.taken.is_none() && !self.names.inquiries.contains_key(&self.name) {
            (self.names.held, self.names.was_held) = (true, true);
        }
    }

    /// A ping for us arrived by datagram. One from a node that calls itself as we do, or our own
    /// question, says something about our name.
    pub(super) fn name_pinged(&mut self, now: Instant, from: Option<SocketAddr>, ping: &Ping) {
        if ping.source_node != self.name {
            return;
        }
        let ours = |place: &Place| place.seq_no == ping.seq_no;
        if let Some((_, place)) = self.names.place(ours) {
            place.ourselves = true;
        } else if let Some(from) = from {
            self.ask_for_our_name_at(now, from);
        }
    }

    fn ask_for_our_name_at(&mut self, now: Instant, other: SocketAddr) {
        if other != self.me().socket_addr {
            self.inquire(now, self.name.clone(), About::Us, &[other]);
        }
    }

    /// A member is announced, newer, from another address than the one we hold for it; or our own
    /// name is announced from elsewhere.
    pub(super) fn claimed_elsewhere(&mut self, now: Instant, announcement: &Announcement) {
        let (name, claimed) = (&announcement.name, announcement.socket_addr);
        let Some(known) = self.members.known(name) else { return };
        let held = known.socket_addr;
        if *name == self.name {
            self.ask_for_our_name_at(now, claimed);
        } else if announcement.incarnation > known.incarnation {
            let about = About::Member(Box::new(announcement.clone()));
            self.inquire(now, name.clone(), about, &[held, claimed]);
        } else {
            self.stats.ignored.stale += 1;
        }
    }

    fn inquire(&mut self, now: Instant, name: NodeName, about: About, places: &[SocketAddr]) {
        let last = *places.last().expect("somebody to ask");
        self.names.settled.retain(|_, until| now < *until);
        let is_settled = self.names.settled.contains_key(&(name.clone(), last));
        if is_settled || self.names.inquiries.contains_key(&name) || self.is_leaving() {
            return;
        }
        let full = self.names.inquiries.len() >= INQUIRIES_MAX
            || self.names.settled.len() >= INQUIRY_VERDICTS_MAX;
        if full {
            self.stats.inquiries_dropped += 1;
            return;
        }
        let rng = &mut self.rng;
        let mut place = |&addr| {
            let seq_no = rng.next_u64() as u32;
            Place { addr, seq_no, stream: None, answered: false, ourselves: false }
        };
        let places = places.iter().map(&mut place).collect();
        let until = now + self.config.probe_timeout;
        self.stats.inquiries += 1;
        self.names.inquiries.insert(name.clone(), Inquiry { about, places, steps: 0, until });
        self.inquiry_due(now, &name);
    }

    /// Asks on, or judges.
    pub(super) fn inquiry_due(&mut self, now: Instant, name: &NodeName) {
        let Some(inquiry) = self.names.inquiries.get_mut(name) else {
            if let Some(other) = self.names.taken.filter(|_| *name == self.name) {
                self.ask_for_our_name_at(now, other);
            }
            return;
        };
        if inquiry.until <= now || inquiry.places.iter().all(|place| place.answered) {
            return self.judge(now, name);
        }
        inquiry.steps += 1;
        let (step, until) = (inquiry.steps, inquiry.until);
        let silent = inquiry.places.iter().filter(|place| !place.answered);
        let silent: Vec<(SocketAddr, u32)> = silent.map(|p| (p.addr, p.seq_no)).collect();
        let next = now + self.config.probe_timeout / STEPS;
        let next = if step < STEPS { next.min(until) } else { until };
        self.timers.set(Timer::Inquiry(name.clone()), next);
        for (addr, seq_no) in silent {
            let source_node = self.name.clone();
            let ping = Ping { seq_no, node: name.clone(), source_node, ..Ping::default() };
            if step < STEPS {
                self.send(addr, &Message::Ping(ping));
                continue;
            }
            let id = self.begin_stream_ping(addr, ping, until);
            if let Some((_, place)) = self.names.place(|place| place.seq_no == seq_no) {
                place.stream = Some(id);
            }
        }
    }

    /// An answer to a question of ours, by datagram or on this stream. Whether it is one.
    pub(super) fn name_answered(
        &mut self,
        now: Instant,
        seq_no: u32,
        stream: Option<ExchangeId>,
    ) -> bool {
        let fits =
            |place: &Place| place.seq_no == seq_no && (stream.is_none() || place.stream == stream);
        let Some((name, place)) = self.names.place(fits) else { return false };
        place.answered = true;
        let name = name.clone();
        let done = self.names.inquiries[&name].places.iter().all(|place| place.answered);
        if done {
            self.judge(now, &name);
        }
        true
    }

    fn judge(&mut self, now: Instant, name: &NodeName) {
        let Some(inquiry) = self.names.inquiries.remove(name) else { return };
        self.timers.cancel(&Timer::Inquiry(name.clone()));
        match (inquiry.about, &inquiry.places[..]) {
            (About::Us, [other]) => self.judge_us(now, other),
            (About::Member(claim), [held, claimed]) => {
                self.judge_member(now, &claim, held, claimed);
            }
            _ => {}
        }
    }

    fn judge_member(&mut self, now: Instant, claim: &Announcement, held: &Place, new: &Place) {
        let Some(known) = self.members.known(&claim.name) else { return };
        let unchanged = known.socket_addr == held.addr && known.incarnation < claim.incarnation;
        match (held.answered, new.answered) {
            (false, true) if unchanged => self.accept(now, claim),
            (true, true) => self.conflict(now, &claim.name, held.addr, new.addr),
            _ => {
                let until = now + self.config.probe_interval;
                self.names.settled.insert((claim.name.clone(), new.addr), until);
            }
        }
    }

    fn judge_us(&mut self, now: Instant, other: &Place) {
        let waiting = std::mem::take(&mut self.names.waiting);
        if other.answered && !other.ourselves {
            if !self.names.held {
                self.names.taken = Some(other.addr);
                let again = now + self.config.probe_interval * TAKEN_AGAIN;
                self.timers.set(Timer::Inquiry(self.name.clone()), again);
                for peer in waiting {
                    let result = Err(Refusal::NameTaken(other.addr).into());
                    self.event(Event::JoinDone { peer, result });
                }
            }
            self.conflict(now, &self.name.clone(), self.me().socket_addr, other.addr);
            return;
        }
        self.names.taken = None;
        let pause = self.config.probe_interval * FREE_FOR;
        let pause = if other.ourselves { CONFLICT_PAUSE } else { pause };
        self.names.free = Some((other.addr, now + pause));
        self.names.settled.insert((self.name.clone(), other.addr), now + pause);
        for peer in waiting {
            self.join_again(now, peer);
        }
    }

    /// Two live nodes have one name: told once a while.
    fn conflict(&mut self, now: Instant, name: &NodeName, known: SocketAddr, claimed: SocketAddr) {
        let until = now + CONFLICT_PAUSE;
        let ours = *name == self.name && !self.names.held;
        let key = (name.clone(), claimed);
        // Who yields asks again all the time, and tells at its own pace.
        let is_news = !ours || self.names.told_until <= now;
        if ours {
            self.names.told_until = if is_news { until } else { self.names.told_until };
        } else {
            self.names.settled.insert(key, until);
        }
        if is_news {
            self.stats.conflicts += 1;
            self.event(Event::Conflict { name: name.clone(), known, claimed });
        }
    }

    /// We did not run for long: what was not answered meanwhile says nothing.
    pub(super) fn ask_anew(&mut self, now: Instant) {
        for (name, inquiry) in &mut self.names.inquiries {
            inquiry.steps = 0;
            inquiry.until = now + self.config.probe_timeout;
            self.timers.set(Timer::Inquiry(name.clone()), now);
        }
    }

    /// The member that a push-pull's states contest, when none of them could be merged: its name,
    /// and where we hold it.
    pub(super) fn contested_in(&self, remote: &[PushNodeState]) -> Option<(NodeName, SocketAddr)> {
        remote.iter().filter(|state| matches!(state.state, 0 | 1)).find_map(|state| {
            let known = self.members.known(&state.name)?;
            let elsewhere = diallable(&state.addr.clone().unwrap_or_default(), state.port)
                .is_some_and(|addr| addr != known.socket_addr);
            let present = matches!(known.state, MemberState::Alive | MemberState::Suspect);
            (elsewhere && present).then(|| (known.name.clone(), known.socket_addr))
        })
    }
}
