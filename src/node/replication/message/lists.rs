//! The lists in heads of replication messages, bounded while they are read.
//!
//! An element of one byte on the wire may take dozens in memory, so a bound on the bytes of a head
//! bounds too little: every list ends at a count of its own, no room is taken ahead on the word of
//! its length, and keys are never empty.
//!
//! | list | elements at most | bytes of memory for a byte of it |
//! |---|---|---|
//! | heads, folded, marks | `ORIGINS_MAX`, and the sender itself | 8 |
//! | ranges | `RANGES_MAX` | 6 |
//! | shards, their leaf hashes | `STORE_SHARDS` | 10 |
//! | leaves | `COMPARED_LEAVES_MAX` | 8 |
//! | items of all leaves, or to be dropped | `COMPARED_ITEMS_MAX` | 7 |
//! | keys needed | `COMPARED_ITEMS_MAX` | 9 |
//!
//! A vector that grows takes twice that for a while, an allocator some bytes more for each key.

use super::item::{Item, LeafItems};
use crate::limits::{COMPARED_ITEMS_MAX, COMPARED_LEAVES_MAX};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

/// Elements that a list takes room for before it has read any.
const AHEAD_MAX: usize = 8;

/// A list of at most `MAX` elements.
pub(super) fn at_most<'de, D, T, const MAX: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    List { room: &Cell::new(MAX), element: PhantomData::<T> }.deserialize(from)
}

/// The same where there may be no list.
pub(super) fn if_any<'de, D, T, const MAX: usize>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_option(Optional::<T, MAX>(PhantomData))
}

struct Optional<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Optional<T, MAX> {
    type Value = Option<Vec<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing, or a list of at most {MAX} elements")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        at_most::<_, T, MAX>(from).map(Some)
    }
}

/// The leaves of a comparison; their items are counted all together.
pub(super) fn compared<'de, D>(from: D) -> Result<Vec<LeafItems>, D::Error>
where
    D: Deserializer<'de>,
{
    let element = Leaf { room_for_items: &Cell::new(COMPARED_ITEMS_MAX) };
    List { room: &Cell::new(COMPARED_LEAVES_MAX), element }.deserialize(from)
}

/// A list whose elements are taken as long as there is room.
struct List<'a, S> {
    room: &'a Cell<usize>,
    element: S,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} elements", self.room.get())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut taken = Vec::with_capacity(list.size_hint().unwrap_or(0).min(AHEAD_MAX));
        while let Some(element) = list.next_element_seed(self.element)? {
            let room = self.room.get().checked_sub(1);
            self.room.set(room.ok_or_else(|| A::Error::invalid_length(taken.len() + 1, &self))?);
            taken.push(element);
        }
        Ok(taken)
    }
}

/// One leaf: shard, leaf, items.
#[derive(Clone, Copy)]
struct Leaf<'a> {
    room_for_items: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Leaf<'_> {
    type Value = LeafItems;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<LeafItems, D::Error> {
        from.deserialize_tuple(3, self)
    }
}

impl<'de> Visitor<'de> for Leaf<'_> {
    type Value = LeafItems;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shard, a leaf and its items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut leaf: A) -> Result<LeafItems, A::Error> {
        let missing = |at| A::Error::invalid_length(at, &self);
        let items = List { room: self.room_for_items, element: PhantomData::<Item> };
        Ok((
            leaf.next_element()?.ok_or_else(|| missing(0))?,
            leaf.next_element()?.ok_or_else(|| missing(1))?,
            leaf.next_element_seed(items)?.ok_or_else(|| missing(2))?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::MessageError;
    use super::super::kinds::{Digest, KvMessage, Leaves};
    use super::*;
    use crate::limits::{KEY_LEN_MAX, KV_HEAD_LEN_MAX, ORIGINS_MAX, RANGES_MAX, STORE_SHARDS};

    fn array(n: usize, element: &[u8]) -> Vec<u8> {
        [&[0xdd], &(n as u32).to_be_bytes()[..], &element.repeat(n)].concat()
    }

    fn decode(kind: u8, head: &[&[u8]]) -> Result<KvMessage, MessageError> {
        KvMessage::decode(&[&[200, 3, kind], &head.concat()[..]].concat())
    }

    /// `max` elements are taken and one more is not, whatever else the head says.
    #[track_caller]
    fn check(kind: u8, max: usize, element: &[u8], before: &[u8], after: &[u8]) {
        assert!(decode(kind, &[before, &array(max, element), after]).is_ok(), "kind {kind}");
        let more = decode(kind, &[before, &array(max + 1, element), after]);
        assert_eq!(more, Err(MessageError::Head(kind)));
    }

    #[test]
    fn every_list_ends_at_its_count() {
        let (pair, triple, item) =
            (b"\x92\x01\x01", b"\x93\x01\x01\x01", b"\x95\xc4\x01k\x01\x01\x01\x01");
        check(1, RANGES_MAX, pair, b"\x94\x07", b"\x07\xc2");
        check(3, ORIGINS_MAX + 1, pair, b"\x96\x07", b"\0\0\xc2\xc2");
        check(4, RANGES_MAX, pair, b"\x93\x07\x07", b"");
        check(5, ORIGINS_MAX + 1, triple, b"\x92\x07", b"");
        check(6, ORIGINS_MAX + 1, pair, b"\x94\x07", b"\x90\xc2");
        check(7, ORIGINS_MAX + 1, triple, b"\x94\x90", b"\x07\xc2");
        check(7, ORIGINS_MAX + 1, b"\x01", b"\x95\x90\x90\x07\xc2", b"");
        check(10, STORE_SHARDS, b"\x92\x03\xc4\0", b"\x92", b"\xc2");
        check(11, COMPARED_LEAVES_MAX, b"\x93\x01\x01\x90", b"\x92", b"\xc2");
        check(11, COMPARED_ITEMS_MAX, item, b"\x92\x91\x93\x01\x01", b"\xc2");
        check(12, COMPARED_ITEMS_MAX, b"\xc4\x01k", b"\x93", b"\x90\xc2");
        check(12, COMPARED_ITEMS_MAX, item, b"\x93\x90", b"\xc2");
        check(15, 16, b"\xa0", b"\x94\x01\x01", b"\xa0");
    }

    #[test]
    fn the_items_of_all_leaves_are_counted_together() {
        let items = array(COMPARED_ITEMS_MAX / 4, b"\x95\xc4\x01k\x01\x01\x01\x01");
        let leaf = [b"\x93\x01\x01", &items[..]].concat();
        assert!(decode(11, &[b"\x92", &array(4, &leaf), b"\xc2"]).is_ok());
        let one = b"\x93\x01\x01\x91\x95\xc4\x01k\x01\x01\x01\x01";
        let more = decode(11, &[b"\x92\x95", &leaf.repeat(4), one, b"\xc2"]);
        assert_eq!(more, Err(MessageError::Head(11)));
    }

    #[test]
    fn a_key_is_neither_empty_nor_too_long() {
        let need = |len: usize| {
            let key = [&[0xc5, (len >> 8) as u8, len as u8], &vec![b'k'; len][..]].concat();
            decode(12, &[b"\x93", &array(1, &key), b"\x90\xc2"])
        };
        assert!(need(1).is_ok() && need(KEY_LEN_MAX).is_ok());
        assert_eq!(need(0), Err(MessageError::Head(12)));
        assert_eq!(need(KEY_LEN_MAX + 1), Err(MessageError::Head(12)));
        // An empty text of one byte was the cheapest element there could be.
        let cheapest = array(KV_HEAD_LEN_MAX, b"\xa0");
        assert_eq!(decode(12, &[b"\x93", &cheapest]), Err(MessageError::Head(12)));
    }

    #[test]
    fn what_senders_fill_their_messages_with_is_taken() {
        let heads = (0..=ORIGINS_MAX as u64).map(|n| (u64::MAX - n, u64::MAX)).collect();
        let digest = Digest {
            from: u64::MAX,
            heads,
            root: u64::MAX,
            folded: 1,
            reply: true,
            whole: true,
            stage: Some(2),
            limit: Some(u64::MAX),
            to: Some(u64::MAX),
            at: Some(u64::MAX),
            covered: Some(u64::MAX),
            floor: Some(u64::MAX),
        };
        let leaves = vec![(u16::MAX, vec![7; 2048].into()); STORE_SHARDS];
        for message in
            [KvMessage::Digest(digest), KvMessage::Leaves(Leaves { shards: leaves, more: true })]
        {
            assert_eq!(KvMessage::decode(&message.encode()), Ok(message));
        }
    }
}
