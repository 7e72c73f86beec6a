//! Our own writes, out to the others: at once when idle, coalesced under load.
//!
//! With few peers every write goes straight to each of them and each acknowledges. With many peers
//! writes become rumors.

use crate::kv::{OriginId, OwnLog};
use crate::mutation::mutated;
use crate::node::links::Links;
use crate::node::replication::context::{Context, FLUSH_DATAGRAMS};
use crate::node::replication::facts::batch::{Envelope, Settled, pack, settle};
use crate::node::replication::facts::peers::{Peer, Peers};
use crate::node::replication::next::Next;
use crate::node::replication::spread::backlog;
use crate::time::Instant;
use std::time::Duration;

/// Least time between two flushes: under load datagrams fill, when idle nothing waits. A client
/// that writes one key after the other feels all of it; much less would fill no datagram.
pub const COALESCE: Duration = Duration::from_micros(250);
/// Writes taken from the log at once.
const FLUSH_WRITES: usize = 4096;

/// What has gone out.
#[derive(Debug, Default)]
pub(in crate::node) struct Pusher {
    /// Our writes sent for the first time.
    pub(in crate::node) pushed: u64,
    /// Earliest next flush.
    next_flush: Instant,
    /// When to flush what waits.
    flush_at: Option<Instant>,
}

impl Pusher {
    /// Only where writes go straight to every peer they are sent again.
    pub(in crate::node) fn deadline(&self, peers: &Peers, links: &Links) -> Instant {
        let direct = peers.are_few();
        if direct && backlog::is_due(peers, links) {
            return Instant::ZERO;
        }
        let again = (direct || mutated!(Spin)).then(|| peers.reachable());
        let resend = again.into_iter().flatten().filter_map(|peer| peer.resend_at).min();
        [self.flush_at, resend].into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }
}

impl Pusher {
    /// The store holds new writes of ours. Whether to flush now; else they wait for their time.
    pub(in crate::node) fn written(&mut self, now: Instant, urgent: bool) -> bool {
        let is_now = urgent || now >= self.next_flush;
        if !is_now {
            self.flush_at = Some(self.next_flush);
        }
        is_now
    }

    /// Whether to flush what waits.
    pub(in crate::node) fn is_due(&self, now: Instant) -> bool {
        self.flush_at.is_some_and(|at| at <= now)
    }

    /// Sends writes not sent yet, so many a turn.
    pub(in crate::node) fn flush(&mut self, cx: &mut Context<'_>, urgent: bool) -> Option<Next> {
        self.flush_at = None;
        if cx.peers.n_reachable() == 0 {
            self.pushed = cx.store.last_seq();
            return None;
        }
        let writes = loop {
            match cx.store.own_log(self.pushed, FLUSH_WRITES) {
                OwnLog::Keys(writes) if writes.is_empty() => return None,
                OwnLog::Keys(writes) => break writes,
                OwnLog::Forgotten { first } => {
                    // Overtaken by the log's bound: peers see the gap and pull.
                    self.pushed = first.saturating_sub(1).max(self.pushed + 1);
                }
            }
        };
        // Writers faster than this must not keep the node from everything else: the rest follows.
        self.flush_at = (writes.len() >= FLUSH_WRITES).then_some(cx.now.instant);
        self.pushed = writes.last().map_or(self.pushed, |(seq, _)| *seq);
        let settled = settle(cx.store, writes);
        self.next_flush = cx.now.instant + COALESCE;
        self.first_send(cx, settled, urgent)
    }

    fn first_send(
        &mut self,
        cx: &mut Context<'_>,
        settled: Vec<Settled>,
        urgent: bool,
    ) -> Option<Next> {
        let envelope = Envelope { of: cx.me, from: cx.me, urgent };
        if !cx.is_direct() {
            return Some(Next::Spread(envelope, settled));
        }
        let len: usize = settled.iter().map(|item| item.record.as_bytes().len()).sum();
        let is_bulk = len > FLUSH_DATAGRAMS * cx.room;
        let answering = cx.peers.reachable().filter(|peer| !peer.is_stalled());
        let (linked, others): (Vec<&Peer>, Vec<&Peer>) = answering.partition(|peer| {
            peer.paths.by_link(cx.now.instant, cx.unanswered.is_mute())
                || is_bulk && !peer.paths.is_held(cx.now.instant)
        });
        let linked: Vec<OriginId> = linked.iter().map(|peer| peer.info.origin).collect();
        let others: Vec<OriginId> = others.iter().map(|peer| peer.info.origin).collect();
        if !linked.is_empty() {
            backlog::send_chunks(cx, &linked, envelope, settled.clone());
            linked.iter().for_each(|origin| cx.try_udp(*origin));
        }
        if !others.is_empty() {
            let batches = pack(envelope, settled, cx.room);
            for payload in batches.payloads.into_iter().take(FLUSH_DATAGRAMS) {
                cx.send_datagram(&others, vec![payload]);
            }
            backlog::send_chunks(cx, &others, envelope, batches.large);
        }
        let pushed = self.pushed;
        for origin in linked.into_iter().chain(others) {
            if let Some(peer) = cx.peers.get_mut(origin) {
                peer.sent_through(cx.now.instant, pushed);
            }
        }
        None
    }
}
