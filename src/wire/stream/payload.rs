//! What a replication frame carries: bytes, in one piece or in several.
//!
//! Who sends large values leaves them where they lie and strings them together; who receives gets
//! one piece. Two payloads are equal when their bytes are, however they are cut.

use bytes::Bytes;

/// Bytes that follow each other. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    first: Bytes,
    rest: Vec<Bytes>,
}

impl Payload {
    /// Length of all of it, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().map(Bytes::len).sum()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces().all(Bytes::is_empty)
    }

    /// The pieces in order, at least one.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// All of it as one piece: copied only if it is not.
    #[must_use]
    pub fn join(&self) -> Bytes {
        if self.rest.is_empty() {
            return self.first.clone();
        }
        let mut all = Vec::with_capacity(self.len());
        for piece in self.pieces() {
            all.extend_from_slice(piece);
        }
        all.into()
    }
}

impl<B: Into<Bytes>> From<B> for Payload {
    fn from(bytes: B) -> Payload {
        Payload { first: bytes.into(), rest: Vec::new() }
    }
}

impl FromIterator<Bytes> for Payload {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Payload {
        let mut pieces = pieces.into_iter();
        Payload { first: pieces.next().unwrap_or_default(), rest: pieces.collect() }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        self.len() == other.len() && self.join() == other.join()
    }
}

impl Eq for Payload {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_their_bytes() {
        let whole = Payload::from(&b"abcd"[..]);
        let cut: Payload = [&b"a"[..], b"", b"bcd"].map(Bytes::from_static).into_iter().collect();
        assert_eq!(cut, whole);
        assert_eq!(cut.len(), 4);
        assert_eq!(cut.join(), &b"abcd"[..]);
        assert_ne!(cut, Payload::from(&b"abce"[..]));
        assert_ne!(cut, Payload::default());
        assert!(Payload::from_iter([]).is_empty());
        assert!(!cut.is_empty());
    }
}
