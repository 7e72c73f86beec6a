//! Half-broken networks: by datagram, by link, or by way of others.
//!
//! ```text
//! datagrams in vain, its link answers --> all goes over the link --a datagram answered--> back
//! dials in vain, its datagrams come   --> nothing goes over links but a try now and then; what is
//!                                         too large for a datagram it asks others for
//! ```
//!
//! Membership sees blocked UDP too, by its probes; what it sees is taken over when it changes. A
//! node whose own datagrams reach nobody tells its digest over links: whoever hears that sends to
//! it over links for a while.
//!
//! What comes over a link is answered on it alone, what comes by datagram by datagram, too. So an
//! answer by datagram shows that both ways of UDP work.

use super::context::Context;
use super::message::Digest;
use super::peers::Peer;
use crate::kv::OriginId;
use crate::node::io::{ConnId, Note};
use crate::node::links::Links;
use crate::time::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// Tries by datagram in vain, in a row, after which an answer over the link settles it. Heavy loss
/// comes to so many once in a thousand writes, and then costs a link's way for a moment.
const VAIN_MAX: u32 = 10;
/// How long one who asks for links gets them.
const ASKED_FOR: Duration = Duration::from_secs(10);
/// A digest of so many bytes needs no link: one that comes over it all the same asks for links.
const SMALL_LEN: usize = 1000;
/// Dials in vain while datagrams come, after which TCP counts as blocked.
const DIALS_MAX: u32 = 2;
/// Time between two dials to such a peer.
const DIAL_RETRY: Duration = Duration::from_secs(5);
/// How long a link with bytes under way may stand still before its peer is told to ask others.
const STUCK: Duration = Duration::from_millis(200);

/// Which way something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    Datagram,
    Link(ConnId),
    /// As the user state of a push-pull.
    Exchange,
}

/// What is known of the ways to one peer.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Tries by datagram without an answer by datagram, in a row.
    n_vain: u32,
    pub(super) udp_blocked: bool,
    udp_tried: Instant,
    /// Until when it has asked for links.
    asked_until: Instant,
    /// When a datagram came from it last.
    heard: Option<Instant>,
    /// Dials in vain in a row, and when the first of them was given up.
    n_dials: u32,
    dial_failed: Instant,
    pub(super) tcp_blocked: bool,
    next_dial: Instant,
}

impl Paths {
    /// Whether small things, too, go over the link; `is_mute` when our own datagrams seem to reach
    /// nobody.
    pub(super) fn by_link(&self, now: Instant, is_mute: bool) -> bool {
        (self.udp_blocked || is_mute || now < self.asked_until) && !self.tcp_blocked
    }

    /// A datagram came from it.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// Whether it gets no datagrams, and the last one that tried was at least `wait` ago; notes
    /// that one tries now.
    pub(super) fn tries_udp(&mut self, now: Instant, wait: Duration) -> bool {
        let tries = self.udp_blocked && now.since(self.udp_tried) >= wait;
        if tries {
            self.udp_tried = now;
        }
        tries
    }

    /// Whether nothing may be dialled now.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.tcp_blocked && now < self.next_dial
    }

    /// Whether a dial to it has failed, and none succeeded since.
    pub(super) fn is_doubtful(&self) -> bool {
        self.n_dials > 0
    }

    /// Something goes out by datagram once more.
    pub(super) fn try_in_vain(&mut self) {
        self.n_vain = self.n_vain.saturating_add(1);
    }

    /// What went to it by datagram was answered by datagram.
    fn answered_by_datagram(&mut self) {
        (self.n_vain, self.udp_blocked) = (0, false);
    }

    /// What had gone to it by datagram in vain was answered over the link.
    fn answered_by_link(&mut self) {
        self.udp_blocked |= self.n_vain >= VAIN_MAX;
    }

    /// A dial begins: while TCP counts as blocked, the next one has to wait.
    pub(super) fn dialling(&mut self, now: Instant) {
        self.next_dial = now + DIAL_RETRY;
    }

    /// Membership has changed its mind.
    pub(super) fn probed(&mut self, udp_blocked: bool) {
        (self.n_vain, self.udp_blocked) = (0, udp_blocked);
    }
}

/// Digests by datagram, to whomever, in a row that were not answered by datagram.
#[derive(Debug, Default)]
pub(super) struct Unanswered(u32);

impl Unanswered {
    /// One more.
    pub(super) fn told(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// Whether our own datagrams seem to reach nobody, or no answer us.
    pub(super) fn is_mute(&self) -> bool {
        self.0 >= UNANSWERED_MAX
    }
}

/// After so many of them all goes over links. Where a quarter of all packets is lost, that happens
/// every few minutes, and lasts until the next digest is answered.
const UNANSWERED_MAX: u32 = 6;

/// An acknowledgement came; `is_news` when it was one of more than before.
pub(super) fn ack_came(cx: &mut Context<'_>, from: OriginId, via: Via, is_news: bool) {
    let Some(peer) = cx.peers.get_mut(from) else { return };
    match via {
        Via::Datagram => peer.paths.answered_by_datagram(),
        Via::Link(_) if is_news => peer.paths.answered_by_link(),
        Via::Link(_) | Via::Exchange => {}
    }
}

/// A digest came that may be an answer, or ask for links.
pub(super) fn digest_came(cx: &mut Context<'_>, digest: &Digest, via: Via, len: usize) {
    let from = OriginId(digest.from);
    // With many members offers look like the answer to a beacon.
    let is_answer = !digest.reply && (digest.whole || cx.is_direct());
    let Some(peer) = cx.peers.get_mut(from) else { return };
    match via {
        Via::Datagram if is_answer => {
            peer.paths.answered_by_datagram();
            *cx.unanswered = Unanswered(0);
        }
        // Not an answer: that only goes the way it was asked for.
        Via::Link(conn) if is_theirs(conn) && digest.whole && digest.reply && len < SMALL_LEN => {
            peer.paths.asked_until = cx.now.instant + ASKED_FOR;
        }
        Via::Datagram | Via::Link(_) | Via::Exchange => {}
    }
}

/// A dial to a peer has come to nothing.
fn dial_failed(cx: &mut Context<'_>, origin: OriginId) {
    let Some(peer) = cx.peers.get_mut(origin) else { return };
    let paths = &mut peer.paths;
    cx.counters.dials_failed_total += 1;
    if paths.n_dials == 0 {
        paths.dial_failed = cx.now.instant;
    }
    paths.n_dials = paths.n_dials.saturating_add(1);
    paths.next_dial = cx.now.instant + DIAL_RETRY;
    let answers = paths.heard.is_some_and(|heard| heard >= paths.dial_failed);
    if answers && paths.n_dials >= DIALS_MAX && !paths.tcp_blocked {
        paths.tcp_blocked = true;
        peer.backlog = None;
        let (name, addr) = (peer.info.name.clone(), peer.info.addr);
        cx.note(Note::TcpBlocked { name, addr });
    }
    // What it was to get that way it can have from others.
    if answers {
        cx.beacon_by_datagram(origin);
    }
}

/// A frame handed to a link has been written.
pub(super) fn written(cx: &mut Context<'_>, conn: ConnId, len: usize) {
    if let Some(origin) = cx.links.written(cx.now.instant, conn, len) {
        dialled(cx, origin);
    }
}

/// A link has ended.
pub(super) fn closed(cx: &mut Context<'_>, conn: ConnId) {
    let Some(link) = cx.links.closed(conn) else { return };
    let Some(origin) = link.peer else { return };
    if let Some(peer) = cx.peers.get_mut(origin)
        && peer.link == Some(conn)
    {
        peer.link = None;
    }
    if !link.connected {
        dial_failed(cx, origin);
    }
}

/// A connection to a peer has been made.
fn dialled(cx: &mut Context<'_>, origin: OriginId) {
    let Some(peer) = cx.peers.get_mut(origin) else { return };
    peer.paths.n_dials = 0;
    if std::mem::take(&mut peer.paths.tcp_blocked) {
        let name = peer.info.name.clone();
        cx.note(Note::TcpOpen { name });
    }
}

/// An exchange of membership's with whoever gossips there ended; `connected` says whether there
/// was a connection.
pub(super) fn exchanged(cx: &mut Context<'_>, addr: SocketAddr, connected: bool) {
    let here = cx.peers.reachable().filter(|peer| peer.info.addr == addr);
    for origin in here.map(|peer| peer.info.origin).collect::<Vec<_>>() {
        if connected {
            dialled(cx, origin);
        } else {
            dial_failed(cx, origin);
        }
    }
}

/// Whether the other end dialled: the node counts with even numbers.
fn is_theirs(conn: ConnId) -> bool {
    !conn.0.is_multiple_of(2)
}

/// Whether a link has bytes under way and has not moved for a while.
pub(super) fn is_stuck(peer: &Peer, links: &Links, now: Instant) -> bool {
    peer.link.is_some_and(|conn| {
        links.in_flight_len(conn) > 0 && now.since(links.moved_at(conn)) >= STUCK
    })
}
