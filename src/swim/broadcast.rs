//! The queue of rumors: each is sent a limited number of times, the least told first.
//!
//! ```text
//! order:  fewest transmits  |  then longest  |  then newest       (front .. back)
//!         tier 0: [ 90 B #7 ] [ 60 B #9 ] [ 60 B #4 ]   tier 1: [ 80 B #2 ] ...
//! take:   in each tier the longest that still fits, then the next tier
//! full:   the back is dropped: most transmitted, shortest, oldest
//! ```
//!
//! There is at most one rumor about a member: a newer one replaces it.

use crate::limits::BROADCASTS_MAX;
use crate::wire::message::NodeName;
use crate::wire::packet::PART_OVERHEAD;
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Where a rumor stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    transmits: u32,
    len: Reverse<usize>,
    id: Reverse<u64>,
}

#[derive(Debug)]
struct Broadcast {
    subject: NodeName,
    message: Bytes,
    /// Whether its end is to be told (our leave).
    awaited: bool,
}

/// Rumors waiting to ride on packets. At most [`BROADCASTS_MAX`].
#[derive(Debug, Default)]
pub struct BroadcastQueue {
    order: BTreeMap<Rank, Broadcast>,
    by_subject: BTreeMap<NodeName, Rank>,
    next_id: u64,
    awaited_ended: bool,
    dropped_total: u64,
}

impl BroadcastQueue {
    /// Queues the encoded `message` about `subject` in place of what was queued about it. When
    /// `awaited`, [`BroadcastQueue::take_awaited_end`] will tell when it has been told often
    /// enough, or was replaced or dropped.
    pub fn queue(&mut self, subject: NodeName, message: Bytes, awaited: bool) {
        if let Some(older) = self.by_subject.get(&subject).and_then(|rank| self.order.remove(rank))
        {
            self.awaited_ended |= older.awaited;
        }
        if self.order.len() >= BROADCASTS_MAX {
            self.drop_last();
        }
        self.next_id += 1;
        let rank = Rank { transmits: 0, len: Reverse(message.len()), id: Reverse(self.next_id) };
        self.insert(rank, Broadcast { subject, message, awaited });
    }

    /// Takes at most `parts_max` rumors which with [`PART_OVERHEAD`] each fit in `room` bytes,
    /// and counts a transmit for each. At `transmits_max` of them a rumor has been told often
    /// enough.
    pub fn take(&mut self, room: usize, parts_max: usize, transmits_max: u32) -> Vec<Bytes> {
        let mut room = room;
        let mut tier = 0;
        let mut taken = Vec::new();
        let mut again = Vec::new();
        while taken.len() < parts_max && room > PART_OVERHEAD {
            let longest = room - PART_OVERHEAD;
            let from = Rank { transmits: tier, len: Reverse(longest), id: Reverse(u64::MAX) };
            let Some((&rank, _)) = self.order.range(from..).next() else { break };
            if rank.transmits > tier {
                tier = rank.transmits;
                continue;
            }
            let Some(broadcast) = self.order.remove(&rank) else { break };
            room -= PART_OVERHEAD + broadcast.message.len();
            taken.push(broadcast.message.clone());
            again.push((rank, broadcast));
        }
        for (rank, broadcast) in again {
            let transmits = rank.transmits + 1;
            if transmits < transmits_max {
                self.insert(Rank { transmits, ..rank }, broadcast);
            } else {
                self.by_subject.remove(&broadcast.subject);
                self.awaited_ended |= broadcast.awaited;
            }
        }
        taken
    }

    /// Whether a rumor about this member waits.
    pub(super) fn tells_of(&self, subject: &NodeName) -> bool {
        self.by_subject.contains_key(subject)
    }

    /// True once after an awaited rumor ended.
    pub fn take_awaited_end(&mut self) -> bool {
        std::mem::take(&mut self.awaited_ended)
    }

    /// Rumors waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Rumors dropped because the queue was full.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    fn insert(&mut self, rank: Rank, broadcast: Broadcast) {
        self.by_subject.insert(broadcast.subject.clone(), rank);
        self.order.insert(rank, broadcast);
    }

    fn drop_last(&mut self) {
        if let Some((_, last)) = self.order.pop_last() {
            self.by_subject.remove(&last.subject);
            self.awaited_ended |= last.awaited;
            self.dropped_total += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize, byte: u8) -> Bytes {
        vec![byte; len].into()
    }

    fn queue(rumors: &[(&str, usize)]) -> BroadcastQueue {
        let mut queue = BroadcastQueue::default();
        for &(subject, len) in rumors {
            queue.queue(subject.into(), message(len, subject.as_bytes()[0]), false);
        }
        queue
    }

    /// The subjects' initials of what one packet takes.
    fn taken(queue: &mut BroadcastQueue, room: usize, transmits_max: u32) -> String {
        let parts = queue.take(room, 255, transmits_max);
        assert!(parts.iter().map(|part| part.len() + PART_OVERHEAD).sum::<usize>() <= room);
        parts.iter().map(|part| char::from(part[0])).collect()
    }

    #[test]
    fn longest_first_then_newest() {
        let mut queue = queue(&[("a", 10), ("b", 30), ("c", 10), ("d", 20)]);
        assert_eq!(taken(&mut queue, 1000, 4), "bdca");
    }

    #[test]
    fn what_does_not_fit_gives_way_to_what_does() {
        let mut queue = queue(&[("a", 10), ("b", 30), ("c", 20)]);
        assert_eq!(taken(&mut queue, 36, 4), "b");
        assert_eq!(taken(&mut queue, 36, 4), "ca");
        assert_eq!(taken(&mut queue, 36, 4), "b", "all in tier 1: the longest again");
        assert_eq!(taken(&mut queue, 24, 4), "c", "tier 1 before tier 2");
        assert_eq!(taken(&mut queue, 2, 4), "");
    }

    #[test]
    fn the_untold_go_before_the_told() {
        let mut queue = queue(&[("b", 30)]);
        assert_eq!(taken(&mut queue, 1000, 4), "b");
        queue.queue("a".into(), message(10, b'a'), false);
        assert_eq!(taken(&mut queue, 1000, 4), "ab");
    }

    #[test]
    fn told_often_enough_it_goes() {
        let mut queue = queue(&[("a", 10), ("b", 10)]);
        for _ in 0..4 {
            assert_eq!(taken(&mut queue, 1000, 4), "ba");
        }
        assert!(queue.is_empty());
        assert!(queue.by_subject.is_empty());
    }

    #[test]
    fn a_newer_rumor_about_the_same_member_replaces_the_older() {
        let mut queue = queue(&[("a", 10), ("b", 10)]);
        assert_eq!(taken(&mut queue, 1000, 4), "ba");
        queue.queue("a".into(), message(5, b'A'), false);
        assert_eq!(queue.len(), 2);
        assert_eq!(taken(&mut queue, 1000, 4), "Ab");
    }

    #[test]
    fn an_awaited_rumor_tells_its_end() {
        let mut queue = queue(&[]);
        queue.queue("a".into(), message(5, b'a'), true);
        taken(&mut queue, 1000, 2);
        assert!(!queue.take_awaited_end());
        taken(&mut queue, 1000, 2);
        assert!(queue.take_awaited_end());
        assert!(!queue.take_awaited_end());

        queue.queue("a".into(), message(5, b'a'), true);
        queue.queue("a".into(), message(5, b'a'), false);
        assert!(queue.take_awaited_end(), "replaced");
    }

    #[test]
    fn at_most_so_many_parts() {
        let mut queue = queue(&[("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(queue.take(1000, 2, 4).len(), 2);
    }

    #[test]
    fn a_full_queue_drops_the_most_transmitted() {
        let mut queue = queue(&[("told", 10)]);
        taken(&mut queue, 1000, 4);
        for n in 0..BROADCASTS_MAX {
            queue.queue(NodeName::from(&n.to_be_bytes()[..]), message(5, 0), false);
        }
        assert_eq!((queue.len(), queue.dropped_total()), (BROADCASTS_MAX, 1));
        assert!(!queue.by_subject.contains_key(&NodeName::from("told")));
    }
}
