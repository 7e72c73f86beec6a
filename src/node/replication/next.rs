//! What a mechanism leaves to others.

use super::facts::batch::{Envelope, Settled};
use super::facts::known::Claims;
use crate::kv::OriginId;
use crate::node::io::ConnId;
use std::collections::BTreeMap;

/// What is to be done now that the mechanism which returns it cannot do: [`Replication`] knows who
/// does.
///
/// [`Replication`]: super::Replication
#[derive(Debug)]
#[must_use]
pub(super) enum Next {
    /// To tell others that this node has come further, or not so far any more.
    StageChanged,
    /// To spread writes of ours as rumors.
    Spread(Envelope, Vec<Settled>),
    /// To copy from this peer all that is missing here.
    Pull(OriginId),
    /// To compare everything with a ready peer: something was damaged and dropped.
    Mend,
    /// To compare with this peer, who holds what was agreed on, the shards that differ or those
    /// from `first` on.
    Compare { peer: OriginId, agreed: Option<Claims>, first: Option<u16> },
    /// To go on with that comparison from this shard on.
    CompareOn { first: u16 },
    /// A walk goes on: the peer has told its leaves, by shard.
    WalkTold { conn: ConnId, leaves: BTreeMap<usize, Vec<u64>> },
    /// A walk goes on: the names that were sent have been judged.
    WalkJudged { conn: ConnId, more: bool },
    /// Everything has been compared; `is_reset` is that this node hid meanwhile.
    Walked { is_reset: bool },
    /// There is nobody to compare with: this node trusts its own store again.
    Trusted { is_alone: bool },
}
