//! Our own writes, out to the others: at once when idle, coalesced under load, again until
//! acknowledged.
//!
//! With few peers every write goes straight to each of them and each acknowledges; what stays
//! unacknowledged is sent again, sooner or later by its round trip, and for a peer far behind only
//! a beacon goes out, from which it pulls. With many peers writes become rumors.

use super::Replication;
use super::backlog;
use super::batch::{Envelope, Settled, chunks, is_large, logged, pack, settle, single};
use super::links::Links;
use super::message::{Ack, KvMessage, Push, Ranges, Want};
use super::paths::{Via, is_stuck};
use super::peers::{Peer, Peers};
use crate::kv::{OriginId, OwnLog};
use crate::limits::{LINK_CHUNK_LEN, WANTED_WRITES_MAX};
use crate::mutation::mutated;
use crate::node::io::ConnId;
use crate::time::{Instant, Now};
use std::collections::BTreeMap;
use std::time::Duration;

/// Least time between two flushes: under load datagrams fill, when idle nothing waits. A client
/// that writes one key after the other feels all of it; much less would fill no datagram.
pub const COALESCE: Duration = Duration::from_micros(250);
/// How long a receiver waits for more before it acknowledges.
const ACK_DELAY: Duration = Duration::from_millis(4);
/// Writes taken from the log at once.
const FLUSH_WRITES: usize = 4096;
/// Datagrams of one flush; more bytes than these carry go over links.
const FLUSH_DATAGRAMS: usize = 24;
/// Datagrams of one retransmission.
const RESEND_DATAGRAMS: usize = 8;
/// One in so many tries goes over the link, too, the second one first.
const LINK_TRIES: u32 = 3;
/// Unacknowledged writes beyond which a peer is told to pull instead.
const RESEND_WRITES: u64 = 512;

/// An acknowledgement owed. It goes each way that pushes came, so that both ways are known to work.
#[derive(Debug)]
struct Owed {
    due: Instant,
    datagram: bool,
    link: Option<ConnId>,
}

/// What has gone out and what is owed.
#[derive(Debug, Default)]
pub(super) struct Pusher {
    /// Our writes sent for the first time.
    pub(super) pushed: u64,
    /// Earliest next flush.
    next_flush: Instant,
    /// When to flush what waits.
    flush_at: Option<Instant>,
    acks: BTreeMap<OriginId, Owed>,
}

impl Pusher {
    /// `direct` is whether writes go straight to every peer: only then are they sent again.
    pub(super) fn deadline(&self, peers: &Peers, links: &Links, direct: bool) -> Instant {
        if direct && backlog::is_due(peers, links) {
            return Instant::ZERO;
        }
        let again = (direct || mutated!(Spin)).then(|| peers.reachable());
        let resend = again.into_iter().flatten().filter_map(|peer| peer.resend_at).min();
        let ack = self.acks.values().map(|owed| owed.due).min();
        [self.flush_at, resend, ack].into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }
}

impl Replication {
    /// The store holds new writes of ours.
    pub fn written(&mut self, now: Now) {
        if now.instant >= self.pusher.next_flush || self.holders.is_waiting() {
            self.flush(now, self.holders.is_waiting());
        } else {
            self.pusher.flush_at = Some(self.pusher.next_flush);
        }
    }

    pub(super) fn flush_due(&mut self, now: Now) {
        if self.pusher.flush_at.is_some_and(|at| at <= now.instant) {
            self.flush(now, self.holders.is_waiting());
        }
    }

    /// Sends writes not sent yet, so many a turn.
    pub(super) fn flush(&mut self, now: Now, urgent: bool) {
        self.pusher.flush_at = None;
        if self.shared.peers.n_reachable() == 0 {
            self.pusher.pushed = self.shared.store.last_seq();
            return;
        }
        let writes = loop {
            match self.shared.store.own_log(self.pusher.pushed, FLUSH_WRITES) {
                OwnLog::Keys(writes) if writes.is_empty() => return,
                OwnLog::Keys(writes) => break writes,
                OwnLog::Forgotten { first } => {
                    // Overtaken by the log's bound: peers see the gap and pull.
                    self.pusher.pushed = first.saturating_sub(1).max(self.pusher.pushed + 1);
                }
            }
        };
        // Writers faster than this must not keep the node from everything else: the rest follows.
        self.pusher.flush_at = (writes.len() >= FLUSH_WRITES).then_some(now.instant);
        self.pusher.pushed = writes.last().map_or(self.pusher.pushed, |(seq, _)| *seq);
        let settled = settle(&self.shared.store, writes);
        self.first_send(now, settled, urgent);
        self.pusher.next_flush = now.instant + COALESCE;
    }

    fn first_send(&mut self, now: Now, settled: Vec<Settled>, urgent: bool) {
        let envelope = Envelope { of: self.shared.me, from: self.shared.me, urgent };
        if !self.is_direct() {
            let cx = &mut self.shared.lend(now, &mut self.links);
            self.rumors.spread(cx, envelope, settled);
            return;
        }
        let len: usize = settled.iter().map(|item| item.record.as_bytes().len()).sum();
        let is_bulk = len > FLUSH_DATAGRAMS * self.shared.room;
        let answering = self.shared.peers.reachable().filter(|peer| !peer.is_stalled());
        let (linked, others): (Vec<&Peer>, Vec<&Peer>) = answering.partition(|peer| {
            peer.paths.by_link(now.instant, self.shared.unanswered.is_mute())
                || is_bulk && !peer.paths.is_held(now.instant)
        });
        let linked: Vec<OriginId> = linked.iter().map(|peer| peer.info.origin).collect();
        let others: Vec<OriginId> = others.iter().map(|peer| peer.info.origin).collect();
        if !linked.is_empty() {
            self.send_chunks(now, &linked, envelope, settled.clone());
            linked.iter().for_each(|origin| self.cx(now).try_udp(*origin));
        }
        if !others.is_empty() {
            let batches = pack(envelope, settled, self.shared.room);
            for payload in batches.payloads.into_iter().take(FLUSH_DATAGRAMS) {
                self.cx(now).send_datagram(&others, vec![payload]);
            }
            self.send_chunks(now, &others, envelope, batches.large);
        }
        let pushed = self.pusher.pushed;
        for origin in linked.into_iter().chain(others) {
            if let Some(peer) = self.shared.peers.get_mut(origin) {
                peer.sent_through(now.instant, pushed);
            }
        }
    }

    /// Sends again what peers have not acknowledged in time.
    pub(super) fn resend_due(&mut self, now: Now) {
        if !self.is_direct() {
            return;
        }
        let due: Vec<OriginId> = self
            .shared
            .peers
            .reachable()
            .filter(|peer| peer.resend_at.is_some_and(|at| at <= now.instant))
            .map(|peer| peer.info.origin)
            .collect();
        for origin in due {
            self.resend(now, origin);
        }
    }

    fn resend(&mut self, now: Now, origin: OriginId) {
        let Some(peer) = self.shared.peers.get_mut(origin) else { return };
        let (acked, sent) = (peer.acked, peer.sent);
        if acked >= sent {
            peer.resend_at = None;
            return;
        }
        peer.tries += 1;
        peer.resend_at = Some(now.instant + peer.rto());
        if peer.is_stalled() {
            peer.backlog = None;
        }
        let link_busy = peer.link.is_some_and(|conn| self.links.in_flight_len(conn) > 0);
        if peer.backlog.is_some() || link_busy && peer.by_link.through > acked {
            if is_stuck(peer, &self.links, now.instant) {
                // It may have from others what does not get through.
                self.cx(now).beacon_by_datagram(origin);
            }
            return;
        }
        if peer.is_stalled() || sent - acked > RESEND_WRITES {
            self.shared.counters.resends_total += 1;
            self.cx(now).beacon(origin);
            return;
        }
        let OwnLog::Keys(writes) = self.shared.store.own_log(acked, (sent - acked) as usize) else {
            self.cx(now).beacon(origin);
            return;
        };
        let (link, by_link, room) = (peer.link, peer.by_link, self.shared.room);
        let mut settled = settle(&self.shared.store, writes);
        settled
            .retain(|item| !by_link.carries(now.instant, link, &item.seqs, is_large(item, room)));
        if settled.is_empty() {
            return;
        }
        peer.sent_again();
        self.shared.counters.resends_total += 1;
        let envelope = Envelope {
            of: self.shared.me,
            from: self.shared.me,
            urgent: self.holders.is_waiting(),
        };
        if peer.paths.by_link(now.instant, self.shared.unanswered.is_mute()) {
            self.send_chunks(now, &[origin], envelope, settled);
            self.cx(now).try_udp(origin);
            return;
        }
        peer.paths.try_in_vain();
        if peer.tries % LINK_TRIES == LINK_TRIES - 1
            && !link_busy
            && !peer.paths.is_held(now.instant)
        {
            // Where datagrams do not arrive, the link may; without waiting whether it does.
            self.link_settled(now, origin, envelope, settled.clone());
        }
        self.send_settled(now, origin, envelope, settled, (RESEND_DATAGRAMS, !link_busy));
    }

    /// Sends records to one peer: datagrams up to a number, and the rest over the link if it may.
    fn send_settled(
        &mut self,
        now: Now,
        origin: OriginId,
        envelope: Envelope,
        settled: Vec<Settled>,
        (datagrams_max, may_link): (usize, bool),
    ) {
        let Some(peer) = self.shared.peers.get(origin) else { return };
        if peer.paths.by_link(now.instant, self.shared.unanswered.is_mute()) {
            self.link_settled(now, origin, envelope, settled);
            return;
        }
        let batches = pack(envelope, settled, self.shared.room);
        for (index, payload) in batches.payloads.into_iter().enumerate() {
            if index < datagrams_max {
                self.cx(now).send_datagram(&[origin], vec![payload]);
            } else if may_link {
                self.cx(now).link_send(origin, payload);
            }
        }
        for item in batches.large.into_iter().filter(|_| may_link) {
            self.cx(now).link_send(origin, single(envelope, vec![item]));
        }
    }

    /// Sends records over the link to a peer, as far as there is room; the rest is asked for again.
    fn link_settled(
        &mut self,
        now: Now,
        origin: OriginId,
        envelope: Envelope,
        settled: Vec<Settled>,
    ) {
        for items in chunks(settled) {
            if !self.cx(now).link_send(origin, single(envelope, items)) {
                return;
            }
        }
    }

    /// A peer holds more of our writes.
    pub(super) fn acked(&mut self, now: Now, ack: &Ack, via: Via) {
        #[cfg(feature = "next-format")]
        {
            self.shared.counters.played_total += u64::from(ack.played.is_some());
        }
        if OriginId(ack.of) != self.shared.me {
            return;
        }
        let from = OriginId(ack.from);
        self.cx(now).heard_via(from, via);
        let is_news = self.acknowledged(now, from, ack.through);
        self.ack_came(from, via, is_news);
    }

    /// A peer holds our writes up to `through`. True when that is news.
    pub(super) fn acknowledged(&mut self, now: Now, from: OriginId, through: u64) -> bool {
        let is_news = self.cx(now).acknowledged(from, through);
        if is_news {
            self.holders.changed(&mut self.shared.lend(now, &mut self.links));
        }
        is_news
    }

    /// A push of `from`'s own writes arrived: an acknowledgement is owed.
    pub(super) fn owe_ack(&mut self, now: Now, push: &Push, via: Via) {
        if push.of != push.from || !(push.urgent || self.is_direct()) {
            return;
        }
        let due = if push.urgent { now.instant } else { now.instant + ACK_DELAY };
        let from = OriginId(push.from);
        if self.shared.peers.get(from).is_some() {
            let owed = Owed { due, datagram: false, link: None };
            let owed = self.pusher.acks.entry(from).or_insert(owed);
            owed.due = due.min(owed.due);
            match via {
                Via::Link(conn) => owed.link = Some(conn),
                Via::Datagram | Via::Exchange => owed.datagram = true,
            }
        }
    }

    pub(super) fn send_acks(&mut self, now: Now) {
        let is_due = |(_, owed): &(&OriginId, &Owed)| owed.due <= now.instant;
        while let Some((&of, _)) = self.pusher.acks.iter().find(is_due) {
            let Some(owed) = self.pusher.acks.remove(&of) else { return };
            let through = if mutated!(AckPastGap) {
                self.shared.known.highest(of).max(self.shared.known.contiguous(of))
            } else {
                self.shared.known.contiguous(of)
            };
            let ack = KvMessage::Ack(Ack {
                from: self.shared.me.0,
                of: of.0,
                through,
                #[cfg(feature = "next-format")]
                played: self.cx(now).played_field(),
            });
            if let Some(conn) = owed.link {
                self.cx(now).answer_via(of, Via::Link(conn), &ack);
            }
            if owed.datagram {
                self.cx(now).answer_via(of, Via::Datagram, &ack);
            }
        }
    }

    /// Somebody lacks writes that we said to hold.
    pub(super) fn wanted(&mut self, now: Now, want: &Want, via: Via) {
        let (asker, of) = (OriginId(want.from), OriginId(want.of));
        self.cx(now).heard_via(asker, via);
        let Some(peer) = self.shared.peers.get(asker) else { return };
        let link_busy = peer.link.is_some_and(|conn| self.links.in_flight_len(conn) > 0);
        let follows = self.is_direct() && peer.backlog.is_some();
        let link_sent = if follows { u64::MAX } else { peer.by_link.through };
        // What is under way on the link, or next on it, arrives without being sent twice.
        let ranges: Ranges = want
            .ranges
            .iter()
            .filter(|(start, _)| !(link_busy && of == self.shared.me && *start <= link_sent))
            .copied()
            .collect();
        let (writes, complete) = logged(&self.shared.store, of, &ranges, WANTED_WRITES_MAX);
        self.shared.counters.wants_in_total += 1;
        if writes.is_empty() {
            if !complete {
                self.cx(now).beacon(asker);
            }
            return;
        }
        let settled = settle(&self.shared.store, writes);
        let urgent = of == self.shared.me && self.holders.is_waiting();
        let envelope = Envelope { of, from: self.shared.me, urgent };
        match via {
            Via::Link(conn) if self.links.is_open(conn) => {
                for items in chunks(settled) {
                    if !self.links.has_room(conn, LINK_CHUNK_LEN) {
                        break;
                    }
                    self.links.send(conn, single(envelope, items));
                }
            }
            // An asker whose link is slow asks again long before an answer has arrived: what
            // would go over the link waits for its turn.
            _ => {
                let limits = (FLUSH_DATAGRAMS, !link_busy);
                self.send_settled(now, asker, envelope, settled, limits);
            }
        }
    }
}
