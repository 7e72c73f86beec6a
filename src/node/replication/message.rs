//! What members of our kind say to each other about data: the formats.
//!
//! ```text
//! c8 | format u8 | kind u8 | MessagePack array | records ...  user message of a datagram, and
//!                                                             payload of a replication frame
//! ```
//!
//! The head is an rmp-serde array of the fields in order, every list of it bounded; records follow
//! in the store's own packed form ([`Record`]) and delimit themselves. `c8` tells ours from other
//! programs' messages.
//!
//! **A new field** goes to the end of a struct here as `Option<T>` with `#[serde(default)]`, and
//! into the table `heads!` of `codec` with the format that brings it:
//! `Digest: 6, state in 3;`. That is all: a message in which it is `None` is written without it, in
//! the format it had before, and sending takes it away for peers that do not read that format. So
//! whoever reads the field must do without it. A list in it is bounded, as all are
//! (`lists`). Only heads grow: the arrays within them never do.

use super::lists::{at_most, compared, if_any};
use crate::kv::{OriginId, Record};
use crate::limits::{COMPARED_ITEMS_MAX, KEYS_MAX, ORIGINS_MAX, RANGES_MAX, STORE_SHARDS};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::codec::{
    MessageError, Read, fit, format_of, is_ours, is_pull, is_pull_end, is_push,
};
pub use super::lists::Name;

/// Bytes of an item beside its key: the array, the key's length, three 64-bit numbers, the check.
const ITEM_FIXED_LEN_MAX: usize = 1 + 3 + 3 * 9 + 5;
/// Origins in a list: those of a full vector, and the sender itself.
const HEADS_MAX: usize = ORIGINS_MAX + 1;

/// Inclusive ranges of sequence numbers.
pub type Ranges = Vec<(u64, u64)>;
/// Per origin the number up to which every write is held.
pub type Heads = Vec<(u64, u64)>;
/// Folded origins: origin, its last number, the highest number of a tombstone of it forgotten.
pub type FoldedList = Vec<(u64, u64, u64)>;
/// Shard, leaf, and the records in it.
pub type LeafItems = (u16, u16, Vec<Item>);

/// Records, and which writes of one origin they settle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Whose writes.
    pub of: u64,
    /// Which of them: each is among the records or replaced by one of them.
    #[serde(deserialize_with = "at_most::<_, _, RANGES_MAX>")]
    pub settles: Ranges,
    /// Who sends this message.
    pub from: u64,
    /// A client waits for the acknowledgement.
    pub urgent: bool,
}

/// "I hold all your writes up to this one."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Who says so.
    pub from: u64,
    /// Whose writes.
    pub of: u64,
    /// Up to which.
    pub through: u64,
    /// Nothing: the field that format 4 adds where it is played.
    #[cfg(feature = "next-format")]
    #[serde(default)]
    pub played: Option<u64>,
}

/// A summary of what a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Whose.
    pub from: u64,
    /// What it holds without a gap.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub heads: Heads,
    /// Hash of all live records; 0 when more is held than the heads say.
    pub root: u64,
    /// Hash of its folded origins.
    pub folded: u64,
    /// Whether it asks for ours in return.
    pub reply: bool,
    /// Whether these heads are all it has, or only those worth telling now.
    pub whole: bool,
    /// How far the sender has come, see [`Stage::code`](super::Stage::code). Format 3.
    #[serde(default)]
    pub stage: Option<u8>,
}

/// "Send me these."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Who asks.
    pub from: u64,
    /// Whose writes.
    pub of: u64,
    /// Which of them.
    #[serde(deserialize_with = "at_most::<_, _, RANGES_MAX>")]
    pub ranges: Ranges,
}

/// The origins a node has folded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Whose list.
    pub from: u64,
    /// The list, or a part of it.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub list: FoldedList,
}

/// "Send me all I lack."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Who asks.
    pub from: u64,
    /// What it holds.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub heads: Heads,
    /// What it has folded.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub folded: FoldedList,
    /// It has nothing to lose: it holds no live record.
    pub fresh: bool,
    /// Whom it asks. Anybody else at that address refuses. Format 3.
    #[serde(default)]
    pub to: Option<u64>,
    /// Whether the asker is ready when this is complete: only a ready node serves that. Format 3.
    #[serde(default)]
    pub first: Option<bool>,
    /// Nothing: the field that format 4 adds where it is played.
    #[cfg(feature = "next-format")]
    #[serde(default)]
    pub played: Option<u64>,
}

/// The end of the answer to a pull; nothing before it may be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullEnd {
    /// What the asker holds now.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub heads: Heads,
    /// Likewise, folded.
    #[serde(deserialize_with = "at_most::<_, _, HEADS_MAX>")]
    pub folded: FoldedList,
    /// Tombstones up to this hybrid time have been forgotten.
    pub forgotten: u64,
    /// The asker lacked deletes that are forgotten: it has to compare everything.
    pub reset: bool,
    /// For each of the heads the highest number of a tombstone that has been forgotten, 0 for none;
    /// none of it when nothing has. Format 3.
    #[serde(default, deserialize_with = "if_any::<_, _, HEADS_MAX>")]
    pub marks: Option<Vec<u64>>,
}

/// "Not now."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Ask again after this many milliseconds.
    pub retry_ms: u32,
}

/// The hashes of the store's shards; begins a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// Who begins.
    pub from: u64,
    /// One 64-bit hash per shard, big-endian.
    pub roots: Bytes,
    /// Asks for the leaves of the shards from this one on, whether they differ or not. Format 3.
    #[serde(default)]
    pub first: Option<u16>,
}

/// The leaf hashes of shards that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaves {
    /// Shard, and one 64-bit hash per leaf, big-endian.
    #[serde(deserialize_with = "at_most::<_, _, STORE_SHARDS>")]
    pub shards: Vec<(u16, Bytes)>,
    /// More shards differ; compare again after these.
    pub more: bool,
}

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

/// The records of leaves that differ, by name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Items {
    /// Shard, leaf, records.
    #[serde(deserialize_with = "compared")]
    pub leaves: Vec<LeafItems>,
    /// More shards differ.
    pub more: bool,
}

/// What the other side makes of [`Items`]; records it holds newer follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Keys whose record it lacks or holds older.
    #[serde(deserialize_with = "at_most::<_, _, COMPARED_ITEMS_MAX>")]
    pub need: Vec<Name>,
    /// Records that were deleted, and the delete forgotten since.
    #[serde(deserialize_with = "at_most::<_, _, COMPARED_ITEMS_MAX>")]
    pub drop: Vec<Item>,
    /// More shards differ.
    pub more: bool,
}

/// Records that settle no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// Who sends them.
    pub from: u64,
    /// Whether each record's number may be noted by itself; a bulk copy is claimed at its end.
    pub observe: bool,
}

/// A change of the keyring.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRequest {
    /// Pairs request and reply.
    pub id: u64,
    /// 0 list, 1 install, 2 use, 3 remove.
    pub action: u8,
    /// The key, empty to list.
    pub key: Bytes,
}

impl std::fmt::Debug for KeyRequest {
    /// Key bytes never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest").field("id", &self.id).field("action", &self.action).finish()
    }
}

/// What a member made of a [`KeyRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReply {
    /// Pairs request and reply.
    pub id: u64,
    /// Whose reply.
    pub from: u64,
    /// Fingerprints it holds now, primary first.
    #[serde(deserialize_with = "at_most::<_, _, KEYS_MAX>")]
    pub fingerprints: Vec<String>,
    /// Why it refused, empty when it did not.
    pub error: String,
}

/// "I play the next version."
#[cfg(feature = "next-format")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Played {
    /// Who does.
    pub from: u64,
    /// The highest format it speaks.
    pub format: u8,
}

/// One message between members of our kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvMessage {
    /// Kind 1.
    Push(Push, Vec<Record>),
    /// Kind 2.
    Ack(Ack),
    /// Kind 3.
    Digest(Digest),
    /// Kind 4.
    Want(Want),
    /// Kind 5.
    Folded(Folded),
    /// Kind 6, links only.
    Pull(Pull),
    /// Kind 7, links only.
    PullEnd(PullEnd),
    /// Kind 8, links only.
    Busy(Busy),
    /// Kind 9, links only.
    Roots(Roots),
    /// Kind 10, links only.
    Leaves(Leaves),
    /// Kind 11, links only.
    Items(Items),
    /// Kind 12, links only.
    Verdicts(Verdicts, Vec<Record>),
    /// Kind 13, links only.
    Supply(Supply, Vec<Record>),
    /// Kind 14, links only.
    KeyRequest(KeyRequest),
    /// Kind 15, links only.
    KeyReply(KeyReply),
    /// Kind 16, which whoever speaks format 3 passes over.
    #[cfg(feature = "next-format")]
    Played(Played),
}

impl KvMessage {
    /// Whether it may come by datagram, as well as over a link.
    #[must_use]
    pub(super) fn is_for_datagrams(&self) -> bool {
        match self {
            KvMessage::Push(..)
            | KvMessage::Ack(_)
            | KvMessage::Digest(_)
            | KvMessage::Want(_)
            | KvMessage::Folded(_) => true,
            #[cfg(feature = "next-format")]
            KvMessage::Played(_) => true,
            _ => false,
        }
    }
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
    pub(super) fn len_max_of(record: &Record) -> usize {
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
