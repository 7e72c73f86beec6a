//! What a watch has told of each key: so it tells nothing twice, and misses no delete at a reset.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// Most deletes that are remembered, beside the keys that are there.
const DELETED_MAX: usize = 1 << 16;

/// The version of each key that was told last. It grows with the keys that are there, and by a
/// bounded number of those that were deleted last: one that is forgotten may be told twice.
#[derive(Debug, Default)]
pub(super) struct Told {
    there: HashMap<String, String>,
    deleted: HashMap<String, String>,
    /// Deletes in the order in which they were told, some of them outdated.
    order: VecDeque<(String, String)>,
    /// Keys that were there at a reset, and of which nothing has been told since.
    before: BTreeSet<String>,
}

impl Told {
    /// Whether nothing was told.
    pub(super) fn is_empty(&self) -> bool {
        self.there.is_empty() && self.deleted.is_empty() && self.before.is_empty()
    }

    /// Whether a version, of a value or of a delete, is later than the one told last; notes it.
    pub(super) fn is_news(&mut self, key: &str, version: &str, is_delete: bool) -> bool {
        let last = self.there.get(key).or_else(|| self.deleted.get(key));
        if last.is_some_and(|last| last.as_str() >= version) {
            return false;
        }
        self.before.remove(key);
        let (key, version) = (key.to_owned(), version.to_owned());
        if !is_delete {
            self.deleted.remove(&key);
            self.there.insert(key, version);
            return true;
        }
        self.there.remove(&key);
        self.deleted.insert(key.clone(), version.clone());
        self.order.push_back((key, version));
        if self.order.len() > DELETED_MAX
            && let Some((key, version)) = self.order.pop_front()
            && self.deleted.get(&key) == Some(&version)
        {
            self.deleted.remove(&key);
        }
        true
    }

    /// Everything follows anew, but no delete of what is gone.
    pub(super) fn reset(&mut self) {
        self.before.extend(self.there.drain().map(|(key, _)| key));
        self.deleted.clear();
        self.order.clear();
    }

    /// Everything there is has been told: the keys that were there before a reset, and are not
    /// there any more, in order.
    pub(super) fn gone(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletes_are_forgotten_in_time_and_keys_that_are_there_are_not() {
        let mut told = Told::default();
        assert!(told.is_news("stays", "1", false));
        for n in 0..DELETED_MAX + 1000 {
            let key = format!("k{n}");
            assert!(told.is_news(&key, "1", false) && told.is_news(&key, "2", true));
            assert!(!told.is_news(&key, "1", false) && !told.is_news(&key, "2", true));
        }
        assert_eq!((told.there.len(), told.deleted.len()), (1, DELETED_MAX));
        assert_eq!(told.order.len(), DELETED_MAX);
        assert!(!told.is_news("stays", "1", false));
        // One that comes back is none of those that are forgotten.
        let last = format!("k{}", DELETED_MAX + 999);
        assert!(told.is_news(&last, "3", false) && !told.is_news(&last, "2", true));
        assert_eq!(told.deleted.len(), DELETED_MAX - 1);
    }

    #[test]
    fn what_is_gone_after_a_reset_is_told_once() {
        let mut told = Told::default();
        for key in ["b", "a", "again", "deleted"] {
            assert!(told.is_news(key, "1", false));
        }
        assert!(told.gone().is_empty());
        told.reset();
        assert!(!told.is_empty());
        assert!(told.is_news("again", "1", false) && told.is_news("deleted", "2", true));
        // The stream breaks before it has told all.
        told.reset();
        assert!(told.is_news("new", "1", false));
        assert_eq!(Vec::from_iter(told.gone()), ["a", "again", "b"]);
        assert!(told.gone().is_empty());
    }
}
