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

use super::broadcast::BroadcastQueue;
use super::io::{Event, ExchangeId, JoinError, Output, Refusal};
use super::machine::{Swim, canonical};
use super::member::{MemberState, diallable};
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

/// Why a stream was dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Join,
    Sync,
    Redial,
    Contest,
    StreamPing,
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
                .any(|exchange| exchange.peer == peer && exchange.purpose != Purpose::StreamPing)
    }
}

impl Swim {
    /// Begins a push-pull with each address that is neither an alive member's (or ours) nor being
    /// dialled already. Each one begun ends in an [`Event::JoinDone`], as does one that cannot
    /// begin.
    pub fn join(&mut self, now: Instant, addresses: &[SocketAddr]) {
        for &address in addresses {
            let peer = canonical(address);
            if self.is_alive_at(peer) || self.exchanges.dials(peer) {
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

    fn is_alive_at(&self, addr: SocketAddr) -> bool {
        self.members.at(addr).any(|member| member.state == MemberState::Alive)
    }

    /// The periodic push-pull with one random alive member.
    pub(super) fn push_pull_tick(&mut self, now: Instant) {
        let interval = self.config.push_pull_interval;
        let again = scale::push_pull_interval(interval, self.members.n_known());
        self.timers.set(Timer::PushPull, now + again);
        let picked = self.members.pick(1, &mut self.rng, |member| {
            member.name != self.name && member.state == MemberState::Alive
        });
        let Some((peer, name)) = picked.first().map(|m| (m.socket_addr, m.name.clone())) else {
            return;
        };
        if !self.exchanges.dials(peer) {
            self.begin_push_pull(now, Purpose::Sync, peer, Some(name), false);
        }
    }

    /// Tries to reach one random dead member, unless its address is another's now: then nobody of
    /// that name will answer there, and the graveyard forgets it.
    pub(super) fn redial_tick(&mut self, now: Instant) {
        let interval = self.config.redial_interval;
        let again = scale::redial_interval(interval, self.members.n_known());
        self.timers.set(Timer::Redial, now + again);
        for name in self.members.forget_buried(now, self.config.dead_memory) {
            self.event(Event::Reaped(name));
        }
        if self.is_leaving() {
            return;
        }
        let Some(dead) = self.members.pick_dead(&mut self.rng) else { return };
        let (peer, name, buried) = (dead.socket_addr, dead.name.clone(), dead.buried);
        if self.is_alive_at(peer) {
            if buried {
                self.members.forget(&name);
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
        let asked = purpose == Purpose::Join && !repeated && self.members.n_known() == 1;
        let states = if asked { Vec::new() } else { self.states() };
        let deadline = now + self.config.stream_timeout;
        let exchange = Exchange { purpose, peer, member: member.clone(), repeated, asked };
        let id = self.exchanges.begin(exchange);
        self.timers.set(Timer::Exchange(id), deadline + END_SLACK);
        self.stats.push_pulls += 1;
        let join = purpose == Purpose::Join && !asked;
        self.output(Output::PushPull { id, peer, member, join, states, deadline });
    }

    pub(super) fn begin_stream_ping(
        &mut self,
        peer: SocketAddr,
        ping: Ping,
        deadline: Instant,
    ) -> ExchangeId {
        let purpose = Purpose::StreamPing;
        let exchange = Exchange { purpose, peer, member: None, repeated: false, asked: false };
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
        let ours = self.states();
        let _ = self.merge_states(now, canonical(from), remote);
        self.settle(now);
        ours
    }

    /// Takes over a table of members as if all of it had been told long ago: no rumour goes out, no
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
        if purpose == Purpose::StreamPing {
            return;
        }
        self.calls.answered(peer);
        let adopted = self.adopt_from_states(&remote);
        if asked {
            self.begin_push_pull(now, purpose, peer, member, true);
            self.settle(now);
            return;
        }
        let contested = self.names_us_elsewhere(&remote);
        let merged = self.merge_states(now, peer, remote);
        if contested {
            self.contested(now, peer);
        }
        // Both sides of a healed partition refute what the other sent. One more exchange brings
        // the refutations across, where gossip no longer would.
        let unmoved = purpose == Purpose::Redial
            && member.as_ref().and_then(|name| self.member(name)).is_some_and(|m| !m.is_present());
        if (adopted || unmoved) && !repeated {
            self.begin_push_pull(now, purpose, peer, member, true);
        } else if purpose == Purpose::Join {
            let refused = |why| JoinError::Refused(Refusal::Version(why));
            self.join_done(peer, merged.map_err(refused));
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
        if exchange.purpose != Purpose::StreamPing {
            self.stats.push_pulls_failed += 1;
        }
        if exchange.purpose == Purpose::Join {
            self.join_done(exchange.peer, Err(why));
        }
        self.join_waiting(now);
        self.settle(now);
    }

    /// The answer to a ping over a stream. It counts when the probe's time is over without an ack.
    pub fn stream_ack(&mut self, now: Instant, id: ExchangeId, ack: &Ack) {
        if self.end_exchange(id).is_none() {
            return;
        }
        match &mut self.probe {
            Some(probe) if probe.stream == Some(id) && probe.seq_no == ack.seq_no => {
                probe.stream_answered = true;
            }
            _ => self.stats.ignored.unexpected_ack += 1,
        }
        self.settle(now);
    }

    fn states(&self) -> Vec<PushNodeState> {
        self.members.iter_known().map(super::Member::to_push_state).collect()
    }

    fn merge_states(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        remote: Vec<PushNodeState>,
    ) -> Result<(), String> {
        if let Err(why) = versions::verify(&self.name, &self.members, &remote) {
            self.stats.merges_refused += 1;
            self.event(Event::MergeRefused { peer, why: why.clone() });
            return Err(why);
        }
        for state in remote {
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

    fn names_us_elsewhere(&self, remote: &[PushNodeState]) -> bool {
        let me = self.me();
        remote.iter().filter(|state| state.name == self.name).any(|state| {
            let addr = state.addr.clone().unwrap_or_default();
            diallable(&addr, state.port).is_some_and(|addr| addr != me.socket_addr)
        })
    }
}
