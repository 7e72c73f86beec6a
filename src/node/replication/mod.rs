//! The corridor between membership and store: how writes reach every member of our kind.
//!
//! ```text
//!            written                        datagram, frame
//! store --------------> push ----.      .--> receive ----> store.merge, vector
//!                        |  resend|      |      | changed (many members)
//!                        v        v      |      v
//!                     datagrams, links --'    rumors ----> datagrams
//!
//! gaps     a hole in the vector, or a digest that claims more  --> want (datagram) or pull (link)
//! digest   every second to a random peer: heads, root hash      --> gaps, acks, buckets
//! buckets  equal heads and different hashes, which should not be --> compare, repair (link)
//! walk     slept past forgotten deletes, or damaged              --> all shards compared (link)
//! sweep    forgets tombstones that all hold, folds origins that all hold
//! scrub    looks for damaged records, a shard a second           --> dropped, compare (link)
//! stranded deletes held past a lost write of a folded origin     --> told to all (link)
//! ```
//!
//! It knows peers, not members: [`PeerInfo`] is all that membership tells it. Sans-IO like all of
//! the core.

mod absence;
mod backlog;
mod batch;
mod buckets;
mod codec;
mod digest;
mod gaps;
mod handover;
mod holders;
mod known;
mod leaves;
mod links;
mod lists;
mod marks;
pub mod message;
mod paths;
mod peers;
#[cfg(feature = "next-format")]
pub mod played;
mod pull;
mod push;
mod ready;
mod receive;
mod rtt;
mod rumor;
mod scrub;
mod stats;
mod stranded;
mod sweep;
#[cfg(test)]
mod tests;
mod walk;

pub use holders::Waiting;
pub use peers::PeerInfo;
pub use push::COALESCE;
pub use ready::Stage;

use self::absence::Absence;
use self::buckets::Buckets;
use self::codec::fit;
use self::digest::Digests;
use self::gaps::Gaps;
use self::handover::Handover;
use self::holders::Holders;
use self::known::Known;
use self::links::Links;
use self::message::{KvMessage, MessageError, Read};
use self::paths::{Unanswered, Via};
use self::peers::Peers;
use self::pull::Pulls;
use self::push::Pusher;
use self::ready::Readiness;
use self::rumor::Rumors;
use self::stats::Counters;
use self::stranded::Stranded;
use self::sweep::Sweep;
use self::walk::Walk;
use super::command::{Health, Reply};
use super::formats::Formats;
use super::io::{ConnId, Note, Output, Ticket};
use crate::kv::{Dot, OriginId, Store};
use crate::limits::LINK_CHUNK_LEN;
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::wire::message::NodeName;
use crate::wire::stream::Payload;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Most peers that get every write straight from its writer; with more, writes spread as rumors.
pub const DIRECT_PEERS_MAX: usize = 9;

/// What replication is told at the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a delete is remembered at least.
    pub tombstone_grace: Duration,
    /// Whether there is anywhere to look for peers: without, a node is ready at once.
    pub expects_peers: bool,
    /// The formats it speaks.
    pub formats: Formats,
    /// Seed of all its randomness.
    pub rng_seed: u64,
}

/// Something for the composition to send or tell.
#[derive(Debug)]
pub(super) enum Out {
    /// User messages in one datagram, to each of these addresses.
    Datagram { to: Vec<SocketAddr>, payloads: Vec<Bytes> },
    /// As it is.
    Output(Output),
    /// A message about keys, for the composition itself.
    Keys(ConnId, KvMessage),
}

/// A peer, as far as it matters for founding a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) origin: OriginId,
    pub(super) name: &'a NodeName,
    pub(super) addr: SocketAddr,
    /// How far it has come, when it has told.
    pub(super) stage: Option<Stage>,
}

impl Told<'_> {
    fn of(peer: &peers::Peer) -> Told<'_> {
        let info = &peer.info;
        Told { origin: info.origin, name: &info.name, addr: info.addr, stage: peer.stage() }
    }
}

/// Replication as a state machine.
#[derive(Debug)]
pub struct Replication {
    config: Config,
    store: Arc<Store>,
    me: OriginId,
    rng: Rng,
    /// Longest user message payload that fits a datagram, in bytes.
    room: usize,
    peers: Peers,
    known: Known,
    pusher: Pusher,
    gaps: Gaps,
    digests: Digests,
    unanswered: Unanswered,
    rumors: Rumors,
    links: Links,
    pulls: Pulls,
    buckets: Buckets,
    walk: Walk,
    absence: Absence,
    holders: Holders,
    handover: Handover,
    sweep: Sweep,
    stranded: Stranded,
    ready: Readiness,
    counters: Counters,
    next_conn: u64,
    out: VecDeque<Out>,
}

impl Replication {
    /// Replication of `store`, which is still empty.
    #[must_use]
    pub fn new(config: Config, store: Arc<Store>, now: Now) -> Replication {
        let me = store.origin();
        let mut rng = Rng::from_seed(config.rng_seed);
        let digests = Digests::new(now.instant, &mut rng);
        // Only what has been somewhere else before has anything in its store.
        let is_filled = config.expects_peers && store.stats().n_live > 0;
        Replication {
            me,
            rng,
            room: 1000,
            peers: Peers::new(config.formats),
            known: Known::new(me),
            pusher: Pusher::default(),
            gaps: Gaps::default(),
            digests,
            unanswered: Unanswered::default(),
            rumors: Rumors::default(),
            links: Links::default(),
            pulls: Pulls::default(),
            buckets: Buckets::default(),
            walk: Walk::default(),
            absence: Absence::new(now.instant, is_filled),
            holders: Holders::default(),
            handover: Handover::default(),
            sweep: Sweep::new(now.instant),
            stranded: Stranded::default(),
            ready: Readiness::new(),
            counters: Counters::default(),
            next_conn: 2,
            out: VecDeque::new(),
            config,
            store,
        }
    }

    /// Sets the longest user message that fits a datagram, in bytes.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// A number for a connection that we dial. The composition draws from the same.
    pub(super) fn next_conn(&mut self) -> ConnId {
        self.next_conn += 2;
        ConnId(self.next_conn)
    }

    /// Takes over who the members of our kind are now. Those with whom no format is shared are no
    /// peers: they get nothing, and nothing waits for them.
    pub fn members(&mut self, now: Now, infos: Vec<PeerInfo>) {
        let before = self.peers.n_reachable();
        for gone in self.peers.update(infos) {
            if let Some(conn) = gone.link {
                self.links.close(conn);
            }
            self.pulls.lost(gone.info.origin);
            self.buckets.lost(gone.info.origin);
        }
        self.known.unfold_members(self.peers.iter().map(|peer| peer.info.origin));
        if before == 0 && self.peers.n_reachable() > 0 {
            self.digests.soon(now.instant);
        }
        self.flush(now, false);
        self.greet(now);
        self.first_copy(now);
    }

    /// A datagram's user message that is ours.
    pub fn datagram(&mut self, now: Now, from: SocketAddr, payload: &Bytes) {
        self.counters.datagram_len_in += payload.len() as u64;
        let via = Via::Datagram;
        match self.read(payload) {
            Ok(read) => match read.message {
                KvMessage::Push(push, records) => self.pushed(now, payload, push, &records, via),
                KvMessage::Ack(ack) => self.acked(now, &ack, via),
                KvMessage::Digest(digest) => self.digested(now, &digest, via, payload.len()),
                KvMessage::Want(want) => self.wanted(now, &want, via),
                KvMessage::Folded(folded) => self.folded(now, &folded),
                #[cfg(feature = "next-format")]
                KvMessage::Played(_) => self.counters.played_total += 1,
                _ => self.unreadable("message belongs on a link", from),
            },
            Err(MessageError::Kind(_)) => {}
            Err(error) => self.unreadable(&error.to_string(), from),
        }
    }

    /// Reads a message, and counts what of it is from a later version.
    fn read(&mut self, payload: &[u8]) -> Result<Read, MessageError> {
        let read = KvMessage::read(payload, self.config.formats);
        match &read {
            Ok(read) => self.counters.fields_passed_over_total += read.n_passed_over as u64,
            Err(MessageError::Kind(_)) => self.counters.kinds_passed_over_total += 1,
            Err(_) => {}
        }
        read
    }

    /// A frame of a link.
    pub fn frame(&mut self, now: Now, conn: ConnId, from: SocketAddr, payload: &Bytes) {
        self.counters.link_len_in += payload.len() as u64;
        self.links.seen(conn, None);
        self.buckets.heard(now.instant, conn);
        match self.read(payload) {
            Ok(Read { message, format, .. }) => {
                let peer = message.sender().and_then(|sender| self.peers.get(sender));
                self.links.speaks(conn, peer.map(|peer| peer.common), format);
                self.link_message(now, conn, payload, message);
            }
            Err(MessageError::Kind(_)) => {}
            Err(error) => {
                self.unreadable(&error.to_string(), from);
                self.links.close(conn);
                self.link_lost(now, conn);
            }
        }
    }

    fn link_message(&mut self, now: Now, conn: ConnId, payload: &Bytes, message: KvMessage) {
        let via = Via::Link(conn);
        match message {
            KvMessage::Push(push, records) => self.pushed(now, payload, push, &records, via),
            KvMessage::Ack(ack) => self.acked(now, &ack, via),
            KvMessage::Digest(digest) => self.digested(now, &digest, via, payload.len()),
            KvMessage::Want(want) => self.wanted(now, &want, via),
            KvMessage::Folded(folded) => self.folded(now, &folded),
            KvMessage::Pull(pull) => self.pull_asked(now, conn, &pull),
            KvMessage::PullEnd(end) => self.pull_ended(now, conn, &end),
            KvMessage::Busy(busy) => {
                self.pull_refused(now, conn, &busy);
                self.comparison_refused(now, conn, &busy);
            }
            KvMessage::Supply(supply, records) => self.supplied(now, conn, &supply, &records),
            KvMessage::Roots(roots) => self.roots(now, conn, &roots),
            KvMessage::Leaves(leaves) => self.leaves(now, conn, &leaves),
            KvMessage::Items(items) => self.items(conn, &items),
            KvMessage::Verdicts(verdicts, records) => self.verdicts(now, conn, &verdicts, &records),
            #[cfg(feature = "next-format")]
            KvMessage::Played(_) => self.counters.played_total += 1,
            message @ (KvMessage::KeyRequest(_) | KvMessage::KeyReply(_)) => {
                self.out.push_back(Out::Keys(conn, message));
            }
        }
    }

    /// A frame handed over has been written.
    pub fn link_written(&mut self, now: Now, conn: ConnId, len: usize) {
        if let Some(origin) = self.links.written(now.instant, conn, len) {
            self.dialled(origin);
        }
    }

    /// Where the peer gossips whose link this is, once known.
    pub(super) fn link_peer(&self, conn: ConnId) -> Option<SocketAddr> {
        Some(self.peers.get(self.links.peer(conn)?)?.info.addr)
    }

    /// A connection has ended.
    pub fn link_closed(&mut self, now: Now, conn: ConnId) {
        if let Some(link) = self.links.closed(conn)
            && let Some(origin) = link.peer
        {
            if let Some(peer) = self.peers.get_mut(origin)
                && peer.link == Some(conn)
            {
                peer.link = None;
            }
            if !link.connected {
                self.dial_failed(now, origin);
            }
        }
        self.link_lost(now, conn);
    }

    fn link_lost(&mut self, now: Now, conn: ConnId) {
        self.pulls.conn_lost(now.instant, conn);
        self.buckets.conn_lost(conn);
        self.first_copy(now);
    }

    /// Sends a frame to a peer over our link to it, in a format that both read, dialling when there
    /// is none. False when the window is full, or TCP to it blocked, and the frame was not taken.
    pub(super) fn link_send(
        &mut self,
        now: Now,
        origin: OriginId,
        payload: impl Into<Payload>,
    ) -> bool {
        let Some(peer) = self.peers.get(origin) else { return false };
        // What it cannot read at all is nothing that it waits for.
        let Some(payload) = fit(&payload.into(), peer.common) else { return true };
        let (addr, common) = (peer.info.addr, peer.common);
        match peer.link.filter(|conn| self.links.is_open(*conn)) {
            // One long record may pass the window's end: who waits for room waits for a chunk's.
            Some(conn) if self.links.has_room(conn, payload.len().min(LINK_CHUNK_LEN)) => {
                self.links.send(conn, payload);
                true
            }
            Some(_) => false,
            None if peer.paths.is_held(now.instant) => false,
            None => {
                let conn = self.next_conn();
                self.links.dial(now.instant, conn, origin, addr, payload);
                self.links.speaks(conn, Some(common), common.last);
                if let Some(peer) = self.peers.get_mut(origin) {
                    peer.link = Some(conn);
                    peer.paths.dialling(now.instant);
                }
                true
            }
        }
    }

    /// Answers on a connection.
    pub(super) fn link_reply(&mut self, conn: ConnId, payload: Bytes) {
        self.links.send(conn, payload);
    }

    /// The reachable peers, by name.
    pub(super) fn reachable_names(&self) -> Vec<(OriginId, String)> {
        self.peers.reachable().map(|peer| (peer.info.origin, peer.info.name.to_string())).collect()
    }

    /// Sends one message to a peer: as a datagram when it fits and they arrive, else over the link.
    fn send(&mut self, now: Now, origin: OriginId, message: &KvMessage) {
        let payload = message.encode();
        let Some(peer) = self.peers.get(origin) else { return };
        if payload.len() > self.room || peer.paths.by_link(now.instant, self.unanswered.is_mute()) {
            self.link_send(now, origin, payload);
        } else {
            self.send_datagram(&[origin], vec![payload]);
        }
    }

    /// Sends user messages in one datagram to each of these peers, in a format that both read.
    fn send_datagram(&mut self, to: &[OriginId], payloads: Vec<Bytes>) {
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

    /// Whether writes go straight to every peer.
    fn is_direct(&self) -> bool {
        self.peers.n_reachable() <= DIRECT_PEERS_MAX
    }

    fn note(&mut self, note: Note) {
        self.out.push_back(Out::Output(Output::Note(note)));
    }

    fn unreadable(&mut self, why: &str, from: SocketAddr) {
        self.counters.unreadable_total += 1;
        self.out.push_back(Out::Output(Output::Note(Note::Unreadable { why: why.into(), from })));
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.out.push_back(Out::Output(Output::Reply { ticket, reply }));
    }

    /// Does whatever is due.
    pub fn timeout(&mut self, now: Now) {
        self.flush_due(now);
        self.send_acks(now);
        self.backlogs_due(now);
        self.resend_due(now);
        self.gaps_due(now);
        self.digest_due(now);
        self.rumors_due(now);
        self.serve(now);
        self.pull_due(now);
        self.buckets_due(now);
        self.walk_due(now);
        self.sweep_due(now);
        self.holders_due(now);
        self.drain_due(now);
        self.ready_due(now);
    }

    /// When something is due next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        [
            self.pusher.deadline(&self.peers, &self.links, self.is_direct()),
            self.gaps.deadline(),
            self.digests.deadline(self.peers.n_reachable() > 0),
            self.rumors.deadline(),
            self.pulls.deadline(&self.links),
            self.buckets.deadline(),
            self.walk.deadline(),
            self.sweep.deadline(),
            self.holders.deadline(),
            self.handover.deadline(),
            self.ready.deadline(),
        ]
        .into_iter()
        .min()
        .unwrap_or(Instant::NEVER)
    }

    pub(super) fn poll(&mut self) -> Option<Out> {
        self.links.out.pop_front().map(Out::Output).or_else(|| self.out.pop_front())
    }

    /// Readiness as replication sees it.
    #[must_use]
    pub fn health(&self) -> Health {
        self.ready.health()
    }

    /// Up to which number every write of `origin` is held here, replaced, or deleted and forgotten.
    #[must_use]
    pub fn contiguous(&self, origin: OriginId) -> u64 {
        if origin == self.me { self.store.last_seq() } else { self.known.contiguous(origin) }
    }

    /// Whether this very write is held here, replaced, or deleted and forgotten.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.known.covers(dot)
    }

    /// The peers that answer.
    pub(super) fn reachable(&self) -> impl Iterator<Item = Told<'_>> {
        self.peers.reachable().map(Told::of)
    }

    /// The peers that do not.
    pub(super) fn absent(&self) -> impl Iterator<Item = Told<'_>> {
        self.peers.iter().filter(|peer| !peer.info.reachable).map(Told::of)
    }

    /// Whether the run `origin` is among the peers, dead ones too.
    #[must_use]
    pub fn has_peer(&self, origin: OriginId) -> bool {
        self.peers.get(origin).is_some()
    }

    /// Every origin heard of, our own and folded ones too, by number.
    #[must_use]
    pub fn origins(&self) -> Vec<OriginId> {
        let folded = self.known.folded_list().into_iter().map(|(origin, ..)| OriginId(origin));
        let mut origins: Vec<OriginId> = self.known.origins().into_iter().chain(folded).collect();
        origins.push(self.me);
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    /// Tombstones forgotten here.
    #[must_use]
    pub fn forgotten_total(&self) -> u64 {
        self.sweep.forgotten_total
    }

    /// An origin that still has its place in digests although its run is over and everybody has
    /// all of it, as far as this node can tell.
    #[must_use]
    pub fn unfolded(&self) -> Option<OriginId> {
        let mut origins = self.known.origins().into_iter();
        origins.find(|origin| *origin != self.me && self.peers.get(*origin).is_none())
    }

    /// Copies from before a forgotten delete that were refused.
    #[must_use]
    pub fn resurrections_refused_total(&self) -> u64 {
        self.counters.resurrections_refused_total
    }

    /// Members of our kind that share no format with this node, by origin; dead ones too.
    pub fn incompatible(&self) -> impl Iterator<Item = &PeerInfo> {
        self.peers.incompatible()
    }

    /// Peers that answer.
    #[must_use]
    pub fn n_peers(&self) -> usize {
        self.peers.n_reachable()
    }
}
