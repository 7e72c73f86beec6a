//! What a mechanism may use: the time, the facts that all mechanisms share, and the ways out.
//!
//! A mechanism owns its state, is lent a [`Context`] for as long as it works, and never names
//! another mechanism. What another one has to do then, it returns.

use super::facts::counters::Counters;
use super::facts::floor::{Floors, Moment};
use super::facts::grace;
use super::facts::known::Known;
use super::facts::met::Met;
use super::facts::paths::{Unanswered, Via};
use super::facts::peers::Peers;
use super::facts::set_back::{Claim, SetBack};
use super::facts::stage::Readiness;
use super::message::{Busy, KvMessage, MessageError, Read, fit};
use crate::kv::{OriginId, Record, Store};
use crate::limits::LINK_CHUNK_LEN;
use crate::node::command::Reply;
use crate::node::config::FoldedBound;
use crate::node::formats::Formats;
use crate::node::io::{ConnId, Note, Output, Ticket};
use crate::node::links::{Lent, Links};
use crate::rng::Rng;
use crate::time::Now;
use crate::wire::stream::Payload;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Datagrams of one flush or of one answer; more bytes than these carry go over links.
pub(super) const FLUSH_DATAGRAMS: usize = 24;
/// What a node that hides asks who would compare with it.
const HIDDEN_RETRY_MS: u32 = 200;
/// Peers told of something at once where there are many.
pub(super) const FANOUT: usize = 4;

/// What replication is told at the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a delete is remembered at least.
    pub tombstone_grace: Duration,
    /// How long what has expired is, unless deletes are forgotten sooner.
    pub expired_grace: Duration,
    /// How many runs that are over are known by name.
    pub folded: FoldedBound,
    /// Whether there is anywhere to look for peers: without, a node is ready at once.
    pub expects_peers: bool,
    /// The formats it speaks.
    pub formats: Formats,
    /// Seed of all its randomness.
    pub rng_seed: u64,
}

/// Something for the composition to send or tell.
#[derive(Debug)]
pub(in crate::node) enum Out {
    /// User messages in one datagram, to each of these addresses.
    Datagram { to: Vec<SocketAddr>, payloads: Vec<Bytes> },
    /// As it is.
    Output(Output),
    /// A message about keys, for the composition itself.
    Keys(ConnId, KvMessage),
}

/// What all mechanisms share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) store: Arc<Store>,
    pub(super) me: OriginId,
    pub(super) rng: Rng,
    /// Longest user message payload that fits a datagram, in bytes.
    pub(super) room: usize,
    pub(super) peers: Peers,
    pub(super) known: Known,
    pub(super) met: Met,
    pub(super) ready: Readiness,
    pub(super) set_back: SetBack,
    pub(super) floors: Floors,
    pub(super) unanswered: Unanswered,
    pub(super) counters: Counters,
    pub(super) out: VecDeque<Out>,
}

impl Shared {
    pub(super) fn new(config: Config, store: Arc<Store>) -> Shared {
        let me = store.origin();
        Shared {
            store,
            me,
            rng: Rng::from_seed(config.rng_seed),
            room: 1000,
            peers: Peers::new(config.formats),
            known: Known::new(me),
            met: Met::default(),
            ready: Readiness::new(),
            set_back: SetBack::default(),
            floors: Floors::default(),
            unanswered: Unanswered::default(),
            counters: Counters::default(),
            out: VecDeque::new(),
            config,
        }
    }

    /// Reads a message, and counts what of it is from a later version.
    pub(super) fn read(&mut self, payload: &[u8]) -> Result<Read, MessageError> {
        let read = KvMessage::read(payload, self.config.formats);
        match &read {
            Ok(read) => self.counters.fields_passed_over_total += read.n_passed_over as u64,
            Err(MessageError::Kind(_)) => self.counters.kinds_passed_over_total += 1,
            Err(_) => {}
        }
        read
    }

    /// A message is of no use.
    pub(super) fn unreadable(&mut self, why: &str, from: SocketAddr) {
        self.counters.unreadable_total += 1;
        let note = Note::Unreadable { why: why.into(), from };
        self.out.push_back(Out::Output(Output::Note(note)));
    }

    /// Lends all of it to a mechanism.
    pub(super) fn lend<'a>(&'a mut self, lent: &'a mut Lent<'_>) -> Context<'a> {
        Context {
            now: lent.now,
            me: self.me,
            room: self.room,
            config: &self.config,
            store: &self.store,
            rng: &mut self.rng,
            peers: &mut self.peers,
            known: &mut self.known,
            met: &mut self.met,
            ready: &mut self.ready,
            set_back: &mut self.set_back,
            floors: &mut self.floors,
            unanswered: &mut self.unanswered,
            links: lent.links,
            counters: &mut self.counters,
            out: &mut self.out,
        }
    }
}

/// What a mechanism may use while it works.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) now: Now,
    /// This run.
    pub(super) me: OriginId,
    /// Longest user message payload that fits a datagram, in bytes.
    pub(super) room: usize,
    pub(super) config: &'a Config,
    pub(super) store: &'a Store,
    pub(super) rng: &'a mut Rng,
    pub(super) peers: &'a mut Peers,
    pub(super) known: &'a mut Known,
    pub(super) met: &'a mut Met,
    /// How far this node has come.
    pub(super) ready: &'a mut Readiness,
    pub(super) set_back: &'a mut SetBack,
    pub(super) floors: &'a mut Floors,
    pub(super) unanswered: &'a mut Unanswered,
    pub(super) links: &'a mut Links,
    pub(super) counters: &'a mut Counters,
    pub(super) out: &'a mut VecDeque<Out>,
}

impl Context<'_> {
    /// Whether writes go straight to every peer.
    pub(super) fn is_direct(&self) -> bool {
        self.peers.are_few()
    }

    /// Now, for whoever asks on what all members agree.
    pub(super) fn moment(&self) -> Moment {
        let arrivals = self.peers.arrivals_total();
        Moment { at: self.now.instant, time: self.store.stats().hlc, arrivals }
    }

    /// How long a delete is remembered at least, as things are.
    pub(super) fn grace_ms(&self) -> u64 {
        grace::grace_ms(self.config.tombstone_grace, &self.store.stats(), self.store.limit())
    }

    /// The same of what has expired, from its expiry on.
    pub(super) fn expired_grace_ms(&self) -> u64 {
        grace::expired_grace_ms(self.config.expired_grace, self.grace_ms())
    }

    /// Whether a tombstone has been remembered for long enough by this node's clocks.
    pub(super) fn is_grace_over(&self, tombstone: &Record) -> bool {
        let time = tombstone.stamp().time;
        let until = match tombstone.expiry() {
            Some(expiry) => expiry.saturating_add(self.expired_grace_ms()),
            None => time.millis().saturating_add(self.grace_ms()),
        };
        until <= self.now.wall.0
    }

    /// Whether a comparison that somebody asks for is refused, and says so then: who hides knows
    /// less than anybody.
    pub(super) fn refuses_comparison(&mut self, conn: ConnId) -> bool {
        let refused = self.ready.is_resetting();
        if refused {
            self.answer(conn, KvMessage::Busy(Busy { retry_ms: HIDDEN_RETRY_MS }).encode());
        }
        refused
    }

    /// A line for whoever runs this node.
    pub(super) fn note(&mut self, note: Note) {
        self.out.push_back(Out::Output(Output::Note(note)));
    }

    /// Answers a client.
    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.out.push_back(Out::Output(Output::Reply { ticket, reply }));
    }

    /// Whether small things, too, go to a peer over its link.
    pub(super) fn is_linked(&self, origin: OriginId) -> bool {
        let is_mute = self.unanswered.is_mute();
        let peer = self.peers.get(origin);
        peer.is_some_and(|peer| peer.paths.by_link(self.now.instant, is_mute))
    }

    /// Something came from a peer.
    pub(super) fn heard_via(&mut self, from: OriginId, via: Via) {
        if let Some(peer) = self.peers.get_mut(from) {
            peer.heard(self.now.instant);
            if via == Via::Datagram {
                peer.paths.heard(self.now.instant);
            }
        }
    }

    /// A peer holds our writes up to `through`. True when that is news. One that holds more than
    /// we have made acknowledges none of them.
    pub(super) fn acknowledged(&mut self, from: OriginId, through: u64) -> bool {
        let last = self.store.last_seq();
        if through > last {
            // Whichever of our writes that is about, it is not the ones we know of.
            self.claims_more(Claim { by: from, through, last });
            return false;
        }
        let Some(peer) = self.peers.get_mut(from) else { return false };
        peer.heard(self.now.instant);
        peer.acknowledge(self.now.instant, through)
    }

    /// A peer says that it holds more of our writes than we have made.
    fn claims_more(&mut self, claim: Claim) {
        let Some(peer) = self.peers.get(claim.by) else { return };
        let is_met = self.met.is_met(peer);
        if !is_met || !self.set_back.claimed(self.now.instant, claim) {
            self.counters.claims_ignored_total += 1;
        }
    }

    /// Sends a frame to a peer over our link to it, in a format that both read, dialling when there
    /// is none. False when the window is full, or TCP to it blocked, and the frame was not taken.
    pub(super) fn link_send(&mut self, origin: OriginId, payload: impl Into<Payload>) -> bool {
        let now = self.now.instant;
        let Some(peer) = self.peers.get_mut(origin) else { return false };
        // What it cannot read at all is nothing that it waits for.
        let Some(payload) = fit(&payload.into(), peer.common) else { return true };
        match peer.link.filter(|conn| self.links.is_open(*conn)) {
            // One long record may pass the window's end: who waits for room waits for a chunk's.
            Some(conn) if self.links.has_room(conn, payload.len().min(LINK_CHUNK_LEN)) => {
                answer(self.links, conn, payload);
                true
            }
            Some(_) => false,
            None if peer.paths.is_held(now) => false,
            None => {
                let conn = self.links.dial(now, origin, peer.info.addr, payload);
                self.links.speaks(conn, Some(peer.common), peer.common.last);
                peer.link = Some(conn);
                peer.paths.dialling(now);
                true
            }
        }
    }

    /// Sends a frame on a connection, in a format that both ends read.
    pub(super) fn answer(&mut self, conn: ConnId, payload: impl Into<Payload>) {
        answer(self.links, conn, payload);
    }

    /// Sends one message to a peer: as a datagram when it fits and they arrive, else over the link.
    pub(super) fn send(&mut self, origin: OriginId, message: &KvMessage) {
        let payload = message.encode();
        if self.peers.get(origin).is_none() {
            return;
        }
        if payload.len() > self.room || self.is_linked(origin) {
            self.link_send(origin, payload);
        } else {
            self.send_datagram(&[origin], vec![payload]);
        }
    }

    /// Sends user messages in one datagram to each of these peers, in a format that both read.
    pub(super) fn send_datagram(&mut self, to: &[OriginId], payloads: Vec<Bytes>) {
        let mut groups: Vec<(Formats, Vec<SocketAddr>)> = Vec::with_capacity(1);
        for peer in to.iter().filter_map(|origin| self.peers.get(*origin)) {
            match groups.iter_mut().find(|(common, _)| *common == peer.common) {
                Some((_, addrs)) => addrs.push(peer.info.addr),
                None => groups.push((peer.common, vec![peer.info.addr])),
            }
        }
        for (common, to) in groups {
            let payloads: Vec<Bytes> = payloads
                .iter()
                .filter_map(|payload| fit(&Payload::from(payload.clone()), common))
                .map(|payload| payload.join())
                .collect();
            if payloads.is_empty() {
                continue;
            }
            let len: usize = payloads.iter().map(Bytes::len).sum();
            self.counters.datagram_len_out += (len * to.len()) as u64;
            self.counters.datagrams_out += to.len() as u64;
            self.out.push_back(Out::Datagram { to, payloads });
        }
    }

    /// Answers the way the question came, and over the link where datagrams seem not to arrive: the
    /// one who asked by datagram must see by a datagram that they do.
    pub(super) fn answer_via(&mut self, to: OriginId, via: Via, message: &KvMessage) {
        let payload = message.encode();
        if self.peers.get(to).is_none() {
            return;
        }
        match via {
            Via::Link(conn) if self.links.is_open(conn) => {
                self.answer(conn, payload);
                return;
            }
            Via::Datagram if payload.len() <= self.room => {
                let by_link = self.is_linked(to);
                self.send_datagram(&[to], vec![payload]);
                if !by_link {
                    return;
                }
            }
            Via::Link(_) | Via::Datagram | Via::Exchange => {}
        }
        self.send(to, message);
    }
}

/// Sends a frame on a connection, in a format that both ends read.
pub(in crate::node) fn answer(links: &mut Links, conn: ConnId, payload: impl Into<Payload>) {
    let payload = payload.into();
    let fitting = match links.common(conn) {
        Some(common) => fit(&payload, common),
        None => Some(payload),
    };
    if let Some(payload) = fitting {
        links.send(conn, payload);
    }
}
