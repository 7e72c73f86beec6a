//! Beacons: digests of one origin, small enough for any datagram.
//!
//! A beacon tells a peer how far our own writes go, or how far we hold somebody else's. The peer
//! asks for what it lacks and, when the beacon says so, answers with what it holds.

use super::context::Context;
use super::facts::peers::Peer;
use super::message::{Digest, KvMessage};
use crate::kv::OriginId;
use crate::time::Instant;
use bytes::Bytes;
use std::time::Duration;

/// Least time between two datagrams that try whether UDP works again.
const UDP_RETRY: Duration = Duration::from_millis(250);
/// Most peers that are told every rumor over a link besides those drawn.
const LINKED_MAX: usize = 8;

impl Context<'_> {
    /// Tells a peer how far our own writes go, so that it asks for what it lacks and answers with
    /// what it holds.
    pub(super) fn beacon(&mut self, to: OriginId) {
        if self.is_linked(to) {
            let payload = self.beacon_for(to, true);
            self.link_send(to, payload);
        } else {
            self.beacon_by_datagram(to);
        }
    }

    /// The same by datagram, whatever is known of that way.
    pub(super) fn beacon_by_datagram(&mut self, to: OriginId) {
        let payload = self.beacon_for(to, true);
        self.send_datagram(&[to], vec![payload]);
    }

    /// Names the run of a peer over its link: what follows there counts.
    pub(super) fn name_run(&mut self, to: OriginId) {
        let payload = self.beacon_for(to, false);
        self.link_send(to, payload);
    }

    fn beacon_for(&self, to: OriginId, reply: bool) -> Bytes {
        KvMessage::Digest(self.beacon_digest(self.me, reply).for_run(to)).encode()
    }

    /// How far we hold the writes of one origin.
    pub(super) fn beacon_payload(&self, of: OriginId, reply: bool) -> Bytes {
        KvMessage::Digest(self.beacon_digest(of, reply)).encode()
    }

    pub(super) fn beacon_digest(&self, of: OriginId, reply: bool) -> Digest {
        let is_mine = of == self.me;
        let through = if is_mine { self.store.last_seq() } else { self.known.contiguous(of) };
        Digest { reply, ..Digest::of_heads(self.me, vec![(of.0, through)]) }
    }

    /// Sends a datagram to a peer that gets none, at most now and then.
    pub(super) fn try_udp(&mut self, origin: OriginId) {
        let Some(peer) = self.peers.get_mut(origin) else { return };
        if peer.paths.tries_udp(self.now.instant, UDP_RETRY) {
            self.beacon_by_datagram(origin);
        }
    }

    /// Tries the ways that count as blocked: a datagram, a dial.
    pub(super) fn try_blocked(&mut self) {
        let at: Instant = self.now.instant;
        let is_blocked = |peer: &&Peer| peer.paths.udp_blocked || peer.paths.tcp_blocked;
        let blocked = self.peers.reachable().filter(is_blocked);
        let blocked: Vec<OriginId> = blocked.map(|peer| peer.info.origin).collect();
        for origin in blocked {
            self.try_udp(origin);
            let is_due = |peer: &Peer| peer.paths.tcp_blocked && !peer.paths.is_held(at);
            if self.peers.get(origin).is_some_and(is_due) {
                let payload = self.beacon_for(origin, true);
                self.link_send(origin, payload);
            }
        }
    }

    /// Draws peers to tell something: those that datagrams reach, and the others.
    pub(super) fn draw_few(&mut self, n: usize) -> (Vec<OriginId>, Vec<OriginId>) {
        let drawn = self.peers.draw(n, self.rng);
        drawn.into_iter().partition(|origin| !self.is_linked(*origin))
    }

    /// Some of those that get everything over links, beside the drawn.
    pub(super) fn linked(&self, drawn: &[OriginId]) -> Vec<OriginId> {
        let is_mute = self.unanswered.is_mute();
        let linked = self.peers.reachable();
        let linked = linked.filter(|peer| peer.paths.by_link(self.now.instant, is_mute));
        let linked = linked.map(|peer| peer.info.origin);
        linked.filter(|origin| !drawn.contains(origin)).take(LINKED_MAX).collect()
    }

    /// Sends the same to some peers over their links.
    pub(super) fn send_linked(&mut self, to: &[OriginId], payload: &Bytes) {
        for origin in to {
            self.link_send(*origin, payload.clone());
            self.try_udp(*origin);
        }
    }
}
