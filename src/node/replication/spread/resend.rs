//! Our own writes again: what peers have not acknowledged, and what they ask for.
//!
//! What stays unacknowledged is sent again, sooner or later by its round trip, and for a peer far
//! behind only a beacon goes out, from which it pulls.

use crate::kv::{OriginId, OwnLog};
use crate::limits::{LINK_CHUNK_LEN, WANTED_WRITES_MAX};
use crate::node::replication::context::{Context, FLUSH_DATAGRAMS};
use crate::node::replication::facts::batch::{
    Envelope, Settled, chunks, is_large, logged, pack, settle, single,
};
use crate::node::replication::facts::paths::Via;
use crate::node::replication::message::{Ranges, Want};
use crate::node::replication::spread::backlog;

/// Datagrams of one retransmission.
const RESEND_DATAGRAMS: usize = 8;
/// One in so many tries goes over the link, too, the second one first.
const LINK_TRIES: u32 = 3;
/// Unacknowledged writes beyond which a peer is told to pull instead.
const RESEND_WRITES: u64 = 512;

/// Sends again what peers have not acknowledged in time. `urgent` is that a client waits.
pub(in crate::node) fn due(cx: &mut Context<'_>, urgent: bool) {
    if !cx.is_direct() {
        return;
    }
    let due: Vec<OriginId> = cx
        .peers
        .reachable()
        .filter(|peer| peer.resend_at.is_some_and(|at| at <= cx.now.instant))
        .map(|peer| peer.info.origin)
        .collect();
    for origin in due {
        resend(cx, origin, urgent);
    }
}

fn resend(cx: &mut Context<'_>, origin: OriginId, urgent: bool) {
    let Some(peer) = cx.peers.get_mut(origin) else { return };
    let (acked, sent) = (peer.acked, peer.sent);
    if acked >= sent {
        peer.resend_at = None;
        return;
    }
    peer.tries += 1;
    peer.resend_at = Some(cx.now.instant + peer.rto());
    if peer.is_stalled() {
        peer.backlog = None;
    }
    let link_busy = peer.link.is_some_and(|conn| cx.links.in_flight_len(conn) > 0);
    if peer.backlog.is_some() || link_busy && peer.by_link.through > acked {
        if peer.is_stuck(cx.links, cx.now.instant) {
            // It may have from others what does not get through.
            cx.beacon_by_datagram(origin);
        }
        return;
    }
    if peer.is_stalled() || sent - acked > RESEND_WRITES {
        cx.counters.resends_total += 1;
        cx.beacon(origin);
        return;
    }
    let OwnLog::Keys(writes) = cx.store.own_log(acked, (sent - acked) as usize) else {
        cx.beacon(origin);
        return;
    };
    let (link, by_link, room) = (peer.link, peer.by_link, cx.room);
    let mut settled = settle(cx.store, writes);
    settled.retain(|item| !by_link.carries(cx.now.instant, link, &item.seqs, is_large(item, room)));
    if settled.is_empty() {
        return;
    }
    peer.sent_again();
    cx.counters.resends_total += 1;
    let envelope = Envelope { of: cx.me, from: cx.me, urgent };
    if peer.paths.by_link(cx.now.instant, cx.unanswered.is_mute()) {
        backlog::send_chunks(cx, &[origin], envelope, settled);
        cx.try_udp(origin);
        return;
    }
    peer.paths.try_in_vain();
    if peer.tries % LINK_TRIES == LINK_TRIES - 1
        && !link_busy
        && !peer.paths.is_held(cx.now.instant)
    {
        // Where datagrams do not arrive, the link may; without waiting whether it does.
        link_settled(cx, origin, envelope, settled.clone());
    }
    send_settled(cx, origin, envelope, settled, (RESEND_DATAGRAMS, !link_busy));
}

/// Somebody lacks writes that we said to hold. `urgent` is that a client waits for its own.
pub(in crate::node) fn wanted(cx: &mut Context<'_>, want: &Want, via: Via, urgent: bool) {
    let (asker, of) = (OriginId(want.from), OriginId(want.of));
    cx.heard_via(asker, via);
    let Some(peer) = cx.peers.get(asker) else { return };
    let link_busy = peer.link.is_some_and(|conn| cx.links.in_flight_len(conn) > 0);
    let follows = cx.is_direct() && peer.backlog.is_some();
    let link_sent = if follows { u64::MAX } else { peer.by_link.through };
    // What is under way on the link, or next on it, arrives without being sent twice.
    let ranges: Ranges = want
        .ranges
        .iter()
        .filter(|(start, _)| !(link_busy && of == cx.me && *start <= link_sent))
        .copied()
        .collect();
    let (writes, complete) = logged(cx.store, of, &ranges, WANTED_WRITES_MAX);
    cx.counters.wants_in_total += 1;
    if writes.is_empty() {
        if !complete {
            cx.beacon(asker);
        }
        return;
    }
    let settled = settle(cx.store, writes);
    let urgent = of == cx.me && urgent;
    let envelope = Envelope { of, from: cx.me, urgent };
    match via {
        // An asker whose link is slow asks again long before an answer has arrived, be it by link.
        Via::Link(conn) if cx.links.in_flight_len(conn) >= LINK_CHUNK_LEN => {}
        Via::Link(conn) if cx.links.is_open(conn) => {
            for items in chunks(settled) {
                if !cx.links.has_room(conn, LINK_CHUNK_LEN) {
                    break;
                }
                cx.answer(conn, single(envelope, items));
            }
        }
        // Likewise: what would go over the link waits for its turn.
        _ => {
            let limits = (FLUSH_DATAGRAMS, !link_busy);
            send_settled(cx, asker, envelope, settled, limits);
        }
    }
}

/// Sends records to one peer: datagrams up to a number, and the rest over the link if it may.
fn send_settled(
    cx: &mut Context<'_>,
    origin: OriginId,
    envelope: Envelope,
    settled: Vec<Settled>,
    (datagrams_max, may_link): (usize, bool),
) {
    let Some(peer) = cx.peers.get(origin) else { return };
    if peer.paths.by_link(cx.now.instant, cx.unanswered.is_mute()) {
        link_settled(cx, origin, envelope, settled);
        return;
    }
    let batches = pack(envelope, settled, cx.room);
    for (index, payload) in batches.payloads.into_iter().enumerate() {
        if index < datagrams_max {
            cx.send_datagram(&[origin], vec![payload]);
        } else if may_link {
            cx.link_send(origin, payload);
        }
    }
    for item in batches.large.into_iter().filter(|_| may_link) {
        cx.link_send(origin, single(envelope, vec![item]));
    }
}

/// Sends records over the link to a peer, as far as there is room; the rest is asked for again.
fn link_settled(cx: &mut Context<'_>, origin: OriginId, envelope: Envelope, settled: Vec<Settled>) {
    for items in chunks(settled) {
        if !cx.link_send(origin, single(envelope, items)) {
            return;
        }
    }
}
