//! Many members: a write spreads as a rumor.
//!
//! Its writer sends it to a few random peers at once; whoever learns something new from it does
//! the same, and every bearer repeats it at each tick until its limit. With n members each sends
//! `max(8, 4 * ceil(log10(n + 1)))` times: memberlist's own four times at n <= 9 would leave 11 %
//! of rumors incomplete. What a rumor misses the vector shows, and gaps are asked for.
//!
//! A value too large for a datagram is offered instead: the rumor tells how far its bearer holds
//! the writer's writes, and whoever holds less asks the bearer, gets the value over a link, and
//! bears an offer of its own. So nobody sends a large value to more than a few.

use crate::kv::OriginId;
use crate::limits::{DATAGRAM_LEN_MAX, RUMORS_LEN_MAX, RUMORS_MAX};
use crate::node::replication::context::{Context, FANOUT};
use crate::node::replication::facts::batch::{Envelope, Settled, pack};
use crate::node::replication::facts::paths::Via;
use crate::time::Instant;
use crate::wire::packet::PART_OVERHEAD;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(50);
/// Datagrams to one peer in one tick.
const TICK_DATAGRAMS: usize = 16;

#[derive(Debug)]
struct Rumor {
    payload: Bytes,
    sends_left: usize,
    /// Whose writes it offers, when it does.
    offers: Option<OriginId>,
}

/// The rumors we bear, least told last.
#[derive(Debug, Default)]
pub(in crate::node) struct Rumors {
    rumors: VecDeque<Rumor>,
    len: usize,
    next_tick: Option<Instant>,
    pub(in crate::node) dropped_total: u64,
    pub(in crate::node) sends_total: u64,
}

impl Rumors {
    pub(in crate::node) fn deadline(&self) -> Instant {
        self.next_tick.unwrap_or(Instant::NEVER)
    }

    pub(in crate::node) fn n_waiting(&self) -> usize {
        self.rumors.len()
    }

    /// Full means the oldest, most told rumor goes; the vector still shows what it carried.
    fn push(&mut self, now: Instant, rumor: Rumor) {
        self.len += rumor.payload.len();
        self.rumors.push_back(rumor);
        while self.rumors.len() > RUMORS_MAX || self.len > RUMORS_LEN_MAX {
            if let Some(old) = self.rumors.pop_front() {
                self.len -= old.payload.len();
                self.dropped_total += 1;
            }
        }
        if self.next_tick.is_none() {
            self.next_tick = Some(now + TICK);
        }
    }

    /// Forgets the offer of `of`'s writes; whether there was one.
    fn withdraw(&mut self, of: OriginId) -> bool {
        let Some(index) = self.rumors.iter().position(|rumor| rumor.offers == Some(of)) else {
            return false;
        };
        if let Some(rumor) = self.rumors.remove(index) {
            self.len -= rumor.payload.len();
        }
        true
    }
}

/// How often each bearer sends a rumor among `n` members.
fn sends_limit(n: usize) -> usize {
    // ceil(log10(n + 1)): the number of decimal digits of n.
    let digits = n.checked_ilog10().map_or(0, |log| log as usize + 1);
    (4 * digits).max(8)
}

impl Rumors {
    /// Spreads writes of ours. Values too large for a datagram are offered.
    pub(in crate::node) fn spread(
        &mut self,
        cx: &mut Context<'_>,
        envelope: Envelope,
        settled: Vec<Settled>,
    ) {
        let batches = pack(envelope, settled, cx.room);
        for payload in batches.payloads {
            self.pass_on(cx, payload);
        }
        if !batches.large.is_empty() {
            let me = cx.me;
            self.offer(cx, me);
        }
    }

    /// Tells a few peers now and bears the rumor on.
    fn pass_on(&mut self, cx: &mut Context<'_>, payload: Bytes) {
        self.tell_few(cx, &payload);
        self.bear(cx, payload, None, FANOUT);
    }

    /// A push with news came this way: it becomes a rumor, or an offer.
    pub(in crate::node) fn came(
        &mut self,
        cx: &mut Context<'_>,
        payload: &Bytes,
        of: OriginId,
        via: Via,
    ) {
        if cx.is_direct() {
            return;
        }
        let is_small = via == Via::Datagram && payload.len() <= DATAGRAM_LEN_MAX;
        if is_small || payload.len() <= cx.room {
            // Its own bytes: a slice would keep all that it was decompressed with.
            self.pass_on(cx, Bytes::copy_from_slice(payload));
        } else if via != Via::Datagram {
            // What no datagram of a gossiping node could have held is not made a rumor.
            self.offer(cx, of);
        }
    }

    /// Bears as a rumor how far we hold `of`'s writes. Of many offers in a row the first is told
    /// now; the later ones take its place and wait for the tick.
    fn offer(&mut self, cx: &mut Context<'_>, of: OriginId) {
        let payload = cx.beacon_payload(of, false);
        let told = if self.withdraw(of) {
            0
        } else {
            self.tell_few(cx, &payload);
            FANOUT
        };
        self.bear(cx, payload, Some(of), told);
    }

    fn tell_few(&mut self, cx: &mut Context<'_>, payload: &Bytes) {
        let (to, mut linked) = cx.draw_few(FANOUT);
        linked.extend(cx.linked(&linked));
        self.sends_total += (to.len() + linked.len()) as u64;
        cx.send_datagram(&to, vec![payload.clone()]);
        cx.send_linked(&linked, payload);
    }

    fn bear(
        &mut self,
        cx: &mut Context<'_>,
        payload: Bytes,
        offers: Option<OriginId>,
        told: usize,
    ) {
        let sends_left = sends_limit(cx.peers.n_reachable() + 1).saturating_sub(told);
        self.push(cx.now.instant, Rumor { payload, sends_left, offers });
    }

    /// Tells a few peers what is borne, at each tick.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) {
        if self.next_tick.is_none_or(|at| at > cx.now.instant) {
            return;
        }
        let (to, linked) = cx.draw_few(FANOUT);
        let n_told = to.len() + linked.len();
        let mut datagrams: Vec<Vec<Bytes>> = Vec::new();
        let mut open_len = usize::MAX;
        let mut kept = VecDeque::new();
        while let Some(mut rumor) = self.rumors.pop_back() {
            let len = rumor.payload.len() + 1 + PART_OVERHEAD;
            if open_len.saturating_add(len) > cx.room + 1 + PART_OVERHEAD {
                if datagrams.len() >= TICK_DATAGRAMS {
                    kept.push_front(rumor);
                    continue;
                }
                datagrams.push(Vec::new());
                open_len = 0;
            }
            open_len += len;
            if let Some(open) = datagrams.last_mut() {
                open.push(rumor.payload.clone());
            }
            self.sends_total += n_told as u64;
            rumor.sends_left = rumor.sends_left.saturating_sub(n_told.max(1));
            if rumor.sends_left > 0 {
                kept.push_front(rumor);
            } else {
                self.len -= rumor.payload.len();
            }
        }
        self.rumors = kept;
        self.next_tick = (!self.rumors.is_empty()).then(|| cx.now.instant + TICK);
        for payloads in datagrams {
            payloads.iter().for_each(|payload| cx.send_linked(&linked, payload));
            cx.send_datagram(&to, payloads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_does_not_leak_in_small_clusters() {
        let limits: Vec<usize> = [1, 9, 11, 99, 100, 999, 1000].map(sends_limit).to_vec();
        assert_eq!(limits, [8, 8, 8, 8, 12, 12, 16]);
    }
}
