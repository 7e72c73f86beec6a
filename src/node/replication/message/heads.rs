//! The heads of messages: which fields a format has, and how a head is written and read.
//!
//! A head is a MessagePack array. Fields that came after format 2 stand at its end, and are left
//! out where they say nothing. From format 3 on, elements behind the fields of a format are passed
//! over and counted; format 2 has no room for any.

#[cfg(feature = "next-format")]
use super::kinds::Played;
use super::kinds::{
    Ack, Busy, Digest, Folded, Items, KeyReply, KeyRequest, Leaves, Pull, PullEnd, Push, Roots,
    Supply, Verdicts, Want,
};
use crate::limits::{KV_HEAD_DEPTH_MAX, KV_HEAD_LEN_MAX};
use crate::node::formats::OLDEST;
use serde::Serialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess, Visitor,
};
use std::fmt;
use std::marker::PhantomData;

/// The header of a MessagePack array of up to 15 elements, without their number.
const ARRAY: u8 = 0x90;

/// The fields of a message: first those of format 2, then those that were added, in order.
pub(super) trait Head: Serialize + DeserializeOwned + Clone {
    /// How many fields format 2 has.
    const FIELDS: usize;
    /// For each field added since, the format that brought it: never falling.
    const ADDED: &'static [u8];
    /// How many of those added are told: up to the last one that says something.
    fn n_told(&self) -> usize;
    /// Takes away what came after `format`.
    fn strip(&mut self, format: u8);

    /// How many fields a head of `format` has at most.
    fn n_known(format: u8) -> usize {
        Self::FIELDS + Self::ADDED.iter().filter(|added| **added <= format).count()
    }
}

/// Each head, how many fields it has in format 2, and each field added since: a line each, which is
/// all that a new field takes beside its own in the struct.
macro_rules! heads {
    ($($head:ident: $n:literal $(, $(#[$if:meta])? $field:ident in $format:literal)*;)*) => {$(
        impl Head for $head {
            const FIELDS: usize = $n;
            const ADDED: &'static [u8] = &[$($(#[$if])? $format),*];

            fn n_told(&self) -> usize {
                let told: &[bool] = &[$($(#[$if])? self.$field.is_some()),*];
                told.iter().rposition(|told| *told).map_or(0, |last| last + 1)
            }

            fn strip(&mut self, format: u8) {
                let _ = format;
                $($(#[$if])? {
                    if $format > format {
                        self.$field = None;
                    }
                })*
            }
        }
    )*};
}

heads! {
    Push: 4;
    Ack: 3, #[cfg(feature = "next-format")] played in 4;
    Digest: 6, stage in 3, limit in 3, to in 3, at in 3, covered in 3, floor in 3;
    Want: 3;
    Folded: 2;
    Pull: 4, to in 3, first in 3, #[cfg(feature = "next-format")] played in 4;
    PullEnd: 4, marks in 3;
    Busy: 1;
    Roots: 2, first in 3;
    Leaves: 2;
    Items: 2;
    Verdicts: 3;
    Supply: 2;
    KeyRequest: 3;
    KeyReply: 4;
}

#[cfg(feature = "next-format")]
heads! {
    Played: 2;
}

/// A head without its type.
pub(super) trait AnyHead {
    /// The lowest format that can say it.
    fn needs(&self) -> u8;
    fn write(&self, out: &mut Vec<u8>);
    fn strip_to(&mut self, format: u8);
}

impl<T: Head> AnyHead for T {
    fn needs(&self) -> u8 {
        self.n_told().checked_sub(1).map_or(OLDEST, |last| T::ADDED[last])
    }

    fn write(&self, out: &mut Vec<u8>) {
        let at = out.len();
        rmp_serde::encode::write(out, self).expect("writing to memory does not fail");
        debug_assert_eq!(usize::from(out[at] ^ ARRAY), T::FIELDS + T::ADDED.len());
        // Each field that is not told is the one byte `nil`, and those at the end are left out.
        let n_told = T::FIELDS + self.n_told();
        out.truncate(out.len() - (T::FIELDS + T::ADDED.len() - n_told));
        out[at] = ARRAY | n_told as u8;
    }

    fn strip_to(&mut self, format: u8) {
        self.strip(format);
    }
}

/// Reads the head at the front of `rest`, and takes it away from there; with it comes the number of
/// fields that were passed over. `None` for what is malformed.
///
/// Beside its lists, which are bounded each, a head has a bound of its own, which is also that of
/// the fields passed over: nothing of them is kept.
pub(super) fn read<T: Head>(format: u8, rest: &mut &[u8]) -> Option<(T, usize)> {
    let mut bounded = &rest[..rest.len().min(KV_HEAD_LEN_MAX)];
    let before_len = bounded.len();
    let mut from = rmp_serde::Deserializer::new(&mut bounded);
    from.set_max_depth(KV_HEAD_DEPTH_MAX);
    let fields = Fields { format, head: PhantomData::<T> };
    let read = fields.deserialize(&mut from).ok()?;
    *rest = &rest[before_len - bounded.len()..];
    Some(read)
}

/// The fields of a head that its format has, and how many come after them.
struct Fields<T> {
    format: u8,
    head: PhantomData<T>,
}

impl<'de, T: Head> DeserializeSeed<'de> for Fields<T> {
    type Value = (T, usize);

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(T, usize), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, T: Head> Visitor<'de> for Fields<T> {
    type Value = (T, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at least {} fields", T::FIELDS)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(T, usize), A::Error> {
        let known = FirstOf { list: &mut list, left: T::n_known(self.format) };
        let head = T::deserialize(SeqAccessDeserializer::new(known))?;
        let mut n_passed_over = 0;
        while list.next_element::<IgnoredAny>()?.is_some() {
            n_passed_over += 1;
        }
        if n_passed_over > 0 && self.format == OLDEST {
            return Err(A::Error::invalid_length(T::FIELDS + n_passed_over, &self));
        }
        Ok((head, n_passed_over))
    }
}

/// The first few elements of a list.
struct FirstOf<'a, A> {
    list: &'a mut A,
    left: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for FirstOf<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.list.next_element_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// A head as they will be: a field of format 2, and three that came later.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Later {
        old: u32,
        #[serde(default)]
        third: Option<u32>,
        #[serde(default)]
        also_third: Option<bool>,
        #[serde(default)]
        fourth: Option<Vec<u32>>,
    }

    heads! {
        Later: 1, third in 3, also_third in 3, fourth in 4;
    }

    const NOTHING: Later = Later { old: 7, third: None, also_third: None, fourth: None };

    fn written(head: &Later) -> Vec<u8> {
        let mut out = Vec::new();
        head.write(&mut out);
        out
    }

    fn read(format: u8, head: &[u8]) -> Option<(Later, usize)> {
        let mut rest = head;
        let read = super::read(format, &mut rest)?;
        assert!(rest.is_empty());
        Some(read)
    }

    #[test]
    fn a_head_is_written_up_to_its_last_field_that_says_something() {
        let (third, also_third) = (Some(300), Some(true));
        let heads = [
            (2, NOTHING, &b"\x91\x07"[..]),
            (3, Later { third, ..NOTHING }, b"\x92\x07\xcd\x01\x2c"),
            (3, Later { also_third, ..NOTHING }, b"\x93\x07\xc0\xc3"),
            (4, Later { fourth: Some(vec![5]), ..NOTHING }, b"\x94\x07\xc0\xc0\x91\x05"),
        ];
        for (needs, head, bytes) in heads {
            assert_eq!((head.needs(), &written(&head)[..]), (needs, bytes));
            assert_eq!(read(4, bytes), Some((head, 0)));
        }
    }

    #[test]
    fn a_head_is_stripped_to_what_its_reader_knows() {
        let mut head = Later { third: Some(1), also_third: None, fourth: Some(vec![2]), ..NOTHING };
        head.strip_to(3);
        assert_eq!(head, Later { third: Some(1), ..NOTHING });
        head.strip_to(2);
        assert_eq!(head, NOTHING);
    }

    #[test]
    fn fields_after_those_of_the_format_are_passed_over() {
        let bytes = b"\x96\x07\x05\xc2\x91\x05\x81\xa1k\xc4\x01x\x92\x90\xca\0\0\0\0";
        let head =
            Later { third: Some(5), also_third: Some(false), fourth: Some(vec![5]), ..NOTHING };
        assert_eq!(read(4, bytes), Some((head.clone(), 2)));
        // Who speaks format 3 alone does not look at the fourth field, whatever it is.
        assert_eq!(read(3, bytes), Some((Later { fourth: None, ..head }, 3)));
        assert_eq!(read(3, b"\x94\x07\xc0\xc0\xa1x"), Some((NOTHING, 1)));
        assert_eq!(read(2, bytes), None, "format 2 has no room for them");
        assert_eq!(read(2, b"\x92\x07\x05"), None);
    }

    #[test]
    fn what_is_passed_over_does_not_nest_without_end() {
        let nested =
            |depth: usize| [&b"\x95\x07\xc0\xc0\xc0"[..], &vec![0x91; depth], b"\x01"].concat();
        assert!(read(3, &nested(KV_HEAD_DEPTH_MAX - 2)).is_some());
        for depth in [KV_HEAD_DEPTH_MAX + 1, 100_000] {
            assert_eq!(read(3, &nested(depth)), None);
        }
    }

    #[test]
    fn a_field_that_is_missing_is_not_told_and_one_of_format_2_must_be_there() {
        assert_eq!(read(3, b"\x91\x07"), Some((NOTHING, 0)));
        assert_eq!(read(3, b"\x90"), None);
    }
}
