//! Acknowledgements owed for pushes: a moment later, so that one answers several.

use crate::kv::OriginId;
use crate::mutation::mutated;
use crate::node::io::ConnId;
use crate::node::replication::context::Context;
use crate::node::replication::facts::paths::Via;
use crate::node::replication::message::{Ack, KvMessage, Push};
use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a receiver waits for more before it acknowledges.
const ACK_DELAY: Duration = Duration::from_millis(4);

/// An acknowledgement owed. It goes each way that pushes came, so that both ways are known to work.
#[derive(Debug)]
struct Owed {
    due: Instant,
    datagram: bool,
    link: Option<ConnId>,
}

/// All of them, by whose writes they are about.
#[derive(Debug, Default)]
pub(in crate::node) struct Acks {
    owed: BTreeMap<OriginId, Owed>,
}

impl Acks {
    pub(in crate::node) fn deadline(&self) -> Instant {
        self.owed.values().map(|owed| owed.due).min().unwrap_or(Instant::NEVER)
    }

    /// A push of `from`'s own writes arrived: an acknowledgement is owed.
    pub(in crate::node) fn owe(&mut self, cx: &Context<'_>, push: &Push, via: Via) {
        if push.of != push.from || !(push.urgent || cx.is_direct()) {
            return;
        }
        let due = if push.urgent { cx.now.instant } else { cx.now.instant + ACK_DELAY };
        let from = OriginId(push.from);
        if cx.peers.get(from).is_some() {
            let owed = Owed { due, datagram: false, link: None };
            let owed = self.owed.entry(from).or_insert(owed);
            owed.due = due.min(owed.due);
            match via {
                Via::Link(conn) => owed.link = Some(conn),
                Via::Datagram | Via::Exchange => owed.datagram = true,
            }
        }
    }

    /// Sends those that are due.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.instant;
        let is_due = |(_, owed): &(&OriginId, &Owed)| owed.due <= now;
        while let Some((&of, _)) = self.owed.iter().find(is_due) {
            let Some(owed) = self.owed.remove(&of) else { return };
            let through = if mutated!(AckPastGap) {
                cx.known.highest(of).max(cx.known.contiguous(of))
            } else {
                cx.known.contiguous(of)
            };
            let ack = KvMessage::Ack(Ack {
                from: cx.me.0,
                of: of.0,
                through,
                #[cfg(feature = "next-format")]
                played: cx.played_field(),
            });
            if let Some(conn) = owed.link {
                cx.answer_via(of, Via::Link(conn), &ack);
            }
            if owed.datagram {
                cx.answer_via(of, Via::Datagram, &ack);
            }
        }
    }
}
