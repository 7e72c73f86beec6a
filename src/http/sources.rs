//! How much of what is scarce one source may have.
//!
//! One source must not be able to take everything away from all others. So of what the others have
//! left it may have all but a part, and a source that comes later still finds something. A proxy
//! with many clients behind it is one source, and hardly notices.

use crate::source::Source;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What one source may have of what the others leave: seven eighths.
const PLACES: (usize, usize) = (7, 8);

/// How much each source has, and all together.
#[derive(Debug, Default)]
pub(super) struct Taken {
    all: usize,
    by_source: HashMap<Source, usize>,
}

impl Taken {
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// Whether a source may have `n` more of `max`, when it may have the part `of`/`parts` of what
    /// the others leave.
    pub(super) fn permits(
        &self,
        source: Source,
        n: usize,
        max: usize,
        (of, parts): (usize, usize),
    ) -> bool {
        let own = self.by_source.get(&source).copied().unwrap_or(0);
        let left = max.saturating_sub(self.all.saturating_sub(own));
        own + n <= (left * of).div_ceil(parts)
    }

    pub(super) fn add(&mut self, source: Source, n: usize) {
        self.all += n;
        self.add_own(source, n);
    }

    /// The same for what all together have already.
    pub(super) fn add_own(&mut self, source: Source, n: usize) {
        *self.by_source.entry(source).or_default() += n;
    }

    /// The same for what no source has yet.
    pub(super) fn add_unowned(&mut self, n: usize) {
        self.all += n;
    }

    pub(super) fn give_back(&mut self, source: Source, n: usize) {
        self.all -= n;
        self.give_back_own(source, n);
    }

    pub(super) fn give_back_own(&mut self, source: Source, n: usize) {
        if let Some(own) = self.by_source.get_mut(&source) {
            *own -= n;
            if *own == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    pub(super) fn give_back_unowned(&mut self, n: usize) {
        self.all -= n;
    }
}

/// Places of which there are so many, shared by source.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: Mutex<Taken>,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: Source,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Places> {
        Arc::new(Places { max, taken: Mutex::default() })
    }

    /// One for a client of this source. `None` when they are all taken, or as many by it as it may
    /// have.
    pub(super) fn take(self: &Arc<Places>, source: Source) -> Option<Place> {
        let mut taken = self.taken.lock();
        if !taken.permits(source, 1, self.max, PLACES) {
            return None;
        }
        taken.add(source, 1);
        Some(Place { places: Arc::clone(self), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.lock().give_back(self.source, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn one_source_leaves_something_for_others() {
        let places = Places::new(64);
        let take = |source| std::iter::from_fn(|| places.take(source)).collect::<Vec<_>>();
        let first = take(source("10.0.0.1"));
        assert_eq!(first.len(), 56);
        assert_eq!(take(source("10.0.0.2")).len(), 7);
        let second = take(source("10.0.0.2"));
        let third = take(source("10.0.0.3"));
        assert_eq!((second.len(), third.len()), (7, 1));
        assert!(places.take(source("10.0.0.4")).is_none());
        drop((first, second, third));
        assert_eq!(take(source("10.0.0.4")).len(), 56);
        assert!(places.taken.lock().by_source.is_empty());
        // Of few places nothing is kept back.
        let places = Places::new(4);
        let all: Vec<_> = std::iter::from_fn(|| places.take(source("10.0.0.1"))).collect();
        assert_eq!(all.len(), 4);
    }
}
