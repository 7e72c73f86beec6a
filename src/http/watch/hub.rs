//! All that is watched, and the task that tells the watches of changes.
//!
//! ```text
//! feed's bell --> take the keys --> whose are they? --> ask the node what it holds --> ring them
//!                                                       (keys that came meanwhile, too)
//! ```
//!
//! The order is what makes tokens right: what the node says to hold was in the feed before. So a
//! watch that has written out its keys has written out all that the answer covers.

use super::bell::{Batch, Bell, Told};
use super::latest::Latest;
use crate::kv::{Changes, Coverage, Target};
use crate::node::command::{Bridge, Command, Reply};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// Least time between two rounds: changes that come closer together are told together.
const PAUSE: Duration = Duration::from_millis(1);
/// How often every watch is rung although nothing has changed: for a token that is up to date, and
/// a sign of life that proxies see.
const IDLE: Duration = Duration::from_secs(15);

/// What is watched.
pub(in crate::http) struct Hub {
    bridge: Arc<dyn Bridge>,
    watched: Mutex<Watched>,
    n_watches: AtomicUsize,
    latest: Latest<Coverage>,
    changed: Arc<Notify>,
}

/// The watches of one target, by a number of their own.
type Bells = BTreeMap<u64, Arc<Bell>>;

/// Those of each key, or of each prefix.
type ByName = HashMap<Box<[u8]>, Bells>;

#[derive(Default)]
struct Watched {
    next: u64,
    keys: ByName,
    prefixes: ByName,
    /// Of each length of a prefix, how many watched prefixes have it.
    lens: BTreeMap<usize, usize>,
}

/// One watch; it ends when dropped.
pub(in crate::http) struct Watch {
    hub: Arc<Hub>,
    number: u64,
    target: Target,
    bell: Arc<Bell>,
}

impl Hub {
    pub(in crate::http) fn new(bridge: Arc<dyn Bridge>) -> Arc<Hub> {
        let changed = Arc::new(Notify::new());
        let bell = Arc::clone(&changed);
        bridge.store().set_bell(Box::new(move || bell.notify_one()));
        Arc::new(Hub {
            latest: Latest::new(Arc::clone(&bridge)),
            bridge,
            watched: Mutex::default(),
            n_watches: AtomicUsize::new(0),
            changed,
        })
    }

    /// Watches a target from now on: what changes after this call rings the watch.
    pub(in crate::http) fn watch(self: &Arc<Hub>, target: Target) -> Watch {
        let bell = Arc::new(Bell::default());
        let mut watched = self.watched.lock();
        let number = watched.add(&target, &bell);
        if self.n_watches.fetch_add(1, Ordering::Relaxed) == 0 {
            self.bridge.store().switch_feed(true);
        }
        drop(watched);
        Watch { hub: Arc::clone(self), number, target, bell }
    }

    /// Watches there are.
    pub(in crate::http) fn n_watches(&self) -> usize {
        self.n_watches.load(Ordering::Relaxed)
    }

    /// What the node holds, as it said at most `age` ago; `None` when it does not say.
    pub(in crate::http) async fn coverage(&self, age: Duration) -> Option<Arc<Coverage>> {
        let young = (age > Duration::ZERO).then(|| self.latest.within(age)).flatten();
        if young.is_some() {
            return young;
        }
        let read = |reply| match reply {
            Reply::Coverage(coverage) => Some(coverage),
            _ => None,
        };
        self.latest.ask(Command::Coverage, read).await
    }

    /// What the node held when it was last asked.
    pub(in crate::http) fn latest(&self) -> Option<Arc<Coverage>> {
        self.latest.get()
    }

    /// Tells of changes for as long as it is polled.
    pub(in crate::http) async fn run(self: Arc<Hub>) {
        let mut idle = tokio::time::interval(IDLE);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one comes at once.
        idle.tick().await;
        loop {
            let is_idle = tokio::select! {
                () = self.changed.notified() => false,
                _ = idle.tick() => true,
            };
            let mut told = self.note(&self.bridge.store().take_changes());
            if is_idle {
                told = self.watched.lock().all();
            }
            if !told.is_empty() {
                let coverage = self.coverage(Duration::ZERO).await;
                told.extend(self.note(&self.bridge.store().take_changes()));
                told.values().for_each(|bell| bell.ring(coverage.as_ref()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Notes changes at the watches that they concern; returns those.
    fn note(&self, changes: &Changes) -> Bells {
        let watched = self.watched.lock();
        if changes.is_overrun {
            let all = watched.all();
            all.values().for_each(|bell| bell.note(None));
            return all;
        }
        let mut told = Bells::new();
        for (bells, batch) in watched.concerned(&changes.keys) {
            let batch = Arc::new(batch);
            for (number, bell) in bells {
                bell.note(Some(&batch));
                told.insert(*number, Arc::clone(bell));
            }
        }
        told
    }
}

impl Watched {
    fn all(&self) -> Bells {
        let all = self.keys.values().chain(self.prefixes.values()).flatten();
        all.map(|(number, bell)| (*number, Arc::clone(bell))).collect()
    }

    fn bells(&mut self, target: &Target) -> (&mut ByName, Box<[u8]>) {
        match target {
            Target::Key(key) => (&mut self.keys, key.clone()),
            Target::Prefix(prefix) => (&mut self.prefixes, prefix.clone()),
        }
    }

    fn add(&mut self, target: &Target, bell: &Arc<Bell>) -> u64 {
        let number = self.next;
        self.next += 1;
        let (bells, name) = self.bells(target);
        let of_target = bells.entry(name).or_default();
        let is_first = of_target.is_empty();
        of_target.insert(number, Arc::clone(bell));
        if let (Target::Prefix(prefix), true) = (target, is_first) {
            *self.lens.entry(prefix.len()).or_default() += 1;
        }
        number
    }

    fn remove(&mut self, target: &Target, number: u64) {
        let (bells, name) = self.bells(target);
        let Some(of_target) = bells.get_mut(&name) else { return };
        of_target.remove(&number);
        if !of_target.is_empty() {
            return;
        }
        bells.remove(&name);
        if let Target::Prefix(prefix) = target
            && let Some(n) = self.lens.get_mut(&prefix.len())
        {
            *n -= 1;
            if *n == 0 {
                self.lens.remove(&prefix.len());
            }
        }
    }

    /// The watches that these keys concern, with the keys that do.
    fn concerned(&self, keys: &BTreeSet<Box<[u8]>>) -> Vec<(&Bells, Batch)> {
        let mut batches: BTreeMap<Target, Batch> = BTreeMap::new();
        for key in keys {
            if self.keys.contains_key(key) {
                batches.entry(Target::Key(key.clone())).or_default().insert(key.clone());
            }
            for len in self.lens.keys().take_while(|len| **len <= key.len()) {
                if self.prefixes.contains_key(&key[..*len]) {
                    let target = Target::Prefix(key[..*len].into());
                    batches.entry(target).or_default().insert(key.clone());
                }
            }
        }
        let bells = |target: &Target| match target {
            Target::Key(key) => self.keys.get(key),
            Target::Prefix(prefix) => self.prefixes.get(prefix),
        };
        batches.into_iter().filter_map(|(target, batch)| Some((bells(&target)?, batch))).collect()
    }
}

impl Watch {
    /// What is watched.
    pub(in crate::http) fn target(&self) -> &Target {
        &self.target
    }

    /// Returns when something has changed since [`take`](Watch::take) was called last.
    pub(in crate::http) async fn rung(&self) {
        self.bell.rung().await;
    }

    /// What has changed since the last call, or since the watch began.
    pub(in crate::http) fn take(&self) -> Told {
        self.bell.take()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.hub.watched.lock();
        watched.remove(&self.target, self.number);
        if self.hub.n_watches.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.hub.bridge.store().switch_feed(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Target {
        Target::Prefix(text.as_bytes().into())
    }

    fn changes(keys: &[&str]) -> BTreeSet<Box<[u8]>> {
        keys.iter().map(|key| key.as_bytes().into()).collect()
    }

    #[test]
    fn keys_find_those_that_watch_them_and_nobody_else() {
        let mut watched = Watched::default();
        let bell = Arc::new(Bell::default());
        let targets = [prefix(""), prefix("a/"), prefix("a/b"), Target::Key(b"a/b"[..].into())];
        let numbers: Vec<u64> = targets.iter().map(|target| watched.add(target, &bell)).collect();
        let concerned = |watched: &Watched, keys: &[&str]| {
            let found = watched.concerned(&changes(keys));
            let sizes = found.iter().map(|(bells, batch)| (bells.len(), batch.len()));
            sizes.collect::<Vec<_>>()
        };
        assert_eq!(concerned(&watched, &["a/b"]), [(1, 1); 4]);
        assert_eq!(concerned(&watched, &["x", "y"]), [(1, 2)]);
        assert_eq!(concerned(&watched, &["a/x", "a/bc"]), [(1, 2), (1, 2), (1, 1)]);
        watched.add(&prefix("a/"), &bell);
        assert_eq!(concerned(&watched, &["a/"]), [(1, 1), (2, 1)]);
        for (target, number) in targets.iter().zip(numbers) {
            watched.remove(target, number);
            watched.remove(target, number);
        }
        assert_eq!(concerned(&watched, &["a/b"]), [(1, 1)]);
        assert_eq!((watched.lens.len(), watched.keys.len()), (1, 0));
    }
}
