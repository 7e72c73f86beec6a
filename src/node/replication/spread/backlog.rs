//! Writes that found a peer's window full: they follow from the log as it opens.
//!
//! ```text
//! flush --window full--> backlog = number before the first write not sent
//!                          | window open: a chunk from the log, as far as the last write
//!                          v
//!                        none again
//! ```
//!
//! A backlog is a number and costs no memory, however much it stands for. What the log has
//! forgotten meanwhile is left to a pull. Peers at the same number share the bytes.

use crate::kv::{OriginId, OwnLog};
use crate::limits::LINK_CHUNK_LEN;
use crate::node::links::Links;
use crate::node::replication::context::Context;
use crate::node::replication::facts::batch::{Envelope, Settled, Settler, chunks, single};
use crate::node::replication::facts::peers::{Peer, Peers};
use crate::wire::stream::Payload;

/// Chunks sent before other things have their turn.
const CHUNKS_AT_ONCE: usize = 8;
/// Keys taken from the log at once: few, because two may fill a chunk.
const LOOKED_UP: usize = 64;

/// What the log gives after a number.
enum Chunk {
    /// A push, if anything is left to send, and the number it reaches.
    Through(Option<Payload>, u64),
    Forgotten,
}

/// A peer that has a backlog and room for a chunk of it.
fn is_open(peer: &Peer, links: &Links) -> bool {
    let has_room = |conn| !links.is_open(conn) || links.has_room(conn, LINK_CHUNK_LEN);
    let is_able = !peer.is_stalled() && !peer.paths.tcp_blocked;
    peer.backlog.is_some() && is_able && peer.link.is_none_or(has_room)
}

/// Whether a backlog can go on now.
pub(in crate::node) fn is_due(peers: &Peers, links: &Links) -> bool {
    peers.reachable().any(|peer| is_open(peer, links))
}

/// Sends writes as chunks over the links. From the first chunk that finds no room on, the peer
/// has a backlog.
pub(in crate::node) fn send_chunks(
    cx: &mut Context<'_>,
    targets: &[OriginId],
    envelope: Envelope,
    settled: Vec<Settled>,
) {
    let is_held = |origin: &&OriginId| {
        cx.peers.get(**origin).is_some_and(|p| p.paths.is_held(cx.now.instant))
    };
    if !settled.is_empty() {
        // They ask others for what they hear of.
        for origin in targets.iter().filter(is_held).copied().collect::<Vec<_>>() {
            cx.beacon_by_datagram(origin);
        }
    }
    for items in chunks(settled) {
        if !send_chunk(cx, targets, envelope, items) {
            return;
        }
    }
}

/// False when nobody takes chunks any more.
fn send_chunk(
    cx: &mut Context<'_>,
    targets: &[OriginId],
    envelope: Envelope,
    items: Vec<Settled>,
) -> bool {
    let Some(first) = items.first().and_then(|item| item.seqs.first().copied()) else {
        return true;
    };
    let last = items.iter().filter_map(|item| item.seqs.last().copied()).max().unwrap_or(first);
    let takes = |origin: &OriginId| {
        let peer = cx.peers.get(*origin);
        peer.is_some_and(|peer| peer.backlog.is_none() && !peer.paths.is_held(cx.now.instant))
    };
    let takers: Vec<OriginId> = targets.iter().copied().filter(takes).collect();
    if takers.is_empty() {
        return false;
    }
    let payload = single(envelope, items);
    let mut taken = false;
    for origin in takers {
        let sent = cx.link_send(origin, payload.clone());
        taken |= sent;
        let Some(peer) = cx.peers.get_mut(origin) else { continue };
        if sent {
            peer.sent_by_link(cx.now.instant, first, last);
        } else {
            peer.backlog = Some(first - 1);
            cx.counters.window_full_total += 1;
        }
    }
    taken
}

/// Goes on with every backlog whose window has room, as far as `pushed`.
pub(in crate::node) fn due(cx: &mut Context<'_>, pushed: u64) {
    for _ in 0..CHUNKS_AT_ONCE {
        let open = cx.peers.reachable().filter(|peer| is_open(peer, cx.links));
        let Some(after) = open.filter_map(|peer| peer.backlog).min() else { return };
        let same = |peer: &&Peer| peer.backlog == Some(after) && is_open(peer, cx.links);
        let peers = cx.peers.reachable().filter(same);
        let targets: Vec<OriginId> = peers.map(|peer| peer.info.origin).collect();
        match chunk(cx, after, pushed) {
            Chunk::Through(payload, through) => {
                for origin in targets {
                    go_on(cx, origin, payload.clone(), (after, through, pushed));
                }
            }
            Chunk::Forgotten => {
                for origin in targets {
                    if let Some(peer) = cx.peers.get_mut(origin) {
                        peer.backlog = None;
                    }
                    cx.beacon(origin);
                }
            }
        }
    }
}

fn go_on(
    cx: &mut Context<'_>,
    origin: OriginId,
    payload: Option<Payload>,
    (after, through, pushed): (u64, u64, u64),
) {
    let sent = payload.is_none_or(|payload| cx.link_send(origin, payload));
    if let Some(peer) = cx.peers.get_mut(origin).filter(|_| sent) {
        peer.sent_by_link(cx.now.instant, after + 1, through);
        peer.backlog = (through < pushed).then_some(through);
    }
}

/// About a chunk of our writes after a number, as far as they have been flushed.
fn chunk(cx: &Context<'_>, after: u64, pushed: u64) -> Chunk {
    let (mut settler, mut through) = (Settler::default(), after);
    'full: while through < pushed {
        let limit = LOOKED_UP.min((pushed - through) as usize);
        let OwnLog::Keys(writes) = cx.store.own_log(through, limit) else {
            return Chunk::Forgotten;
        };
        if writes.is_empty() {
            break;
        }
        for (seq, key) in writes {
            if !settler.add(cx.store, seq, key, LINK_CHUNK_LEN) {
                break 'full;
            }
            through = seq;
        }
    }
    let items = settler.settled;
    let envelope = Envelope { of: cx.me, from: cx.me, urgent: false };
    Chunk::Through((!items.is_empty()).then(|| single(envelope, items)), through)
}
