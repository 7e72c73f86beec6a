//! Reading the store as folders: of the keys behind a delimiter only what stands before it.
//!
//! A folder is passed over as a whole, however many keys are in it: after its first key the listing
//! goes on behind its last possible one.

use super::list::Listing;
use super::record::Record;
use super::store::Store;
use crate::time::Now;
use std::ops::Bound;

/// Fewest records that are asked for at once: most may be in one folder.
const AT_ONCE_MIN: usize = 16;

/// A page of keys and folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folders {
    /// Keys that are in no folder below the prefix, in order.
    pub items: Vec<Record>,
    /// Folders below the prefix, each with the prefix and up to its delimiter, in order.
    pub folders: Vec<Vec<u8>>,
    /// The last key or folder of the page, when more follow it.
    pub next: Option<Vec<u8>>,
}

impl Store {
    /// Up to `limit` keys and folders below `prefix`, those up to and including `after` left out.
    /// The folder of a key ends with the first `delimiter` behind the prefix, an UTF-8 text of at
    /// least one byte; a key without one is in none.
    #[must_use]
    pub fn list_folders(
        &self,
        now: Now,
        prefix: &[u8],
        delimiter: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Folders {
        let mut page = Folders::default();
        let folder = |key: &[u8]| folder_of(key, prefix, delimiter).map(<[u8]>::to_vec);
        let mut from = match after {
            Some(after) if after >= prefix => match folder(after) {
                Some(whole) if whole == after => behind(&whole),
                _ => Bound::Excluded(after.to_vec()),
            },
            _ => Bound::Included(prefix.to_vec()),
        };
        let mut at_once = limit.max(1);
        while page.len() < limit {
            let listing = self.page_from(now, prefix, as_slice(&from), at_once, None);
            let before = page.len();
            for record in listing.items {
                let in_folder = folder(record.key());
                from = match &in_folder {
                    Some(folder) => behind(folder),
                    None => Bound::Excluded(record.key().to_vec()),
                };
                if in_folder.is_some() && in_folder.as_ref() == page.folders.last() {
                    continue;
                }
                if page.len() == limit {
                    return page;
                }
                page.next = Some(in_folder.clone().unwrap_or_else(|| record.key().to_vec()));
                match in_folder {
                    Some(folder) => page.folders.push(folder),
                    None => page.items.push(record),
                }
            }
            if listing.next.is_none() {
                page.next = None;
                return page;
            }
            at_once = (2 * (page.len() - before)).clamp(AT_ONCE_MIN, limit.max(AT_ONCE_MIN));
        }
        let more = self.page_from(now, prefix, as_slice(&from), 1, None);
        page.next = page.next.filter(|_| !more.items.is_empty());
        page
    }
}

impl Folders {
    /// Keys and folders on the page.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len() + self.folders.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys as a listing, and the folders that belong to it.
    #[must_use]
    pub fn split(self) -> (Listing, Vec<Vec<u8>>) {
        (Listing { items: self.items, next: self.next }, self.folders)
    }
}

/// The folder below `prefix` that a key is in.
fn folder_of<'k>(key: &'k [u8], prefix: &[u8], delimiter: &[u8]) -> Option<&'k [u8]> {
    let rest = key.strip_prefix(prefix)?;
    let at = rest.windows(delimiter.len()).position(|part| part == delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// Where it goes on behind all keys of a folder: none has a greater byte in place of the last, and
/// in UTF-8 no byte is the greatest.
fn behind(folder: &[u8]) -> Bound<Vec<u8>> {
    let mut behind = folder.to_vec();
    if let Some(last) = behind.last_mut() {
        *last = last.saturating_add(1);
    }
    Bound::Included(behind)
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{now, store};
    use super::*;
    use crate::rng::Rng;
    use std::collections::BTreeSet;

    fn text(key: &[u8]) -> String {
        String::from_utf8(key.to_vec()).expect("UTF-8")
    }

    /// All pages of a listing, one after the other, in the order of keys and folders.
    fn all(store: &Store, prefix: &str, delimiter: &str, limit: usize) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None::<Vec<u8>>);
        loop {
            let (prefix, delimiter) = (prefix.as_bytes(), delimiter.as_bytes());
            let page = store.list_folders(now(1), prefix, delimiter, after.as_deref(), limit);
            assert!(page.len() <= limit && (page.next.is_none() || page.len() == limit));
            let mut names: Vec<String> = page.items.iter().map(|item| text(item.key())).collect();
            names.extend(page.folders.iter().map(|folder| text(folder)));
            names.sort();
            assert!(page.next.is_none() || page.next.as_deref().map(text) == names.last().cloned());
            all.extend(names);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    #[test]
    fn keys_behind_a_delimiter_are_told_as_one_folder() {
        let store = store();
        for key in ["a", "a/x", "a/b/c", "a/b/d", "a/b", "a/", "b//c", "\u{e9}/\u{fc}", "b0"] {
            store.put(now(1), key.as_bytes(), b"", None).expect("room");
        }
        store.put(now(1), b"gone/x", b"", None).expect("room");
        store.delete(now(1), b"gone/x").expect("room");
        for limit in [1, 2, 3, 1000] {
            assert_eq!(all(&store, "", "/", limit), ["a", "a/", "b/", "b0", "\u{e9}/"]);
            assert_eq!(all(&store, "a/", "/", limit), ["a/", "a/b", "a/b/", "a/x"]);
            assert_eq!(all(&store, "b/", "/", limit), ["b//"]);
            assert_eq!(all(&store, "a", "/", limit), ["a", "a/"]);
            assert_eq!(all(&store, "c", "/", limit), [""; 0]);
            assert_eq!(all(&store, "", "//", limit).len(), 9);
        }
        // In the middle of a folder the rest of it is told as the folder again.
        let page = store.list_folders(now(1), b"", b"/", Some(b"a/b/c"), 1);
        assert_eq!(page.folders, [b"a/".to_vec()]);
        assert!(store.list_folders(now(1), b"", b"/", None, 0).is_empty());
    }

    #[test]
    fn folders_of_any_size_are_what_a_list_of_all_keys_says() {
        let mut rng = Rng::from_seed(7);
        for _ in 0..20 {
            let (store, mut expected) = (store(), BTreeSet::new());
            for _ in 0..rng.below(400) {
                let mut key = String::from("p");
                for _ in 0..1 + rng.below(3) {
                    key.push_str(["/", "ab", "c", "a/", "0"][rng.below(5)]);
                }
                store.put(now(1), key.as_bytes(), b"", None).expect("room");
                let end = key[1..].find('/').map_or(key.len(), |at| at + 2);
                expected.insert(key[..end].to_owned());
            }
            let limit = 1 + rng.below(40);
            assert_eq!(all(&store, "p", "/", limit), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
