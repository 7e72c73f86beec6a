//! What happened in a run: always as a hash, and as a story when somebody wants to read it.

use crate::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hash of everything so far, and the story if it is kept.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    story: Option<Vec<String>>,
}

impl Trace {
    /// Keeps the story from now on.
    pub fn keep(&mut self) {
        self.story = Some(Vec::new());
    }

    /// The hash: equal runs have equal ones.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The story, line by line, when it is kept.
    #[must_use]
    pub fn story(&self) -> &[String] {
        self.story.as_deref().unwrap_or_default()
    }

    /// Notes bytes that arrived somewhere.
    pub fn bytes(&mut self, now: Instant, host: usize, bytes: &[u8]) {
        self.hash = xxh3_64_with_seed(bytes, self.hash ^ now.0 ^ ((host as u64) << 48));
    }

    /// Notes something that only a reader of the story wants to know.
    pub fn detail(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:9.3}  {}", now.0 as f64 / 1e9, text()));
        }
    }

    /// Notes something worth a line; the text is made only when it is kept.
    pub fn word(&mut self, now: Instant, text: impl FnOnce() -> String) {
        self.hash = xxh3_64_with_seed(&now.0.to_be_bytes(), self.hash);
        if let Some(story) = &mut self.story {
            story.push(format!("{:9.3}  {}", now.0 as f64 / 1e9, text()));
        }
    }
}
