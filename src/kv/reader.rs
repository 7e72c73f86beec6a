//! How a reader is told of what it lacks, wherever it left off.
//!
//! ```text
//! a page:    what the node holds --> Store::tell --> records, and what the reader has seen then
//!
//! a stream:  what the node holds --> Reader::begin --> part, part, .. --> end --> sync
//!                                       ^ |  `-- sync, of less, where the node is behind
//!                                       | reset                           |
//!                                       '---------------------------------'
//!            then a key that changed --> Store::shown;   what the node holds --> sync
//! ```
//!
//! What the node holds is asked for before the store is read. So a reader that has been told all of
//! that has seen as much, and maybe more; never less.
//!
//! Of a key that has changed a stream is told whatever there is, be it seen at another node: what a
//! reader has seen says that of writes, and not of those that came here after they had been given
//! up, nor of a clock that is ahead. Where nothing is left of the key, no delete either, the reader
//! begins anew.

use super::list::Listing;
use super::record::Record;
use super::seen::{Coverage, Seen, Token};
use super::store::Store;
use super::target::Target;
use crate::limits::STORE_SHARDS;
use crate::mutation::mutated;
use crate::time::Now;
use std::sync::Arc;
use std::vec;

/// Records looked at for each one that is wanted of a part, at most.
const STEPS: usize = 16;

/// A page of what a reader asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What its keys begin with.
    pub prefix: &'a [u8],
    /// Keys up to and including this one are left out.
    pub after: Option<&'a [u8]>,
    /// Most records of it.
    pub limit: usize,
}

/// What a reader is told that asked for a page.
#[derive(Debug)]
pub struct Told {
    /// Records in key order, tombstones too unless it begins anew.
    pub page: Listing,
    /// Whether the reader begins anew: all else that it knew under the prefix is gone.
    pub is_reset: bool,
    /// What it has seen once it has read this page and those that follow it.
    pub seen: Seen,
}

impl Store {
    /// What a reader lacks that has seen `since`; everything when that is `None`, or when what it
    /// lacks cannot be told any more. `coverage` is what the node held before this call.
    #[must_use]
    pub fn tell(
        &self,
        now: Now,
        asked: Asked<'_>,
        since: Option<&Token>,
        coverage: &Coverage,
    ) -> Told {
        let since = since.and_then(|token| coverage.read(token));
        if let Some(mut seen) = since.filter(|seen| coverage.reaches(seen))
            && let Some(page) = self.lacking(now, asked, &seen, coverage)
            // Else something was taken out meanwhile that the reader may lack, and is not told.
            && self.removed_total() == coverage.removed_total
        {
            seen.told(&coverage.seen, self.swept());
            return Told { page, is_reset: false, seen };
        }
        let page = self.list(now, asked.prefix, asked.after, asked.limit);
        let mut seen = Seen::default();
        seen.told(&coverage.seen, self.swept());
        Told { page, is_reset: true, seen }
    }

    /// `None` when nothing is left of a key that the reader lacks.
    fn lacking(
        &self,
        now: Now,
        asked: Asked<'_>,
        seen: &Seen,
        coverage: &Coverage,
    ) -> Option<Listing> {
        let Asked { prefix, after, limit } = asked;
        let Some(keys) = self.keys_unseen(seen, coverage) else {
            return Some(self.list_unseen(now, prefix, after, limit, (seen, coverage)));
        };
        let is_on_page =
            |key: &[u8]| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let on_page = keys.iter().filter(|key| is_on_page(key));
        let found: Option<Vec<_>> = on_page.map(|key| self.shown(now, key)).collect();
        let mut items = found?;
        items.retain(|record| !coverage.is_seen(seen, record));
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| has_more).map(|last| last.key().to_vec());
        Some(Listing { items, next })
    }
}

/// A reader of a stream: what it has seen, and what it is being told.
#[derive(Debug)]
pub struct Reader {
    target: Target,
    /// What it came with, before it is known what that says here.
    since: Option<Token>,
    /// `None` before it is told of the end of its first snapshot.
    seen: Option<Seen>,
    catching_up: Option<CatchingUp>,
}

/// How a stream begins to tell what a reader lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Where the reader left off.
    On,
    /// With the past, as this node is behind the reader. What that has seen says less now, and it
    /// has to be told so first: else it would keep the past when the stream breaks.
    Behind,
    /// With everything: what the reader lacks cannot be told any more.
    Anew,
}

/// How far a reader that was away has been told what it lacks.
#[derive(Debug)]
struct CatchingUp {
    coverage: Arc<Coverage>,
    at: At,
}

#[derive(Debug)]
enum At {
    /// Everything there is, in key order, from behind this key on.
    Snapshot(Option<Vec<u8>>),
    /// These keys.
    Keys(vec::IntoIter<Box<[u8]>>),
    /// All that it has not seen: from this shard on, behind this key in it.
    Shard(usize, Option<Box<[u8]>>),
    /// All is told.
    End,
}

impl Reader {
    /// A reader that has seen `since`; with `None` it wants everything first.
    #[must_use]
    pub fn new(target: Target, since: Option<Token>) -> Reader {
        Reader { target, since, seen: None, catching_up: None }
    }

    /// What it reads.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// It begins anew: whatever it was told does not count.
    pub fn reset(&mut self) {
        self.since = None;
        self.seen = None;
        self.catching_up = None;
    }

    /// Begins to tell it what it lacks of what the node holds, which `coverage` says.
    pub fn begin(&mut self, store: &Store, coverage: Arc<Coverage>) -> Begun {
        let mut is_reset = self.seen.as_ref().is_some_and(|seen| !coverage.reaches(seen));
        if let Some(token) = self.since.take() {
            self.seen = coverage.read(&token).filter(|seen| coverage.reaches(seen));
            is_reset = self.seen.is_none();
        }
        if is_reset {
            self.reset();
        }
        let at = match (&self.seen, &self.target) {
            (None, _) => At::Snapshot(None),
            (Some(_), Target::Key(key)) => At::Keys(vec![key.clone()].into_iter()),
            (Some(seen), Target::Prefix(_)) => match store.keys_unseen(seen, &coverage) {
                Some(keys) => At::Keys(keys.into_iter().collect::<Vec<_>>().into_iter()),
                None => At::Shard(0, None),
            },
        };
        let is_behind = |seen: &mut Seen| seen.fall_back(&coverage.seen);
        let begun = match (is_reset, self.seen.as_mut().is_some_and(is_behind)) {
            (true, _) => Begun::Anew,
            (false, true) => Begun::Behind,
            _ => Begun::On,
        };
        self.catching_up = Some(CatchingUp { coverage, at });
        begun
    }

    /// The next records that it lacks, about `n_max` of them, or none of a part in which there are
    /// none; `None` when it has been told all.
    pub fn part(&mut self, store: &Store, now: Now, n_max: usize) -> Option<Vec<Record>> {
        let CatchingUp { coverage, at } = self.catching_up.as_mut()?;
        let coverage = Arc::clone(coverage);
        let mut part = match (&mut *at, &self.target) {
            (At::End, _) => return None,
            (At::Snapshot(_), Target::Key(key)) => {
                *at = At::End;
                store.get(now, key).into_iter().collect()
            }
            (At::Snapshot(after), Target::Prefix(prefix)) => {
                let page = store.list(now, prefix, after.as_deref(), n_max);
                *at = page.next.map_or(At::End, |next| At::Snapshot(Some(next)));
                page.items
            }
            (At::Keys(keys), target) => {
                let part: Vec<Box<[u8]>> = keys.by_ref().take(n_max).collect();
                if part.is_empty() {
                    *at = At::End;
                }
                let keys = part.iter().filter(|key| target.has(key));
                keys.filter_map(|key| store.entry(key)).collect()
            }
            (At::Shard(shard, after), target) => {
                let nothing = Seen::default();
                let seen = self.seen.as_ref().unwrap_or(&nothing);
                let (Target::Key(begin) | Target::Prefix(begin)) = target;
                let steps_max = n_max.saturating_mul(STEPS);
                let is_wanted = |record: &Record| !coverage.is_seen(seen, record);
                let (part, next) =
                    store.scan_part(*shard, (begin, after.as_deref()), steps_max, is_wanted);
                *at = match next {
                    Some(next) => At::Shard(*shard, Some(next)),
                    None if *shard + 1 < STORE_SHARDS => At::Shard(*shard + 1, None),
                    None => At::End,
                };
                part
            }
        };
        if mutated!(WatchNoDeletes) {
            part.retain(|record| !record.is_tombstone());
        }
        let told = part.into_iter().map(|record| store.as_of(now, record));
        let has_seen =
            |record: &Record| self.seen.as_ref().is_some_and(|seen| coverage.is_seen(seen, record));
        Some(told.filter(|record| !has_seen(record)).collect())
    }

    /// It has been told every part. True when it has seen what the node held at the beginning;
    /// false when a delete that it may lack was forgotten meanwhile: it has been reset. `now` is
    /// what the node holds after the last part.
    pub fn end(&mut self, store: &Store, now: &Coverage) -> bool {
        let Some(CatchingUp { coverage, .. }) = self.catching_up.take() else { return false };
        if self.seen.as_ref().is_some_and(|seen| !now.reaches(seen)) {
            self.reset();
            return false;
        }
        self.sync(store, &coverage);
        true
    }

    /// Whether it is told everything, as it has seen nothing or been reset.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.seen.is_none()
    }

    /// It has been told all that `coverage` says, as the store was after that; what it has seen in
    /// all.
    pub fn sync(&mut self, store: &Store, coverage: &Coverage) -> &Seen {
        let seen = self.seen.get_or_insert_default();
        seen.told(&coverage.seen, store.swept());
        seen
    }

    /// What it has seen; `None` when it has to begin anew.
    #[must_use]
    pub fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }
}
