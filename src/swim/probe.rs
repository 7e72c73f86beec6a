//! Who still answers: one member a tick, directly, then through others and over a stream.
//!
//! ```text
//! tick                probe_timeout                              probe_interval * (score + 1)
//!  | ping ------------> | indirect pings through k others, -------> | verdict: suspect it
//!  |                    | stream ping                               |
//!  +---- ack: done -----+------------- ack: done -------------------+
//! ```
//!
//! One probe runs at a time; a tick in its time is skipped. A ping to a suspect brings the
//! accusation along, so that it can refute at once (Lifeguard, section IV-C).

use super::io::{Event, ExchangeId, Output, Packet};
use super::machine::Swim;
use super::member::{Member, MemberState};
use super::timers::Timer;
use crate::time::Instant;
use crate::wire::message::{IndirectPing, Message, NodeName, Ping, Suspect};
use crate::wire::packet::PART_OVERHEAD;
use std::net::SocketAddr;

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) seq_no: u32,
    pub(super) target: NodeName,
    target_addr: SocketAddr,
    /// The incarnation probed: one raised meanwhile is not accused.
    incarnation: u32,
    start: Instant,
    verdict_at: Instant,
    /// Whether others have been asked.
    indirect: bool,
    helpers: u32,
    nacks_expected: u32,
    nacks: u32,
    pub(super) stream: Option<ExchangeId>,
    pub(super) stream_answered: bool,
}

impl Swim {
    pub(super) fn probe_tick(&mut self, now: Instant) {
        self.timers.set(Timer::Probe, now + self.config.probe_interval);
        if self.probe.is_none()
            && let Some(target) = self.next_target(now)
        {
            self.begin_probe(now, &target);
        }
    }

    /// The next present member in the order. At its end the order is shuffled, and those dead or
    /// gone for long leave it.
    fn next_target(&mut self, now: Instant) -> Option<NodeName> {
        let mut n_checked = 0;
        while n_checked < self.members.n_known() {
            match self.members.step() {
                None => self.reset_order(now),
                Some(member) if member.name != self.name && member.is_present() => {
                    return Some(member.name.clone());
                }
                Some(_) => n_checked += 1,
            }
        }
        None
    }

    fn begin_probe(&mut self, now: Instant, target: &NodeName) {
        let Some(target) = self.members.known(target).cloned() else { return };
        if target.socket_addr == self.me().socket_addr {
            // We are there, so it is not: a crashed node's address that has become ours.
            let Member { incarnation, name: node, .. } = target;
            return self.suspect(now, Suspect { incarnation, node, from: self.name.clone() });
        }
        let seq_no = self.next_seq_no();
        let verdict_at = now + self.awareness.stretch(self.config.probe_interval);
        self.stats.probes += 1;
        self.timers.set(Timer::ProbeVerdict, verdict_at);
        self.timers.set(Timer::ProbeTimeout, now + self.config.probe_timeout);
        let ping = Message::Ping(self.ping_for(seq_no, &target.name));
        if target.state == MemberState::Alive {
            self.send(target.socket_addr, &ping);
        } else {
            self.send_accused(&target, &ping);
        }
        self.probe = Some(Probe {
            seq_no,
            target: target.name,
            target_addr: target.socket_addr,
            incarnation: target.incarnation,
            start: now,
            verdict_at,
            indirect: false,
            helpers: 0,
            nacks_expected: 0,
            nacks: 0,
            stream: None,
            stream_answered: false,
        });
    }

    /// A ping to a suspect, with the accusation; in two packets when long names need them.
    fn send_accused(&mut self, target: &Member, ping: &Message) {
        let accusation = Message::Suspect(Suspect {
            incarnation: target.incarnation,
            node: target.name.clone(),
            from: self.name.clone(),
        });
        let parts = [ping.encode(), accusation.encode()];
        let parts_len: usize = parts.iter().map(|part| PART_OVERHEAD + part.len()).sum();
        let per_packet = if parts_len <= self.budget_len { 2 } else { 1 };
        for parts in parts.chunks(per_packet) {
            self.output(Output::Packet(Packet {
                to: target.socket_addr,
                crc: target.checks_crc(),
                member: Some(target.name.clone()),
                parts: parts.to_vec(),
            }));
        }
    }

    /// A ping with our own address as its source.
    pub(super) fn ping_for(&self, seq_no: u32, node: &NodeName) -> Ping {
        let me = self.me();
        Ping {
            seq_no,
            node: node.clone(),
            source_addr: me.addr.clone(),
            source_port: me.port,
            source_node: me.name.clone(),
        }
    }

    /// The direct ping was not answered in time.
    pub(super) fn probe_timed_out(&mut self, now: Instant) {
        let Some(probe) = &mut self.probe else { return };
        let timeout_at = probe.start + self.config.probe_timeout;
        if probe.indirect || now < timeout_at {
            return;
        }
        probe.indirect = true;
        // Asked late, the others have their full time all the same.
        probe.verdict_at = probe.verdict_at + now.since(timeout_at);
        let (seq_no, verdict_at) = (probe.seq_no, probe.verdict_at);
        self.timers.set(Timer::ProbeVerdict, verdict_at);
        let Some(target) = self.members.known(&probe.target).cloned() else { return };
        let helpers: Vec<(SocketAddr, bool)> = self
            .members
            .pick(self.config.indirect_checks, &mut self.rng, |member| {
                member.state == MemberState::Alive
                    && member.name != self.name
                    && member.name != target.name
            })
            .into_iter()
            .map(|helper| (helper.socket_addr, helper.sends_nacks()))
            .collect();
        for (to, nack) in helpers {
            if let Some(probe) = &mut self.probe {
                probe.helpers += 1;
                probe.nacks_expected += u32::from(nack);
            }
            let request = self.indirect_ping_for(seq_no, &target, nack);
            self.send(to, &Message::IndirectPing(request));
        }
        self.ping_over_stream(&target);
    }

    fn indirect_ping_for(&self, seq_no: u32, target: &Member, nack: bool) -> IndirectPing {
        let me = self.me();
        IndirectPing {
            seq_no,
            target: Some(target.addr.0.clone()),
            port: target.port,
            node: target.name.clone(),
            nack,
            source_addr: me.addr.clone(),
            source_port: me.port,
            source_node: me.name.clone(),
        }
    }

    fn ping_over_stream(&mut self, target: &Member) {
        if !self.config.stream_pings || !target.answers_stream_pings() {
            return;
        }
        let Some(probe) = &self.probe else { return };
        let (seq_no, deadline) = (probe.seq_no, probe.verdict_at);
        let ping = self.ping_for(seq_no, &target.name);
        let id = self.begin_stream_ping(target.socket_addr, ping, deadline);
        if let Some(probe) = &mut self.probe {
            probe.stream = Some(id);
        }
    }

    /// An ack arrived: for the probe under way, for a relay, or too late.
    pub(super) fn ack(&mut self, now: Instant, seq_no: u32) {
        let Some(probe) = self.probe.take_if(|probe| probe.seq_no == seq_no) else {
            if !self.name_answered(now, seq_no, None) {
                self.relay_answered(seq_no);
            }
            return;
        };
        if probe.indirect {
            self.stats.probe_acks_relayed += 1;
        } else {
            self.stats.rtt_last_nanos = now.since(probe.start).as_nanos() as u64;
            self.note_udp(probe.target, false);
        }
        self.probe_succeeded();
    }

    pub(super) fn nack(&mut self, seq_no: u32) {
        match &mut self.probe {
            Some(probe) if probe.seq_no == seq_no && probe.nacks < probe.nacks_expected => {
                probe.nacks += 1;
                self.stats.nacks += 1;
            }
            _ => self.stats.ignored.unexpected_ack += 1,
        }
    }

    /// Whether UDP to this member is blocked; the shell hears of the change.
    fn note_udp(&mut self, name: NodeName, blocked: bool) {
        if self.members.known(&name).is_some_and(|member| member.udp_blocked != blocked) {
            self.members.renew(&name, |member| member.udp_blocked = blocked);
            let event = if blocked { Event::UdpBlocked } else { Event::UdpOpen };
            self.event(event(name));
        }
    }

    fn probe_succeeded(&mut self) {
        self.stats.probe_acks += 1;
        self.awareness.adjust(-1);
        self.timers.cancel(&Timer::ProbeTimeout);
        self.timers.cancel(&Timer::ProbeVerdict);
    }

    /// The probe's time is over without an ack.
    pub(super) fn probe_verdict(&mut self, now: Instant) {
        let Some(probe) = self.probe.take_if(|probe| probe.verdict_at <= now) else { return };
        self.timers.cancel(&Timer::ProbeTimeout);
        if probe.stream_answered {
            self.stats.probe_acks_stream += 1;
            self.probe_succeeded();
            self.note_udp(probe.target, true);
            return;
        }
        self.stats.probe_failures += 1;
        let (helpers, nacks) = (probe.helpers, probe.nacks);
        self.event(Event::ProbeFailed { name: probe.target.clone(), helpers, nacks });
        // Nacks that do not come mean that our own network, not the target, is at fault.
        let missing = probe.nacks_expected.saturating_sub(probe.nacks);
        self.awareness.adjust(if probe.nacks_expected > 0 { missing as i32 } else { 1 });
        let Some(target) = self.members.known(&probe.target) else { return };
        if target.socket_addr != probe.target_addr {
            return;
        }
        let from = self.name.clone();
        self.suspect(now, Suspect { incarnation: probe.incarnation, node: probe.target, from });
    }

    /// Forgets the probe under way without a verdict.
    pub(super) fn abandon_probe(&mut self) {
        self.probe = None;
        self.timers.cancel(&Timer::ProbeTimeout);
        self.timers.cancel(&Timer::ProbeVerdict);
    }
}
