//! What is watched: one key, or all keys that begin alike.

/// What a reader wants to hear of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// This key.
    Key(Box<[u8]>),
    /// All keys that begin so; all there are, if it is empty.
    Prefix(Box<[u8]>),
}

impl Target {
    /// Whether it is about this key.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        match self {
            Target::Key(only) => **only == *key,
            Target::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}
