//! What a mechanism leaves to others.

use crate::kv::OriginId;

/// What is to be done now that the mechanism which returns it cannot do: [`Replication`] knows who
/// does.
///
/// [`Replication`]: super::Replication
#[derive(Debug)]
#[must_use]
pub(super) enum Next {
    /// To copy from this peer all that is missing here.
    Pull(OriginId),
}
