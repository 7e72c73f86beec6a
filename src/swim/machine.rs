//! The membership machine: state, entry points, and what they have in common.
//!
//! A caller feeds it ([`Swim::message`], the exchange calls, [`Swim::timeout`]), then drains
//! [`Swim::poll`], then waits until [`Swim::deadline`] at the latest. A spurious timeout is
//! harmless. Time never goes back.

use super::awareness::Awareness;
use super::broadcast::BroadcastQueue;
use super::calls::Calls;
use super::config::Config;
use super::exchange::Exchanges;
use super::io::{Event, Output, Packet};
use super::lifecycle::{Contest, Identity, Leaving};
use super::member::{Member, MemberState};
use super::members::Members;
use super::names::Names;
use super::probe::Probe;
use super::relay::Relay;
use super::stats::Stats;
use super::suspicion::Suspicion;
use super::timers::{Timer, Timers};
use crate::limits::{COMPOUND_PARTS_MAX, DATAGRAM_LEN_MAX};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::message::{Message, NodeName};
use crate::wire::packet::PART_OVERHEAD;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Waking later than this (or a probe interval) is being stopped, not being busy.
const LATE_MIN: Duration = Duration::from_secs(1);

/// Probe intervals of not running after which somebody may have taken our place.
const LAPSE_INTERVALS: u32 = 5;

/// Rounds of firing in one [`Swim::timeout`]; two are enough while time is finite.
const TIMEOUT_ROUNDS_MAX: usize = 4;

/// One node's membership machine.
#[derive(Debug)]
pub struct Swim {
    pub(super) config: Config,
    pub(super) rng: Rng,
    /// Our own name; our row in `members` is always there and never buried.
    pub(super) name: NodeName,
    pub(super) members: Members,
    pub(super) awareness: Awareness,
    /// One for each suspect member.
    pub(super) suspicions: BTreeMap<NodeName, Suspicion>,
    pub(super) broadcasts: BroadcastQueue,
    pub(super) timers: Timers,
    /// The last number given to a ping.
    pub(super) seq_no: u32,
    pub(super) probe: Option<Probe>,
    /// Pings run for others, by our own number of them.
    pub(super) relays: BTreeMap<u32, Relay>,
    pub(super) exchanges: Exchanges,
    pub(super) calls: Calls,
    pub(super) leaving: Leaving,
    pub(super) contest: Option<Contest>,
    pub(super) names: Names,
    /// The instant from which the gossip rounds are counted.
    pub(super) gossip_phase: Instant,
    /// Bytes for the parts of a packet, [`PART_OVERHEAD`] each included.
    pub(super) budget_len: usize,
    pub(super) stats: Stats,
    outputs: VecDeque<Output>,
}

impl Swim {
    /// A node that knows only itself and is about to announce itself.
    ///
    /// `incarnation` should come from the wall clock, so that a node restarted under its old name
    /// overtakes its past; 0 counts as 1. All randomness follows from `rng_seed`.
    ///
    /// # Panics
    /// When `me` has an address that cannot be dialled, an empty or too long name, or too long a
    /// meta: its peers would refuse it.
    #[must_use]
    pub fn new(
        config: Config,
        me: Identity,
        incarnation: u32,
        rng_seed: u64,
        now: Instant,
    ) -> Swim {
        let mut swim = Swim {
            awareness: Awareness::new(config.awareness_max),
            config,
            rng: Rng::from_seed(rng_seed),
            name: me.name.clone(),
            members: Members::default(),
            suspicions: BTreeMap::new(),
            broadcasts: BroadcastQueue::default(),
            timers: Timers::default(),
            seq_no: 0,
            probe: None,
            relays: BTreeMap::new(),
            exchanges: Exchanges::default(),
            calls: Calls::default(),
            leaving: Leaving::No,
            contest: None,
            names: Names::default(),
            gossip_phase: now,
            budget_len: DATAGRAM_LEN_MAX,
            stats: Stats::default(),
            outputs: VecDeque::new(),
        };
        swim.start(now, me, incarnation.max(1));
        swim
    }

    /// One message of a datagram from `from`. User messages are not for this machine.
    pub fn message(&mut self, now: Instant, from: SocketAddr, message: Message) {
        let from = canonical(from);
        match message {
            Message::Ping(ping) => self.ping(now, from, &ping),
            Message::IndirectPing(request) => self.indirect_ping(now, from, &request),
            Message::Ack(ack) => self.ack(now, ack.seq_no),
            Message::Nack(nack) => self.nack(nack.seq_no),
            Message::Suspect(suspect) => self.suspect(now, suspect),
            Message::Alive(alive) => self.alive(now, alive),
            Message::Dead(dead) => self.dead(now, dead),
            Message::User(_) => self.stats.ignored.malformed += 1,
        }
        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn timeout(&mut self, now: Instant) {
        if let Some(due) = self.timers.next() {
            let late = now.since(due);
            if late > self.config.probe_interval.max(LATE_MIN) {
                self.wake_late(now, late);
            }
        }
        // What fires may make something else due at once: a verdict can end a suspicion.
        for _ in 0..TIMEOUT_ROUNDS_MAX {
            let due = self.timers.take_due(now);
            if due.is_empty() {
                break;
            }
            for timer in due {
                self.fire(now, timer);
            }
        }
        self.settle(now);
    }

    fn fire(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::ProbeTimeout => self.probe_timed_out(now),
            Timer::ProbeVerdict => self.probe_verdict(now),
            Timer::Relay(seq_no) => self.relay_timed_out(now, seq_no),
            Timer::Suspicion(name) => self.suspicion_ended(now, &name),
            Timer::Exchange(id) => self.exchange_failed(now, id, "nobody told its end"),
            Timer::Probe => self.probe_tick(now),
            Timer::Gossip => self.gossip_tick(now),
            Timer::PushPull => self.push_pull_tick(now),
            Timer::Redial => self.redial_tick(now),
            Timer::Call => self.call_tick(now),
            Timer::Contest => self.contest_again(now),
            Timer::Inquiry(name) => self.inquiry_due(now, &name),
        }
    }

    /// When [`Swim::timeout`] has something to do next; may lie in the past, which means now.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.timers.next().unwrap_or(Instant::NEVER)
    }

    /// The next thing asked of the shell, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Bytes a packet has for its parts and their [`PART_OVERHEAD`], as
    /// [`crate::wire::packet::budget`] computes them with the checksum counted.
    pub fn set_budget(&mut self, packet_budget_len: usize) {
        self.budget_len = packet_budget_len;
    }

    /// Everyone we know by name, ourselves included, the dead for as long as they are redialled.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// Those whose address this is or was; several when a name has moved.
    pub fn members_at(&self, addr: SocketAddr) -> impl Iterator<Item = &Member> {
        self.members.at(canonical(addr))
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&self, name: &NodeName) -> Option<&Member> {
        self.members.get(name)
    }

    /// Our own row: the incarnation, meta and versions we announce.
    ///
    /// # Panics
    /// Never: our own row is there from the start and is never removed.
    #[must_use]
    pub fn me(&self) -> &Member {
        self.members.get(&self.name).expect("our own row is never removed")
    }

    /// Whether we have left, or are about to.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Members alive, ourselves included (until we leave).
    #[must_use]
    pub fn n_alive(&self) -> usize {
        self.members.n_in(MemberState::Alive)
    }

    /// Lifeguard's score of our own health: 0 healthy, up to 7.
    #[must_use]
    pub fn health_score(&self) -> u8 {
        self.awareness.score()
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Rumors waiting to be told.
    #[must_use]
    pub fn n_broadcasts(&self) -> usize {
        self.broadcasts.len()
    }

    /// Whether the machine's parts agree with each other; for tests and simulators.
    ///
    /// # Errors
    /// What does not agree.
    pub fn check(&self) -> Result<(), String> {
        self.members.check()?;
        let suspects = self.members.iter().filter(|member| member.state == MemberState::Suspect);
        if !suspects.map(|member| &member.name).eq(self.suspicions.keys()) {
            return Err(format!("suspicions {:?}", self.suspicions.keys()));
        }
        for name in self.suspicions.keys() {
            if !self.timers.is_set(&Timer::Suspicion(name.clone())) {
                return Err(format!("the suspicion of {name:?} has no end"));
            }
        }
        if self.me().buried || (self.me().state == MemberState::Left) != self.is_leaving() {
            return Err(format!("we are {:?}", self.me()));
        }
        Ok(())
    }

    /// What every entry point ends with: arms the gossip round when there is something to tell
    /// and someone to tell it to, and tells the end of our leave.
    pub(super) fn settle(&mut self, now: Instant) {
        self.gossip_when_needed(now);
        if self.broadcasts.take_awaited_end() || self.leaves_nobody() {
            self.left();
        }
        self.stats.broadcasts_dropped = self.broadcasts.dropped_total();
    }

    /// We did not run for `late`: a stopped process, a starved thread. What we missed meanwhile
    /// says nothing about the others, so no probe is judged by it and no suspicion ends in it;
    /// it says something about us.
    fn wake_late(&mut self, now: Instant, late: Duration) {
        self.stats.late_wakes += 1;
        self.awareness.adjust(1);
        self.abandon_probe();
        self.ask_anew(now);
        if late >= self.config.probe_interval * LAPSE_INTERVALS {
            self.name_lapses();
        }
        let names: Vec<NodeName> = self.suspicions.keys().cloned().collect();
        for name in names {
            if let Some(suspicion) = self.suspicions.get_mut(&name) {
                suspicion.extend(late);
                self.timers.set(Timer::Suspicion(name), suspicion.deadline().max(now));
            }
        }
    }

    pub(super) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn event(&mut self, event: Event) {
        self.output(Output::Event(event));
    }

    pub(super) fn next_seq_no(&mut self) -> u32 {
        self.seq_no = self.seq_no.wrapping_add(1);
        self.seq_no
    }

    /// The present member to be found at this address, if any.
    pub(super) fn present_at(&self, addr: SocketAddr) -> Option<&Member> {
        self.members.at(addr).find(|member| member.is_present())
    }

    /// Sends `message` to `to`, with as many rumors as fit when a member is to be found there.
    /// Strangers get none: a forged source address would turn a ping of thirty bytes into a packet
    /// of fourteen hundred for its victim, and use the rumors up.
    pub(super) fn send(&mut self, to: SocketAddr, message: &Message) {
        let mut parts = vec![message.encode()];
        let receiver = self.present_at(to).map(|member| (member.name.clone(), member.checks_crc()));
        let (member, crc) = match receiver {
            Some((name, crc)) => (Some(name), crc),
            None => (None, false),
        };
        if member.is_some() {
            let room = self.budget_len.saturating_sub(PART_OVERHEAD + parts[0].len());
            parts.extend(self.take_rumors(room, COMPOUND_PARTS_MAX - 1));
        }
        self.output(Output::Packet(Packet { to, member, crc, parts }));
    }

    /// Queues a rumor about `subject`.
    pub(super) fn broadcast(&mut self, subject: &NodeName, message: &Message, awaited: bool) {
        let message: Bytes = message.encode();
        if PART_OVERHEAD + message.len() > self.budget_len {
            self.stats.broadcasts_too_long += 1;
            return;
        }
        self.stats.broadcasts += 1;
        self.broadcasts.queue(subject.clone(), message, awaited);
    }
}

/// An IPv4 address in IPv6 clothes is the IPv4 address: so it is dialled and compared.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
