//! Name and version of a record, as stores are compared.

use crate::kv::{OriginId, Record};
use crate::limits::KEY_LEN_MAX;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

/// Bytes of an item beside its key: the array, the key's length, three 64-bit numbers, the check.
const ITEM_FIXED_LEN_MAX: usize = 1 + 3 + 3 * 9 + 5;

/// Shard, leaf, and the records in it.
pub type LeafItems = (u16, u16, Vec<Item>);

/// Name and version of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The key.
    pub key: Name,
    /// Hybrid time of its stamp.
    pub time: u64,
    /// Origin of its stamp.
    pub origin: u64,
    /// Its number.
    pub seq: u64,
    /// Its check: another one is another content.
    pub check: u32,
}

impl Item {
    /// Name and version of `record`.
    #[must_use]
    pub fn of(record: &Record) -> Item {
        let (stamp, dot) = (record.stamp(), record.dot());
        Item {
            key: Name::new(record.key()),
            time: stamp.time.0,
            origin: stamp.origin.0,
            seq: dot.seq,
            check: record.check(),
        }
    }

    /// Bytes it takes in a head, at most.
    #[must_use]
    pub fn len_max(&self) -> usize {
        ITEM_FIXED_LEN_MAX + self.key.len()
    }

    /// The same of the name of `record`.
    pub(in crate::node) fn len_max_of(record: &Record) -> usize {
        ITEM_FIXED_LEN_MAX + record.key().len()
    }

    /// The version.
    #[must_use]
    pub fn stamp(&self) -> crate::kv::Stamp {
        crate::kv::Stamp { time: crate::kv::HlcTime(self.time), origin: OriginId(self.origin) }
    }

    /// Which write it is.
    #[must_use]
    pub fn dot(&self) -> crate::kv::Dot {
        crate::kv::Dot { origin: OriginId(self.origin), seq: self.seq }
    }
}

/// A key as it travels in a head: 1 to [`KEY_LEN_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The name of a record: callers have its key from a store.
    #[must_use]
    pub fn new(key: &[u8]) -> Name {
        Name(key.into())
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        from.deserialize_bytes(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of 1 to {KEY_LEN_MAX} bytes")
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Name, E> {
        if (1..=KEY_LEN_MAX).contains(&key.len()) {
            Ok(Name::new(key))
        } else {
            Err(E::invalid_length(key.len(), &self))
        }
    }
}
