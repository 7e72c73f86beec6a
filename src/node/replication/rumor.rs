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

use super::Replication;
use super::batch::{Envelope, Settled, pack};
use crate::kv::OriginId;
use crate::limits::{RUMORS_LEN_MAX, RUMORS_MAX};
use crate::time::{Instant, Now};
use crate::wire::packet::PART_OVERHEAD;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Peers told at once, and at each tick.
pub(super) const FANOUT: usize = 4;
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
pub(super) struct Rumors {
    rumors: VecDeque<Rumor>,
    len: usize,
    next_tick: Option<Instant>,
    pub(super) dropped_total: u64,
    pub(super) sends_total: u64,
}

impl Rumors {
    pub(super) fn deadline(&self) -> Instant {
        self.next_tick.unwrap_or(Instant::NEVER)
    }

    pub(super) fn n_waiting(&self) -> usize {
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

impl Replication {
    /// Spreads writes of ours. Values too large for a datagram are offered.
    pub(super) fn spread(&mut self, now: Now, envelope: Envelope, settled: Vec<Settled>) {
        let batches = pack(envelope, settled, self.shared.room);
        for payload in batches.payloads {
            self.pass_on(now, payload);
        }
        if !batches.large.is_empty() {
            self.offer(now, self.shared.me);
        }
    }

    /// Tells a few peers now and bears the rumor on.
    pub(super) fn pass_on(&mut self, now: Now, payload: Bytes) {
        self.tell_few(now, &payload);
        self.bear(now, payload, None, FANOUT);
    }

    /// Bears as a rumor how far we hold `of`'s writes. Of many offers in a row the first is told
    /// now; the later ones take its place and wait for the tick.
    pub(super) fn offer(&mut self, now: Now, of: OriginId) {
        let payload = self.cx(now).beacon_payload(of, false);
        let told = if self.rumors.withdraw(of) {
            0
        } else {
            self.tell_few(now, &payload);
            FANOUT
        };
        self.bear(now, payload, Some(of), told);
    }

    fn tell_few(&mut self, now: Now, payload: &Bytes) {
        let (to, mut linked) = self.cx(now).draw_few(FANOUT);
        linked.extend(self.cx(now).linked(&linked));
        self.rumors.sends_total += (to.len() + linked.len()) as u64;
        self.cx(now).send_datagram(&to, vec![payload.clone()]);
        self.cx(now).send_linked(&linked, payload);
    }

    fn bear(&mut self, now: Now, payload: Bytes, offers: Option<OriginId>, told: usize) {
        let sends_left = sends_limit(self.shared.peers.n_reachable() + 1).saturating_sub(told);
        self.rumors.push(now.instant, Rumor { payload, sends_left, offers });
    }

    pub(super) fn rumors_due(&mut self, now: Now) {
        if self.rumors.next_tick.is_none_or(|at| at > now.instant) {
            return;
        }
        let (to, linked) = self.cx(now).draw_few(FANOUT);
        let n_told = to.len() + linked.len();
        let mut datagrams: Vec<Vec<Bytes>> = Vec::new();
        let mut open_len = usize::MAX;
        let mut kept = VecDeque::new();
        while let Some(mut rumor) = self.rumors.rumors.pop_back() {
            let len = rumor.payload.len() + 1 + PART_OVERHEAD;
            if open_len.saturating_add(len) > self.shared.room + 1 + PART_OVERHEAD {
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
            self.rumors.sends_total += n_told as u64;
            rumor.sends_left = rumor.sends_left.saturating_sub(n_told.max(1));
            if rumor.sends_left > 0 {
                kept.push_front(rumor);
            } else {
                self.rumors.len -= rumor.payload.len();
            }
        }
        self.rumors.rumors = kept;
        self.rumors.next_tick = (!self.rumors.rumors.is_empty()).then(|| now.instant + TICK);
        for payloads in datagrams {
            payloads.iter().for_each(|payload| self.cx(now).send_linked(&linked, payload));
            self.cx(now).send_datagram(&to, payloads);
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
