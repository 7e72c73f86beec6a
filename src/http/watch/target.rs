//! What is watched: one key, or all keys that begin alike.

/// What a reader wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::http) enum Target {
    /// This key.
    Key(Box<[u8]>),
    /// All keys that begin so; all there are, if it is empty.
    Prefix(Box<[u8]>),
}
