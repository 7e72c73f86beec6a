//! What clients did and saw: the reference that every check is made against.
//!
//! It is told of each acknowledged write, and of each process's end: a write that only ended
//! processes held may be lost, any other may not.

use crate::kv::{OriginId, Stamp};
use std::collections::BTreeMap;

/// One acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its version.
    pub stamp: Stamp,
    /// Its number among its origin's writes.
    pub seq: u64,
    /// The value, `None` for a delete.
    pub value: Option<Vec<u8>>,
}

/// The write of a key that may not be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Required {
    /// Its version.
    pub stamp: Stamp,
    /// Its number among its origin's writes.
    pub seq: u64,
    /// Whether it deletes.
    pub is_delete: bool,
}

/// Everything known of one key.
#[derive(Debug, Clone, Default)]
pub struct KeyHistory {
    /// All acknowledged writes by version.
    pub writes: BTreeMap<Stamp, Option<Vec<u8>>>,
    /// The number of each among its origin's writes.
    seqs: BTreeMap<Stamp, u64>,
    /// The latest write that may not be lost.
    pub required: Option<Stamp>,
}

/// The history of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// By key.
    pub keys: BTreeMap<Vec<u8>, KeyHistory>,
    /// The last version each process has shown of a key.
    shown: BTreeMap<(OriginId, Vec<u8>), Stamp>,
    /// Writes acknowledged.
    pub n_writes: u64,
    /// Reads made.
    pub n_reads: u64,
    /// Writes that were lost with all who held them.
    pub n_lost_with_holders: u64,
    /// What clients saw that they must not see.
    pub complaints: Vec<String>,
}

impl History {
    /// A write was acknowledged by the process `origin`, which held `before` of the key.
    pub fn wrote(&mut self, key: &[u8], before: Option<Stamp>, write: Write) {
        self.n_writes += 1;
        let origin = write.stamp.origin;
        if before.is_some_and(|before| before >= write.stamp) {
            self.complain(format!("{} was written below what its node held", show(key)));
        }
        self.shown.insert((origin, key.to_vec()), write.stamp);
        let history = self.keys.entry(key.to_vec()).or_default();
        history.required = history.required.max(Some(write.stamp));
        history.seqs.insert(write.stamp, write.seq);
        // A version is unique per key only: stamps far ahead of the clock are beaten for their
        // key's sake, and two keys may each be lifted to the same time.
        if history.writes.insert(write.stamp, write.value).is_some() {
            self.complain(format!("two writes of {} have one version", show(key)));
        }
    }

    /// A client read `key` from the process `origin`.
    pub fn read(&mut self, origin: OriginId, key: &[u8], seen: Option<(Stamp, Option<&[u8]>)>) {
        self.n_reads += 1;
        let last = self.shown.get(&(origin, key.to_vec())).copied();
        match seen {
            Some((stamp, value)) => {
                if last.is_some_and(|last| stamp < last) {
                    self.complain(format!("{} went back on one node", show(key)));
                }
                let known = self.keys.get(key).and_then(|history| history.writes.get(&stamp));
                match known {
                    Some(written) if written.as_deref() == value => {}
                    Some(_) => self.complain(format!("{} shows bytes nobody wrote", show(key))),
                    None => self.complain(format!("{} shows a version nobody wrote", show(key))),
                }
                self.shown.insert((origin, key.to_vec()), stamp);
            }
            None => {
                if let Some(last) = last
                    && !self.deleted_at_or_after(key, last)
                {
                    self.complain(format!("{} vanished without a delete", show(key)));
                }
            }
        }
    }

    fn deleted_at_or_after(&self, key: &[u8], stamp: Stamp) -> bool {
        self.keys
            .get(key)
            .is_some_and(|history| history.writes.range(stamp..).any(|(_, value)| value.is_none()))
    }

    /// A process ended; `held_elsewhere` says the latest version of a key that a living process
    /// holds, where a delete that one has forgotten counts as held too.
    pub fn ended(&mut self, held_elsewhere: impl Fn(&[u8], Required) -> Option<Stamp>) {
        for (key, history) in &mut self.keys {
            let Some(required) = history.required else { continue };
            let seq = history.seqs.get(&required).copied().unwrap_or(0);
            let is_delete = history.writes.get(&required).is_some_and(Option::is_none);
            let held = held_elsewhere(key, Required { stamp: required, seq, is_delete });
            if held.is_some_and(|held| held >= required) {
                continue;
            }
            self.n_lost_with_holders += 1;
            history.required = held.and_then(|held| {
                history.writes.range(..=held).next_back().map(|(stamp, _)| *stamp)
            });
        }
    }

    /// Notes a violation.
    pub fn complain(&mut self, what: String) {
        if self.complaints.len() < 20 {
            self.complaints.push(what);
        }
    }
}

/// A key as text.
#[must_use]
pub fn show(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
