//! What clients did and saw: the reference that every check is made against.
//!
//! It is told of each acknowledged write, and of each process's end: a write that only ended
//! processes held may be lost, any other may not.
//!
//! And it is told when a node forgets deletes. Every write of a key that has gone with its delete
//! and that the node covers is *buried*: it must never be seen again. A write that none of those
//! who forgot had known stands, though its stamp may be the earlier one: where the grace is
//! shorter than clocks are wrong or nodes are away, no one is left who could tell.

use crate::kv::{Dot, OriginId, Record, Stamp};
use std::collections::{BTreeMap, BTreeSet};

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
    /// How many of them delete.
    n_deletes: u64,
    /// The latest write that may not be lost.
    pub required: Option<Stamp>,
    /// Writes covered by a node that has forgotten a delete of the key, with their numbers: the
    /// delete too.
    pub buried: BTreeMap<Stamp, u64>,
    /// The number of each write that is not buried.
    open: BTreeMap<Stamp, u64>,
    /// The latest delete that was judged when somebody forgot it.
    judged: Option<Stamp>,
    /// The latest delete that a process has forgotten while it held nothing of the key.
    forgotten_by: BTreeMap<OriginId, Stamp>,
}

impl KeyHistory {
    /// Whether `stamp` deletes.
    #[must_use]
    pub fn is_delete(&self, stamp: Stamp) -> bool {
        self.writes.get(&stamp).is_some_and(Option::is_none)
    }

    /// Whether the key was ever deleted.
    pub(super) fn has_deletes(&self) -> bool {
        self.n_deletes > 0
    }

    /// Whether `required` was a delete and has been forgotten before anybody who forgot it knew of
    /// `held`, or that one deletes too.
    fn outlived(&self, required: Stamp, held: Stamp) -> bool {
        self.is_delete(required)
            && self.buried.contains_key(&required)
            && (self.is_delete(held) || !self.buried.contains_key(&held))
    }

    /// The latest delete that somebody has forgotten.
    pub(super) fn last_buried(&self) -> Option<Stamp> {
        self.buried.keys().rev().copied().find(|stamp| self.is_delete(*stamp))
    }

    /// Whether the process `origin` has forgotten this delete itself.
    pub(super) fn has_forgotten(&self, origin: OriginId, delete: Stamp) -> bool {
        self.forgotten_by.get(&origin).is_some_and(|stamp| *stamp >= delete)
    }

    /// The number of one of its writes among its origin's; 0 for one that nobody made.
    pub(super) fn seq(&self, stamp: Stamp) -> u64 {
        self.seqs.get(&stamp).copied().unwrap_or(0)
    }

    fn unbury(&mut self) {
        self.open.append(&mut self.buried);
    }
}

/// The history of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// By key.
    pub keys: BTreeMap<Vec<u8>, KeyHistory>,
    /// The last version each process has shown of a key.
    shown: BTreeMap<(OriginId, Vec<u8>), Stamp>,
    /// Keys whose delete a process has forgotten, with the writes it had covered by then.
    gone: BTreeMap<(OriginId, Vec<u8>), BTreeSet<Stamp>>,
    /// Writes acknowledged.
    pub n_writes: u64,
    /// Reads made.
    pub n_reads: u64,
    /// Writes that were lost with all who held them.
    pub n_lost_with_holders: u64,
    /// What clients saw that they must not see.
    pub complaints: Vec<String>,
    /// Faults may outlast the memory of deletes and of the dead: a write that nobody knew who
    /// forgot a later delete may stand then.
    pub forgetful: bool,
}

impl History {
    /// Nothing yet. See [`History::forgetful`].
    #[must_use]
    pub fn new(forgetful: bool) -> History {
        History { forgetful, ..History::default() }
    }

    /// Whether `held` may stand although `required` of the same key is later.
    #[must_use]
    pub fn excuses(&self, known: &KeyHistory, required: Stamp, held: Stamp) -> bool {
        self.forgetful && known.outlived(required, held)
    }

    /// A write was acknowledged by the process `origin`, which held `before` of the key. `held` is
    /// the latest version that a living process holds.
    pub fn wrote(
        &mut self,
        key: &[u8],
        before: Option<Stamp>,
        write: Write,
        held: impl FnOnce() -> Option<Stamp>,
    ) {
        self.n_writes += 1;
        let origin = write.stamp.origin;
        if before.is_some_and(|before| before >= write.stamp) {
            self.complain(format!("{} was written below what its node held", show(key)));
        }
        self.shown.insert((origin, key.to_vec()), write.stamp);
        let history = self.keys.entry(key.to_vec()).or_default();
        // After a delete that all have forgotten, what is written counts whatever its stamp.
        let is_after = |required: Stamp| {
            write.stamp > required || (history.is_delete(required) && held() < Some(required))
        };
        if history.required.is_none_or(is_after) {
            history.required = Some(write.stamp);
        }
        history.seqs.insert(write.stamp, write.seq);
        history.n_deletes += u64::from(write.value.is_none());
        history.open.insert(write.stamp, write.seq);
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
                // An earlier delete may come from who has yet to forget it, once the later one is
                // forgotten here, if only for a moment: the key is deleted before and after.
                let known = self.keys.get(key);
                let is_delete = |last| known.is_some_and(|known| known.is_delete(last));
                let is_still_deleted = |last| self.forgetful && value.is_none() && is_delete(last);
                if last.is_some_and(|last| stamp < last && !is_still_deleted(last)) {
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

    /// The process `origin` has forgotten deletes; `holds` and `covers` are of its store. Returns
    /// the deletes that nobody had forgotten before, with their keys.
    pub fn forgot(
        &mut self,
        origin: OriginId,
        holds: impl Fn(&[u8]) -> bool,
        covers: impl Fn(Dot) -> bool,
    ) -> Vec<(Vec<u8>, Dot, Stamp)> {
        let mut deletes = Vec::new();
        // Of a key that nobody has deleted nothing is forgotten.
        let deleted = self.keys.iter_mut().filter(|(_, history)| history.n_deletes > 0);
        for (key, history) in deleted.filter(|(key, _)| !holds(key)) {
            let dot = |stamp: &Stamp, seq: &u64| Dot { origin: stamp.origin, seq: *seq };
            let (newly, open): (BTreeMap<Stamp, u64>, BTreeMap<Stamp, u64>) =
                std::mem::take(&mut history.open)
                    .into_iter()
                    .partition(|(at, seq)| covers(dot(at, seq)));
            history.open = open;
            let latest = newly.iter().rev().find(|(at, _)| history.is_delete(**at));
            if let Some((stamp, seq)) = latest.filter(|(at, _)| history.judged < Some(**at)) {
                deletes.push((key.clone(), dot(stamp, seq), *stamp));
                history.judged = Some(*stamp);
            }
            history.buried.extend(newly);
            let of = |stamp: Stamp| Dot { origin: stamp.origin, seq: history.seq(stamp) };
            if let Some(delete) = history.last_buried().filter(|delete| covers(of(*delete))) {
                history.forgotten_by.insert(origin, delete);
            }
            let place = (origin, key.clone());
            if history.last_buried().is_none()
                || (self.gone.contains_key(&place) && !self.shown.contains_key(&place))
            {
                continue;
            }
            let covered = history.buried.iter().filter(|(stamp, seq)| covers(dot(stamp, seq)));
            let covered: BTreeSet<Stamp> = covered.map(|(stamp, _)| *stamp).collect();
            if self.shown.get(&place).is_some_and(|last| covered.contains(last)) {
                self.shown.remove(&place);
            }
            self.gone.insert(place, covered);
        }
        deletes
    }

    /// Looks at what the process `origin` holds of the keys whose delete it has forgotten.
    pub fn look(&mut self, origin: OriginId, held: impl Fn(&[u8]) -> Option<Record>) {
        let its = self.gone.range((origin, Vec::new())..).take_while(|((of, _), _)| *of == origin);
        let again = its.filter_map(|((_, key), covered)| {
            let record = held(key)?;
            Some((key.clone(), !record.is_tombstone() && covered.contains(&record.stamp())))
        });
        let again: Vec<(Vec<u8>, bool)> = again.collect();
        for (key, is_old) in again {
            if is_old {
                self.complain(format!("{} came back on one node", show(&key)));
            }
            self.gone.remove(&(origin, key));
        }
    }

    /// A process ended; `held_elsewhere` says the latest version of a key that a living process
    /// holds, where a delete that one has forgotten counts as held too; `covered`, whether a living
    /// process covers a write.
    pub fn ended(
        &mut self,
        held_elsewhere: impl Fn(&[u8], Required) -> Option<Stamp>,
        covered: impl Fn(Dot) -> bool,
    ) {
        for (key, history) in &mut self.keys {
            let last = history.last_buried();
            let seq = last.and_then(|stamp| history.seqs.get(&stamp).copied()).unwrap_or(0);
            if last.is_some_and(|stamp| !covered(Dot { origin: stamp.origin, seq })) {
                history.unbury();
            }
            let Some(required) = history.required else { continue };
            let seq = history.seqs.get(&required).copied().unwrap_or(0);
            let is_delete = history.is_delete(required);
            let held = held_elsewhere(key, Required { stamp: required, seq, is_delete });
            if held.is_some_and(|held| held >= required) {
                continue;
            }
            self.n_lost_with_holders += 1;
            history.unbury();
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
