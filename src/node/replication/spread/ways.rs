//! The ways to a peer, as they turn out: what came by which, what was dialled in vain.
//!
//! `facts/paths.rs` says what is known of them, and what follows from it.

use crate::kv::OriginId;
use crate::node::io::{ConnId, Note};
use crate::node::replication::context::Context;
use crate::node::replication::facts::paths::{DIAL_RETRY, Via};
use crate::node::replication::message::Digest;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one who asks for links gets them.
const ASKED_FOR: Duration = Duration::from_secs(10);
/// A digest of so many bytes needs no link: one that comes over it all the same asks for links.
const SMALL_LEN: usize = 1000;
/// Dials in vain while datagrams come, after which TCP counts as blocked.
const DIALS_MAX: u32 = 2;

/// An acknowledgement came; `is_news` when it was one of more than before.
pub(in crate::node) fn ack_came(cx: &mut Context<'_>, from: OriginId, via: Via, is_news: bool) {
    let Some(peer) = cx.peers.get_mut(from) else { return };
    match via {
        Via::Datagram => peer.paths.answered_by_datagram(),
        Via::Link(_) if is_news => peer.paths.answered_by_link(),
        Via::Link(_) | Via::Exchange => {}
    }
}

/// A digest came that may be an answer, or ask for links.
pub(in crate::node) fn digest_came(cx: &mut Context<'_>, digest: &Digest, via: Via, len: usize) {
    let from = OriginId(digest.from);
    // With many members offers look like the answer to a beacon.
    let is_answer = !digest.reply && (digest.whole || cx.is_direct());
    let Some(peer) = cx.peers.get_mut(from) else { return };
    match via {
        Via::Datagram if is_answer => {
            peer.paths.answered_by_datagram();
            cx.unanswered.answered();
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
pub(in crate::node) fn written(cx: &mut Context<'_>, conn: ConnId, len: usize) {
    if let Some(origin) = cx.links.written(cx.now.instant, conn, len) {
        dialled(cx, origin);
    }
}

/// A link has ended.
pub(in crate::node) fn closed(cx: &mut Context<'_>, conn: ConnId) {
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
pub(in crate::node) fn exchanged(cx: &mut Context<'_>, addr: SocketAddr, connected: bool) {
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
