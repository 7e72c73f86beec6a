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
//! tails    deletes held past a lost write of a folded origin     --> told to all (link)
//! ```
//!
//! It knows peers, not members: [`PeerInfo`] is all that membership tells it. Sans-IO like all of
//! the core.

mod absence;
mod backlog;
mod batch;
mod beacon;
mod codec;
mod compare;
mod context;
mod counters;
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
mod next;
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
mod stage;
mod stats;
mod sweep;
mod tails;
#[cfg(test)]
mod tests;
mod walk;

pub use context::{Config, DIRECT_PEERS_MAX};
pub use holders::Waiting;
pub use peers::PeerInfo;
pub use push::COALESCE;
pub use stage::Stage;

use self::absence::Absence;
use self::compare::Compare;
use self::context::{Context, Shared};
use self::digest::Digests;
use self::gaps::Gaps;
use self::handover::Handover;
use self::holders::Holders;
use self::links::Links;
use self::message::{KvMessage, MessageError, PullEnd, Push, Read, Supply, Verdicts};
use self::next::Next;
use self::paths::Via;
use self::pull::Pulls;
use self::push::Pusher;
use self::rumor::Rumors;
use self::scrub::Scrub;
use self::sweep::{STEP_SHARDS, Sweep};
use self::tails::Tails;
use self::walk::Walk;
use super::command::Health;
use super::io::{ConnId, Note, Output};
use crate::kv::{Dot, HlcTime, OriginId, Record, Store};
use crate::time::{Instant, Now};
use crate::wire::message::NodeName;
use crate::wire::stream::Payload;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

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
    shared: Shared,
    pusher: Pusher,
    gaps: Gaps,
    digests: Digests,
    rumors: Rumors,
    links: Links,
    pulls: Pulls,
    compare: Compare,
    walk: Walk,
    absence: Absence,
    holders: Holders,
    handover: Handover,
    sweep: Sweep,
    scrub: Scrub,
    tails: Tails,
}

impl Replication {
    /// Replication of `store`, which is still empty.
    #[must_use]
    pub fn new(config: Config, store: Arc<Store>, now: Now) -> Replication {
        // Only what has been somewhere else before has anything in its store.
        let is_filled = config.expects_peers && store.stats().n_live > 0;
        let mut shared = Shared::new(config, store);
        Replication {
            digests: Digests::new(now.instant, &mut shared.rng),
            shared,
            pusher: Pusher::default(),
            gaps: Gaps::default(),
            rumors: Rumors::default(),
            links: Links::new(),
            pulls: Pulls::default(),
            compare: Compare::default(),
            walk: Walk::default(),
            absence: Absence::new(now.instant, is_filled),
            holders: Holders::default(),
            handover: Handover::default(),
            sweep: Sweep::new(now.instant),
            scrub: Scrub::default(),
            tails: Tails::default(),
        }
    }

    /// Lends what is shared to a mechanism.
    fn cx(&mut self, now: Now) -> Context<'_> {
        self.shared.lend(now, &mut self.links)
    }

    /// A number for a connection that the composition dials.
    pub(super) fn next_conn(&mut self) -> ConnId {
        self.links.next_conn()
    }

    /// Sends a frame to a peer over our link to it; see [`Context::link_send`].
    pub(super) fn link_send(
        &mut self,
        now: Now,
        origin: OriginId,
        payload: impl Into<Payload>,
    ) -> bool {
        self.cx(now).link_send(origin, payload)
    }

    /// Sets the longest user message that fits a datagram, in bytes.
    pub fn set_room(&mut self, room: usize) {
        self.shared.room = room;
    }

    /// Takes over who the members of our kind are now. Those with whom no format is shared are no
    /// peers: they get nothing, and nothing waits for them.
    pub fn members(&mut self, now: Now, infos: Vec<PeerInfo>) {
        let before = self.shared.peers.n_reachable();
        for gone in self.shared.peers.update(infos) {
            if let Some(conn) = gone.link {
                self.links.close(conn);
            }
            self.pulls.lost(gone.info.origin);
            self.compare.lost(gone.info.origin);
        }
        self.shared.known.unfold_members(self.shared.peers.iter().map(|peer| peer.info.origin));
        if before == 0 && self.shared.peers.n_reachable() > 0 {
            self.digests.soon(now.instant);
        }
        self.flush(now, false);
        self.greet(now);
        self.first_copy(now);
    }

    /// A datagram's user message that is ours.
    pub fn datagram(&mut self, now: Now, from: SocketAddr, payload: &Bytes) {
        self.shared.counters.datagram_len_in += payload.len() as u64;
        let via = Via::Datagram;
        match self.read(payload) {
            Ok(read) => match read.message {
                KvMessage::Push(push, records) => self.pushed(now, payload, push, &records, via),
                KvMessage::Ack(ack) => self.acked(now, &ack, via),
                KvMessage::Digest(digest) => self.digested(now, &digest, via, payload.len()),
                KvMessage::Want(want) => self.wanted(now, &want, via),
                KvMessage::Folded(folded) => self.folded(now, &folded),
                #[cfg(feature = "next-format")]
                KvMessage::Played(_) => self.shared.counters.played_total += 1,
                _ => self.unreadable("message belongs on a link", from),
            },
            Err(MessageError::Kind(_)) => {}
            Err(error) => self.unreadable(&error.to_string(), from),
        }
    }

    /// Reads a message, and counts what of it is from a later version.
    fn read(&mut self, payload: &[u8]) -> Result<Read, MessageError> {
        let read = KvMessage::read(payload, self.shared.config.formats);
        match &read {
            Ok(read) => self.shared.counters.fields_passed_over_total += read.n_passed_over as u64,
            Err(MessageError::Kind(_)) => self.shared.counters.kinds_passed_over_total += 1,
            Err(_) => {}
        }
        read
    }

    /// A frame of a link.
    pub fn frame(&mut self, now: Now, conn: ConnId, from: SocketAddr, payload: &Bytes) {
        self.shared.counters.link_len_in += payload.len() as u64;
        self.links.seen(conn, None);
        self.compare.heard(now.instant, conn);
        match self.read(payload) {
            Ok(Read { message, format, .. }) => {
                let peer = message.sender().and_then(|sender| self.shared.peers.get(sender));
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
            KvMessage::Pull(pull) => {
                let cx = &mut self.shared.lend(now, &mut self.links);
                let next = self.pulls.requested(cx, conn, &pull);
                self.follow(now, next);
            }
            KvMessage::PullEnd(end) => self.pull_ended(now, conn, &end),
            KvMessage::Busy(busy) => {
                self.pulls.refused(now.instant, conn, &busy);
                if self.compare.refused(conn) {
                    self.walk.refused(now.instant, &busy);
                }
            }
            KvMessage::Supply(supply, records) => self.supplied(now, conn, &supply, &records),
            KvMessage::Roots(roots) => compare::roots(&mut self.cx(now), conn, &roots),
            KvMessage::Leaves(leaves) => {
                let cx = &mut self.shared.lend(now, &mut self.links);
                let next = self.compare.leaves(cx, conn, &leaves, self.walk.is_wanted());
                self.follow(now, next);
            }
            KvMessage::Items(items) => compare::items(&mut self.cx(now), conn, &items),
            KvMessage::Verdicts(verdicts, records) => self.verdicts(now, conn, &verdicts, &records),
            #[cfg(feature = "next-format")]
            KvMessage::Played(_) => self.shared.counters.played_total += 1,
            message @ (KvMessage::KeyRequest(_) | KvMessage::KeyReply(_)) => {
                self.shared.out.push_back(Out::Keys(conn, message));
            }
        }
    }

    /// A push arrived, by datagram or link.
    fn pushed(&mut self, now: Now, payload: &Bytes, push: Push, records: &[Record], via: Via) {
        let (of, from) = (OriginId(push.of), OriginId(push.from));
        self.cx(now).heard_via(from, via);
        self.note_pushed(records);
        let cx = &mut self.shared.lend(now, &mut self.links);
        let (n_newer, _) = receive::apply(cx, records, true);
        let mut news = n_newer > 0;
        if of != cx.me {
            news |= receive::settled(cx, of, &push.settles);
            self.owe_ack(now, &push, via);
            let cx = &self.shared.lend(now, &mut self.links);
            self.gaps.note_holes(cx, of, from);
        }
        if news {
            let cx = &mut self.shared.lend(now, &mut self.links);
            self.rumors.came(cx, payload, of, via);
        }
    }

    /// What a peer makes of the names that we sent it, or of ours that it lacks.
    fn verdicts(&mut self, now: Now, conn: ConnId, verdicts: &Verdicts, records: &[Record]) {
        let cx = &mut self.shared.lend(now, &mut self.links);
        let waits = self.walk.is_wanted();
        let next = self.compare.verdicts(cx, conn, verdicts, records, waits);
        self.follow(now, next);
    }

    /// Records of a pull or of a comparison, or deletes past a lost write.
    fn supplied(&mut self, now: Now, conn: ConnId, supply: &Supply, records: &[Record]) {
        let cx = &mut self.shared.lend(now, &mut self.links);
        let is_asked = self.pulls.heard(now.instant, conn, records.len()) || supply.observe;
        let (n_newer, _) = receive::apply(cx, records, supply.observe);
        match (n_newer > 0, is_asked) {
            (true, true) if !supply.observe => self.tails.unclaimed_came(),
            (true, false) => self.tails.heard(cx),
            _ => {}
        }
    }

    /// A pull is complete. It may turn out that this node lacked deletes which are forgotten.
    fn pull_ended(&mut self, now: Now, conn: ConnId, end: &PullEnd) {
        let cx = &mut self.shared.lend(now, &mut self.links);
        let Some(ended) = self.pulls.ended(cx, conn, end) else { return };
        if ended.is_acked {
            self.holders.changed(cx);
        }
        if end.reset || self.has_to_compare(ended.first, HlcTime(end.forgotten)) {
            self.hide(now);
            self.walk.reset(now.instant, ended.lacked, self.compare.is_active());
        } else if ended.first {
            self.copied(now, ended.n_records);
        }
        let cx = &mut self.shared.lend(now, &mut self.links);
        let next = self.walk.pulled(cx, ended.from, end);
        self.follow(now, next);
        // What we hold that the server lacks, it learns from this.
        self.digests.soon(now.instant);
    }

    /// A frame handed over has been written.
    pub fn link_written(&mut self, now: Now, conn: ConnId, len: usize) {
        if let Some(origin) = self.links.written(now.instant, conn, len) {
            self.dialled(origin);
        }
    }

    /// Where the peer gossips whose link this is, once known.
    pub(super) fn link_peer(&self, conn: ConnId) -> Option<SocketAddr> {
        Some(self.shared.peers.get(self.links.peer(conn)?)?.info.addr)
    }

    /// A connection has ended.
    pub fn link_closed(&mut self, now: Now, conn: ConnId) {
        if let Some(link) = self.links.closed(conn)
            && let Some(origin) = link.peer
        {
            if let Some(peer) = self.shared.peers.get_mut(origin)
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
        self.compare.conn_lost(conn);
        self.first_copy(now);
    }

    /// Answers on a connection.
    pub(super) fn link_reply(&mut self, conn: ConnId, payload: Bytes) {
        self.links.send(conn, payload);
    }

    /// The reachable peers, by name.
    pub(super) fn reachable_names(&self) -> Vec<(OriginId, String)> {
        self.shared
            .peers
            .reachable()
            .map(|peer| (peer.info.origin, peer.info.name.to_string()))
            .collect()
    }

    /// Whether writes go straight to every peer.
    fn is_direct(&self) -> bool {
        self.shared.peers.n_reachable() <= DIRECT_PEERS_MAX
    }

    fn note(&mut self, note: Note) {
        self.shared.out.push_back(Out::Output(Output::Note(note)));
    }

    fn unreadable(&mut self, why: &str, from: SocketAddr) {
        self.shared.counters.unreadable_total += 1;
        self.shared
            .out
            .push_back(Out::Output(Output::Note(Note::Unreadable { why: why.into(), from })));
    }

    /// Does whatever is due.
    pub fn timeout(&mut self, now: Now) {
        self.flush_due(now);
        self.send_acks(now);
        self.backlogs_due(now);
        self.resend_due(now);
        self.gaps_due(now);
        self.digest_due(now);
        self.rumors.due(&mut self.shared.lend(now, &mut self.links));
        self.pulls_due(now);
        self.compare.due(&mut self.shared.lend(now, &mut self.links));
        self.walk_due(now);
        self.sweep_due(now);
        self.holders.due(&mut self.shared.lend(now, &mut self.links));
        self.drain_due(now);
        self.ready_due(now);
    }

    /// A step of letting go.
    fn sweep_due(&mut self, now: Now) {
        let cx = &mut self.shared.lend(now, &mut self.links);
        let Some(shard) = self.sweep.due(cx) else { return };
        let next = self.scrub.next(cx);
        self.tails.due(cx, self.pulls.is_active());
        self.tails.tell(cx, shard, STEP_SHARDS);
        self.sweep.forget(cx);
        self.sweep.fold(cx, |of| self.gaps.is_asking(of));
        self.follow(now, next);
    }

    /// Begins to wait until enough members hold a write of ours.
    pub fn await_holders(&mut self, now: Now, wait: Waiting) {
        if self.holders.begin(&mut self.shared.lend(now, &mut self.links), wait) {
            self.flush(now, true);
            self.holders.flushed(&mut self.shared.lend(now, &mut self.links), wait.seq);
        }
    }

    /// Asks for what is missing.
    fn gaps_due(&mut self, now: Now) {
        for of in self.gaps.due(now.instant) {
            let cx = &mut self.shared.lend(now, &mut self.links);
            let next = self.gaps.ask(cx, of);
            self.follow(now, next);
        }
    }

    /// Serves pulls, and gives up the one that is asked for when it has fallen silent.
    fn pulls_due(&mut self, now: Now) {
        let cx = &mut self.shared.lend(now, &mut self.links);
        let next = self.pulls.serve(cx);
        self.pulls.due(cx);
        self.follow(now, next);
    }

    /// Goes on with the walk.
    fn walk_due(&mut self, now: Now) {
        let cx = &mut self.shared.lend(now, &mut self.links);
        let next = self.walk.due(cx, self.compare.is_active(), self.pulls.is_active());
        self.follow(now, next);
    }

    /// Has done what one mechanism leaves to another.
    fn follow(&mut self, now: Now, next: impl Into<Option<Next>>) {
        let Some(next) = next.into() else { return };
        let cx = &mut self.shared.lend(now, &mut self.links);
        match next {
            Next::Pull(peer) => self.pulls.start(cx, peer),
            Next::Mend => self.walk.mend(now.instant, self.compare.is_active()),
            Next::Compare { peer, agreed, first } => self.compare.start(cx, peer, agreed, first),
            Next::CompareOn { first } => self.compare.go_on(cx, first),
            Next::WalkTold { conn, leaves } => {
                let next = self.walk.told(cx, conn, leaves);
                self.follow(now, next);
            }
            Next::WalkJudged { conn, more } => {
                let next = self.walk.judged(cx, conn, more);
                self.follow(now, next);
            }
            Next::Walked { is_reset } => {
                self.compare.end();
                self.shared.known.trust();
                if is_reset {
                    self.compared(now);
                }
            }
            Next::Trusted { is_alone } => {
                if is_alone {
                    self.absence.owe();
                }
                self.compared(now);
            }
        }
    }

    /// When something is due next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        [
            self.pusher.deadline(&self.shared.peers, &self.links, self.is_direct()),
            self.gaps.deadline(),
            self.digests.deadline(self.shared.peers.n_reachable() > 0),
            self.rumors.deadline(),
            self.pulls.deadline(&self.links),
            self.compare.deadline(),
            self.walk.deadline(),
            self.sweep.deadline(),
            self.holders.deadline(),
            self.handover.deadline(),
            self.shared.ready.deadline(),
        ]
        .into_iter()
        .min()
        .unwrap_or(Instant::NEVER)
    }

    pub(super) fn poll(&mut self) -> Option<Out> {
        self.links.out.pop_front().map(Out::Output).or_else(|| self.shared.out.pop_front())
    }

    /// Readiness as replication sees it.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.ready.health()
    }

    /// Up to which number every write of `origin` is held here, replaced, or deleted and forgotten.
    #[must_use]
    pub fn contiguous(&self, origin: OriginId) -> u64 {
        self.shared.contiguous(origin)
    }

    /// Whether this very write is held here, replaced, or deleted and forgotten.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        self.shared.known.covers(dot)
    }

    /// The peers that answer.
    pub(super) fn reachable(&self) -> impl Iterator<Item = Told<'_>> {
        self.shared.peers.reachable().map(Told::of)
    }

    /// The peers that do not.
    pub(super) fn absent(&self) -> impl Iterator<Item = Told<'_>> {
        self.shared.peers.iter().filter(|peer| !peer.info.reachable).map(Told::of)
    }

    /// Whether the run `origin` is among the peers, dead ones too.
    #[must_use]
    pub fn has_peer(&self, origin: OriginId) -> bool {
        self.shared.peers.get(origin).is_some()
    }

    /// Every origin heard of, our own and folded ones too, by number.
    #[must_use]
    pub fn origins(&self) -> Vec<OriginId> {
        let folded =
            self.shared.known.folded_list().into_iter().map(|(origin, ..)| OriginId(origin));
        let mut origins: Vec<OriginId> =
            self.shared.known.origins().into_iter().chain(folded).collect();
        origins.push(self.shared.me);
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
        let mut origins = self.shared.known.origins().into_iter();
        origins.find(|origin| *origin != self.shared.me && self.shared.peers.get(*origin).is_none())
    }

    /// Copies from before a forgotten delete that were refused.
    #[must_use]
    pub fn resurrections_refused_total(&self) -> u64 {
        self.shared.counters.resurrections_refused_total
    }

    /// Members of our kind that share no format with this node, by origin; dead ones too.
    pub fn incompatible(&self) -> impl Iterator<Item = &PeerInfo> {
        self.shared.peers.incompatible()
    }

    /// Peers that answer.
    #[must_use]
    pub fn n_peers(&self) -> usize {
        self.shared.peers.n_reachable()
    }
}
