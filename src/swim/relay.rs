//! Answering pings, and pinging for others.
//!
//! ```text
//! requester -- indirect ping 7 --> us -- ping 42 --> target
//! requester <-------- ack 7 ------ us <--- ack 42 -- target    within probe_timeout
//! requester <------- nack 7 ------ us                          at 4/5 of it, if it asked for one
//! ```
//!
//! memberlist sends the nack at the end of its probe timeout, when under its own LAN timing the
//! requester has just given up; the Lifeguard paper has it at four fifths, and so have we. An ack
//! that comes between is still relayed.
//!
//! Whoever pings us says where the answer goes. That could be a victim's address, so it is
//! believed only when the packet came from that host or a member lives there; likewise we ping for
//! another only when the asker or the target is a member.

use super::machine::{Swim, canonical};
use super::member::diallable;
use super::timers::Timer;
use crate::limits::{NODE_NAME_LEN_MAX, RELAYS_MAX};
use crate::time::Instant;
use crate::wire::message::{Ack, AddrBytes, IndirectPing, Message, Nack, Ping};
use std::net::SocketAddr;

/// A ping we run for another.
#[derive(Debug)]
pub(super) struct Relay {
    requester: SocketAddr,
    /// The requester's number.
    seq_no: u32,
    /// Whether a nack is still to be sent.
    nack: bool,
    until: Instant,
}

impl Swim {
    pub(super) fn ping(&mut self, now: Instant, from: SocketAddr, ping: &Ping) {
        if !ping.node.is_empty() && ping.node != self.name {
            self.stats.ignored.foreign_ping += 1;
            return;
        }
        self.name_pinged(now, Some(from), ping);
        self.stats.pings_answered += 1;
        let to = self.answer_addr(from, &ping.source_addr, ping.source_port);
        self.send(to, &Message::Ack(Ack { seq_no: ping.seq_no, payload: None }));
    }

    /// The answer to a ping over a stream; `None` when it is for another node, and the stream is
    /// to be closed in silence.
    pub fn stream_ping(&mut self, now: Instant, ping: &Ping) -> Option<Ack> {
        if !ping.node.is_empty() && ping.node != self.name {
            self.stats.ignored.foreign_ping += 1;
            return None;
        }
        self.name_pinged(now, None, ping);
        self.stats.pings_answered += 1;
        Some(Ack { seq_no: ping.seq_no, payload: None })
    }

    pub(super) fn indirect_ping(&mut self, now: Instant, from: SocketAddr, request: &IndirectPing) {
        let port = if request.port == 0 { self.me().port } else { request.port };
        let target = AddrBytes(request.target.clone().unwrap_or_default());
        let name_len = request.node.as_bytes().len();
        let Some(target) = diallable(&target, port).filter(|_| name_len <= NODE_NAME_LEN_MAX)
        else {
            self.stats.ignored.malformed += 1;
            return;
        };
        let known = self.is_member_addr(from) || self.is_member_addr(target);
        if self.relays.len() >= RELAYS_MAX || !known {
            self.stats.relays_refused += 1;
            return;
        }
        let requester = self.answer_addr(from, &request.source_addr, request.source_port);
        let seq_no = self.next_seq_no();
        let until = now + self.config.probe_timeout;
        let nack_at = now + self.config.probe_timeout * 4 / 5;
        let relay = Relay { requester, seq_no: request.seq_no, nack: request.nack, until };
        self.relays.insert(seq_no, relay);
        self.stats.relays += 1;
        self.timers.set(Timer::Relay(seq_no), if request.nack { nack_at } else { until });
        let ping = self.ping_for(seq_no, &request.node);
        self.send(target, &Message::Ping(ping));
    }

    /// The target of a relay answered: pass it on under the requester's number.
    pub(super) fn relay_answered(&mut self, seq_no: u32) {
        let Some(relay) = self.relays.remove(&seq_no) else {
            self.stats.ignored.unexpected_ack += 1;
            return;
        };
        self.timers.cancel(&Timer::Relay(seq_no));
        self.send(relay.requester, &Message::Ack(Ack { seq_no: relay.seq_no, payload: None }));
    }

    pub(super) fn relay_timed_out(&mut self, now: Instant, seq_no: u32) {
        let Some(relay) = self.relays.get_mut(&seq_no) else { return };
        if !std::mem::take(&mut relay.nack) {
            self.relays.remove(&seq_no);
            return;
        }
        let (to, until) = (relay.requester, relay.until);
        let nack = Message::Nack(Nack { seq_no: relay.seq_no });
        self.timers.set(Timer::Relay(seq_no), until.max(now));
        self.send(to, &nack);
    }

    /// Where the answer to a packet from `from` goes that names this source.
    fn answer_addr(&self, from: SocketAddr, addr: &AddrBytes, port: u16) -> SocketAddr {
        match diallable(addr, port).map(canonical) {
            Some(named) if named.ip() == from.ip() || self.is_member_addr(named) => named,
            _ => from,
        }
    }

    fn is_member_addr(&self, addr: SocketAddr) -> bool {
        self.members.at(addr).next().is_some()
    }
}
