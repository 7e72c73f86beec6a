//! Push-pulls: two nodes tell each other everything they know.
//!
//! ```text
//! dialler --- our states ---> server        join, every push_pull_interval, and to the dead
//! dialler <-- its states ----- server       it answers with what it knew before, then merges
//!    merge                      merge
//! ```
//!
//! Who knows nobody does not know either which delegate version is spoken where it joins, and a
//! member that cannot follow its states calls them an error. So its first push-pull tells nothing,
//! only asks; the next one tells, in the cluster's version.
//!
//! A suspect or dead entry is only hearsay: it becomes a suspicion of ours, so that the accused can
//! refute. That, and the states going both ways, is how a partition heals.

use super::aliases::Aliases;
use super::broadcast::BroadcastQueue;
use super::io::{Event, ExchangeId, JoinError, Output, Refusal};
use super::machine::{Swim, canonical};
use super::member::{Member, MemberState, diallable};
use super::scale;
use super::timers::Timer;
use super::versions;
use crate::limits::{JOINS_MAX, JOINS_WAITING_MAX};
use crate::time::Instant;
use crate::wire::message::{Ack, Alive, Dead, NodeName, Ping, PushNodeState, Suspect};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long after an exchange's deadline we wait for the shell to tell its end.
const END_SLACK: Duration = Duration::from_secs(1);
/// Members redialled at once that have lately died or left; the others take their turn.
const REDIALS_LATELY: usize = 3;
/// Members redialled at once of all that are remembered as dead or gone.
const REDIALS_ANY: usize = 3;

/// Why a stream was dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Join,
    Sync,
    Redial,
    Contest,
    StreamPing,
    /// Which member answers at an address that is no member's.
    Alias,
}

impl Purpose {
    fn is_push_pull(self) -> bool {
        !matches!(self, Purpose::StreamPing | Purpose::Alias)
    }
}

/// One stream under way.
#[derive(Debug)]
struct Exchange {
    purpose: Purpose,
    peer: SocketAddr,
    member: Option<NodeName>,
    /// Whether it repeats one whose content called for it; that is done once.
    repeated: bool,
    /// Whether it told nothing.
    asked: bool,
}

/// The streams under way, and the addresses waiting to be joined.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    last_id: u64,
    pending: BTreeMap<ExchangeId, Exchange>,
    waiting: VecDeque<SocketAddr>,
    aliases: Aliases,
}

impl Exchanges {
    fn begin(&mut self, exchange: Exchange) -> ExchangeId {
        self.last_id += 1;
        let id = ExchangeId(self.last_id);
        self.pending.insert(id, exchange);
        id
    }

    fn n_joins(&self) -> usize {
        self.pending.values().filter(|exchange| exchange.purpose == Purpose::Join).count()
    }

    /// Whether a push-pull with this address is under way or waiting.
    pub(super) fn dials(&self, peer: SocketAddr) -> bool {
        self.waiting.contains(&peer)
            || self
                .pending
                .values()
                .any(|exchange| exchange.peer == peer && exchange.purpose.is_push_pull())
    }
}

impl Swim {
    /// Begins a push-pull with each address that is neither an alive member's (or ours), nor known
    /// to lead to one, nor being dialled already. Each one begun ends in an [`Event::JoinDone`], as
    /// does one that cannot begin.
    pub fn join(&mut self, now: Instant, addresses: &[SocketAddr]) {
        for &address in addresses {
            let peer = canonical(address);
            let under_way = self.exchanges.dials(peer) || self.names.is_waiting(peer);
            if under_way || self.is_alive_at(peer) || self.is_alias(now, peer) {
                continue;
            }
            let refusal = if self.is_leaving() {
                Some("this node is leaving")
            } else if peer.port() == 0 || peer.ip().is_unspecified() {
                Some("not an address to dial")
            } else if self.exchanges.waiting.len() >= JOINS_WAITING_MAX {
                self.stats.joins_dropped += 1;
                Some("too many addresses are waiting to be joined")
            } else {
                None
            };
            match refusal {
                Some(why) => self.join_done(peer, Err(JoinError::NoAnswer(why.to_owned()))),
                None => self.exchanges.waiting.push_back(peer),
            }
        }
        self.join_waiting(now);
        self.settle(now);
    }

    /// Joins through an address once it is known that our name is free.
    pub(super) fn join_again(&mut self, now: Instant, peer: SocketAddr) {
        self.begin_push_pull(now, Purpose::Join, peer, None, true);
    }

    fn join_waiting(&mut self, now: Instant) {
        while self.exchanges.n_joins() < JOINS_MAX {
            let Some(peer) = self.exchanges.waiting.pop_front() else { return };
            if self.is_alive_at(peer) {
                self.join_done(peer, Ok(()));
            } else {
                self.begin_push_pull(now, Purpose::Join, peer, None, false);
            }
        }
    }

    fn join_done(&mut self, peer: SocketAddr, result: Result<(), JoinError>) {
        self.event(Event::JoinDone { peer, result });
    }

    /// Whether a member that answers is at `addr`.
    pub fn is_alive_at(&self, addr: SocketAddr) -> bool {
        self.members_at(addr).any(|member| member.state == MemberState::Alive)
    }

    /// The periodic push-pull with one random alive member.
    pub(super) fn push_pull_tick(&mut self, now: Instant) {
        let interval = self.config.push_pull_interval;
        let again = scale::push_pull_interval(interval, self.members.n_known());
        self.timers.set(Timer::PushPull, now + again);
        let here = self.me().socket_addr;
        let picked = self.members.pick(1, &mut self.rng, |member| {
            member.socket_addr != here && member.state == MemberState::Alive
        });
        let Some((peer, name)) = picked.first().map(|m| (m.socket_addr, m.name.clone())) else {
            return;
        };
        if !self.exchanges.dials(peer) {
            self.begin_push_pull(now, Purpose::Sync, peer, Some(name), false);
        }
    }

    /// Tries to reach some random members that are dead or gone, and up to [`REDIALS_LATELY`] that
    /// have been for less than half a minute: a process that crashed is restarted soon, perhaps
    /// with nobody to look for, and must hear of its cluster before it takes itself for the first.
    pub(super) fn redial_tick(&mut self, now: Instant) {
        let interval = self.config.redial_interval;
        let again = scale::redial_interval(interval, self.members.n_known());
        self.timers.set(Timer::Redial, now + again);
        self.members.departed.expire(now, self.config.dead_memory);
        for name in self.members.forget_buried(now, self.config.dead_memory) {
            self.event(Event::Reaped(name));
        }
        if self.is_leaving() {
            return;
        }
        let mut drawn: Vec<&Member> = Vec::new();
        for _ in 0..REDIALS_ANY {
            drawn.extend(self.members.pick_absent(&mut self.rng));
        }
        if drawn.is_empty() {
            return;
        }
        let is_lately = Member::is_lately_absent;
        drawn.extend(self.members.pick(REDIALS_LATELY, &mut self.rng, is_lately));
        let mut absent: Vec<(SocketAddr, NodeName, bool)> = Vec::new();
        for member in drawn {
            if !absent.iter().any(|(_, name, _)| *name == member.name) {
                absent.push((member.socket_addr, member.name.clone(), member.buried));
            }
        }
        for (peer, name, buried) in absent {
            self.redial(now, peer, name, buried);
        }
    }

    /// Tries to reach an absent member, unless its address is another's now: then nobody of that
    /// name will answer there, and the graveyard forgets it.
    fn redial(&mut self, now: Instant, peer: SocketAddr, name: NodeName, buried: bool) {
        if self.is_alive_at(peer) {
            if buried {
                self.members.depart(&name, now);
                self.event(Event::Reaped(name));
            }
        } else if !self.exchanges.dials(peer) {
            self.begin_push_pull(now, Purpose::Redial, peer, Some(name), false);
        }
    }

    /// Asks a peer that held our name for another address whether it still does.
    pub(super) fn ask_for_our_name(&mut self, now: Instant, peer: SocketAddr) {
        if !self.exchanges.dials(peer) {
            self.begin_push_pull(now, Purpose::Contest, peer, None, false);
        }
    }

    pub(super) fn begin_push_pull(
        &mut self,
        now: Instant,
        purpose: Purpose,
        peer: SocketAddr,
        member: Option<NodeName>,
        repeated: bool,
    ) {
        // Who has no right to its name tells nothing either.
        let untold = self.name_taken().is_some();
        let asked = purpose == Purpose::Join && !repeated && self.members.n_known() == 1;
        let states = if asked || untold { Vec::new() } else { self.states() };
        let deadline = now + self.config.stream_timeout;
        let exchange = Exchange { purpose, peer, member: member.clone(), repeated, asked };
        let id = self.exchanges.begin(exchange);
        self.timers.set(Timer::Exchange(id), deadline + END_SLACK);
        self.stats.push_pulls += 1;
        let join = purpose == Purpose::Join && !asked && !untold;
        self.output(Output::PushPull { id, peer, member, join, states, deadline });
    }

    pub(super) fn begin_stream_ping(
        &mut self,
        peer: SocketAddr,
        ping: Ping,
        deadline: Instant,
    ) -> ExchangeId {
        self.begin_ping(Purpose::StreamPing, peer, None, ping, deadline)
    }

    fn begin_ping(
        &mut self,
        purpose: Purpose,
        peer: SocketAddr,
        member: Option<NodeName>,
        ping: Ping,
        deadline: Instant,
    ) -> ExchangeId {
        let exchange = Exchange { purpose, peer, member, repeated: false, asked: false };
        let id = self.exchanges.begin(exchange);
        self.timers.set(Timer::Exchange(id), deadline + END_SLACK);
        self.output(Output::StreamPing { id, peer, ping, deadline });
        id
    }

    fn end_exchange(&mut self, id: ExchangeId) -> Option<Exchange> {
        self.timers.cancel(&Timer::Exchange(id));
        self.exchanges.pending.remove(&id)
    }

    /// A peer sent us its states: merges them, and returns ours as they were before, which are to
    /// be sent whatever the merge came to. (Delegate versions are adopted first, so that the
    /// answer already fits the peer's cluster.)
    pub fn push_pull_request(
        &mut self,
        now: Instant,
        from: SocketAddr,
        remote: Vec<PushNodeState>,
        _join: bool,
    ) -> Vec<PushNodeState> {
        self.stats.push_pulls_answered += 1;
        self.adopt_from_states(&remote);
        let is_nameless = self.name_taken().is_some();
        let ours = if is_nameless { Vec::new() } else { self.states() };
        // Nobody is a member for one who is none: others would hear of theirs from it.
        if !is_nameless && self.name_is_ours(now, &remote) {
            let _ = self.merge_states(now, canonical(from), remote);
        }
        self.settle(now);
        ours
    }

    /// Takes over a table of members as if all of it had been told long ago: no rumor goes out, no
    /// event comes. For simulations that begin with a settled cluster.
    pub fn acquaint(&mut self, now: Instant, states: Vec<PushNodeState>) {
        let from = self.me().socket_addr;
        let _ = self.merge_states(now, from, states);
        self.broadcasts = BroadcastQueue::default();
        while self.poll().is_some() {}
    }

    /// The states a peer answered to ours.
    pub fn push_pull_done(&mut self, now: Instant, id: ExchangeId, remote: Vec<PushNodeState>) {
        let Some(exchange) = self.end_exchange(id) else { return };
        let Exchange { purpose, peer, member, repeated, asked } = exchange;
        if !purpose.is_push_pull() {
            return;
        }
        let adopted = self.adopt_from_states(&remote);
        let ours = self.name_is_ours(now, &remote) && self.name_taken().is_none();
        if asked && (ours || self.name_taken().is_none()) {
            // Told at once where our name seems to be another's: the peer asks, too.
            self.begin_push_pull(now, purpose, peer, member, true);
            self.settle(now);
            return;
        }
        if !ours {
            if purpose == Purpose::Join {
                self.join_later(peer);
            }
            self.join_waiting(now);
            self.settle(now);
            return;
        }
        let contested = self.names_us_elsewhere(&remote).filter(|_| !self.is_conflict_told(now));
        let joined = self.merge_join(now, peer, remote);
        // One that leaves answers until it ends.
        if self.is_alive_at(peer) {
            self.calls.answered(peer);
        }
        if let Some(incarnation) = contested {
            self.contested(now, peer, incarnation);
        }
        // Both sides of a healed partition refute what the other sent. One more exchange brings
        // the refutations across, where gossip no longer would.
        let unmoved = purpose == Purpose::Redial
            && member.as_ref().and_then(|name| self.member(name)).is_some_and(|m| !m.is_present());
        if (adopted || unmoved) && !repeated {
            self.begin_push_pull(now, purpose, peer, member, true);
        } else if purpose == Purpose::Join {
            self.join_done(peer, joined);
        }
        self.join_waiting(now);
        self.settle(now);
    }

    /// A push-pull or a stream ping that came to nothing.
    pub fn exchange_failed(&mut self, now: Instant, id: ExchangeId, why: &str) {
        self.exchange_ended(now, id, JoinError::NoAnswer(why.to_owned()));
    }

    /// A push-pull or a stream ping that the other end refused.
    pub fn exchange_refused(&mut self, now: Instant, id: ExchangeId, refusal: Refusal) {
        match refusal {
            Refusal::Key => self.stats.refused.key += 1,
            Refusal::Label => self.stats.refused.label += 1,
            Refusal::Silence => self.stats.refused.silence += 1,
            Refusal::Version(_) | Refusal::NameTaken(_) | Refusal::NameClaimed { .. } => {}
        }
        self.exchange_ended(now, id, JoinError::Refused(refusal));
    }

    fn exchange_ended(&mut self, now: Instant, id: ExchangeId, why: JoinError) {
        let Some(exchange) = self.end_exchange(id) else { return };
        if exchange.purpose.is_push_pull() {
            self.stats.push_pulls_failed += 1;
        }
        match exchange.purpose {
            Purpose::Join => self.join_done(exchange.peer, Err(why)),
            // Somebody of the cluster has answered there a moment ago, though not by that name.
            Purpose::Alias => self.exchanges.aliases.insert(now, exchange.peer, None),
            _ => {}
        }
        self.join_waiting(now);
        self.settle(now);
    }

    /// The answer to a ping over a stream. It counts when the probe's time is over without an ack.
    pub fn stream_ack(&mut self, now: Instant, id: ExchangeId, ack: &Ack) {
        let Some(exchange) = self.end_exchange(id) else { return };
        if let (Purpose::Alias, Some(name)) = (exchange.purpose, exchange.member) {
            self.exchanges.aliases.insert(now, exchange.peer, Some(name));
            return self.settle(now);
        }
        if self.name_answered(now, ack.seq_no, Some(id)) {
            return self.settle(now);
        }
        match &mut self.probe {
            Some(probe) if probe.stream == Some(id) && probe.seq_no == ack.seq_no => {
                probe.stream_answered = true;
            }
            _ => self.stats.ignored.unexpected_ack += 1,
        }
        self.settle(now);
    }

    /// Everyone we know, ourselves first: so our own kind can tell who has answered.
    fn states(&self) -> Vec<PushNodeState> {
        let me = std::iter::once(self.me());
        let others = self.members.iter_known().filter(|member| member.name != self.name);
        me.chain(others).map(Member::to_push_state).collect()
    }

    /// Merges what a peer answered, and says whether that was joining it: when a member that it
    /// names is one of ours now.
    fn merge_join(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        remote: Vec<PushNodeState>,
    ) -> Result<(), JoinError> {
        let present = remote.iter().filter(|state| matches!(state.state, 0 | 1));
        let named: Vec<NodeName> = present.map(|state| state.name.clone()).collect();
        let contested = self.contested_in(&remote);
        let first = remote.first().map(|state| state.name.clone());
        self.merge_states(now, peer, remote).map_err(Refusal::Version)?;
        let contested = contested.filter(|(name, _)| named == [name.clone()]);
        match (&named[..], contested, first) {
            ([], _, _) => Err(JoinError::NoAnswer("it tells of no live member".to_owned())),
            ([only], _, _) if *only == self.name => Err(JoinError::Ourselves),
            (_, Some((name, holder)), _) => Err(Refusal::NameClaimed { name, holder }.into()),
            (_, None, Some(first)) => {
                self.learn_alias(now, peer, first);
                Ok(())
            }
            (_, None, None) => Ok(()),
        }
    }

    /// An address that is no member's own led to somebody: asks whether it was the member that
    /// tells of itself first. A balancer's or a translated address is not joined anew at each look.
    fn learn_alias(&mut self, now: Instant, peer: SocketAddr, name: NodeName) {
        if self.members.at(peer).next().is_none() {
            let seq_no = self.rng.next_u64() as u32;
            let ping = Ping { seq_no, node: name.clone(), ..Ping::default() };
            let deadline = now + self.config.stream_timeout;
            self.begin_ping(Purpose::Alias, peer, Some(name), ping, deadline);
        }
    }

    fn is_alias(&self, now: Instant, peer: SocketAddr) -> bool {
        let leads = self.leads_to(now, peer).map(|member| member.state == MemberState::Alive);
        let unnamed = || self.exchanges.aliases.is_unnamed(now, canonical(peer));
        leads.unwrap_or_else(|| unnamed() && self.n_alive() > 1)
    }

    /// The member, or we ourselves, that was found behind an address which is nobody's own, by a
    /// join within the last minute.
    #[must_use]
    pub fn leads_to(&self, now: Instant, peer: SocketAddr) -> Option<&Member> {
        self.member(self.exchanges.aliases.get(now, canonical(peer))?)
    }

    /// Whether an address that is nobody's own leads to a member that is present, by a join within
    /// the last minute. One that has to refute first that it is dead is none; where only the
    /// cluster is known behind it, as with a balancer, that counts as one.
    #[must_use]
    pub fn leads_to_member(&self, now: Instant, peer: SocketAddr) -> bool {
        self.leads_to(now, peer).is_some_and(Member::is_present)
            || self.exchanges.aliases.is_unnamed(now, canonical(peer))
    }

    fn merge_states(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        remote: Vec<PushNodeState>,
    ) -> Result<(), String> {
        let own = self.me().vsn;
        let verdict = versions::verify(&self.name, own, &remote);
        if let Err(why) = verdict {
            self.stats.merges_refused += 1;
            self.event(Event::MergeRefused { peer, why: why.clone() });
            return Err(why);
        }
        let name = self.name.clone();
        for mut state in remote.into_iter().filter(|state| versions::fits(&name, own, state)) {
            versions::presume(own, &mut state);
            self.merge_state(now, state);
        }
        Ok(())
    }

    fn merge_state(&mut self, now: Instant, state: PushNodeState) {
        let PushNodeState { name, addr, port, meta, incarnation, state, vsn } = state;
        match state {
            0 => self.alive(now, Alive { incarnation, node: name, addr, port, meta, vsn }),
            1 | 2 => {
                let from = self.name.clone();
                self.suspect(now, Suspect { incarnation, node: name, from });
            }
            3 => self.dead(now, Dead { incarnation, node: name.clone(), from: name }),
            _ => self.stats.ignored.malformed += 1,
        }
    }

    /// The incarnation under which these states hold our name for another address.
    fn names_us_elsewhere(&self, remote: &[PushNodeState]) -> Option<u32> {
        let me = self.me();
        let state = remote.iter().filter(|state| state.name == self.name).find(|state| {
            let addr = state.addr.clone().unwrap_or_default();
            diallable(&addr, state.port).is_some_and(|addr| addr != me.socket_addr)
        });
        state.map(|state| state.incarnation)
    }
}
