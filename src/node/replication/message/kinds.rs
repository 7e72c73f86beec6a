//! The messages: their heads, field by field. `message` says how a field is added.

use super::item::{Item, LeafItems, Name};
use super::lists::{at_most, compared, if_any};
use crate::kv::{OriginId, Record};
use crate::limits::{COMPARED_ITEMS_MAX, KEYS_MAX, ORIGINS_MAX, RANGES_MAX, STORE_SHARDS};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Origins in a list: those of a full vector, and the sender itself.
const HEADS_MAX: usize = ORIGINS_MAX + 1;

/// Inclusive ranges of sequence numbers.
pub type Ranges = Vec<(u64, u64)>;
/// Per origin the number up to which every write is held.
pub type Heads = Vec<(u64, u64)>;
/// Folded origins: origin, its last number, the highest number of a tombstone of it forgotten.
pub type FoldedList = Vec<(u64, u64, u64)>;

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
    /// How far the sender has come, see `Stage::code`. Format 3.
    #[serde(default)]
    pub stage: Option<u8>,
    /// Bytes of records that the sender may hold, when it is ready and has a limit. Format 3, since
    /// a later build than `stage`.
    #[serde(default)]
    pub limit: Option<u64>,
    /// For which run it is: a late copy may come to the next one at its address. Nothing where many
    /// may read it. Format 3, since a later build than `limit`.
    #[serde(default)]
    pub to: Option<u64>,
    /// Milliseconds on the sender's monotonic clock: an earlier one that comes later is not news.
    /// Format 3, with `to`.
    #[serde(default)]
    pub at: Option<u64>,
    /// Hash of those of its folded origins of whom it covers anything. Who tells it takes a part of
    /// a list of folded origins. Format 3, since a later build than `at`.
    #[serde(default)]
    pub covered: Option<u64>,
    /// The number of its floor, below which it knows no run that is over by name; 0 where it knows
    /// all. Format 3, since a later build than `covered`.
    #[serde(default)]
    pub floor: Option<u64>,
}

impl Digest {
    /// Of these heads, and nothing else.
    #[must_use]
    pub fn of_heads(from: OriginId, heads: Heads) -> Digest {
        Digest {
            from: from.0,
            heads,
            root: 0,
            folded: 0,
            reply: false,
            whole: false,
            stage: None,
            limit: None,
            to: None,
            at: None,
            covered: None,
            floor: None,
        }
    }

    /// For that run and no other.
    #[must_use]
    pub fn for_run(self, to: OriginId) -> Digest {
        Digest { to: Some(to.0), ..self }
    }
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
    /// 0 list, 1 install, 2 use, 3 remove, 4 forget a dead member.
    pub action: u8,
    /// The key; of 0 nothing, or the fingerprint of one that the sender is about to have used or
    /// removed; of 4 the member's name.
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
    pub(in crate::node) fn is_for_datagrams(&self) -> bool {
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
