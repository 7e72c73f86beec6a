//! Who says that it is ready, and that it holds a delete which has been forgotten, serves nothing
//! of what went with it: a node that slept past the delete has been reset by then.
//!
//! Clusters that were founded apart may each have forgotten a delete of a write that only the
//! other had. They tell each other of it when they meet, so what is seen counts once it has lasted
//! in runs in which that can be.
//!
//! Where faults outlast memory, a write may be unknown to one who forgets its delete, and known to
//! another. Once it has come to the one it stands, there and with all who copy from there.

use super::Violation;
use crate::kv::{Dot, OriginId, Stamp};
use crate::node::command::Health;
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, KeyHistory, show};
use crate::sim::host::Host;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long what should be deleted may be served, while clusters that have met tell each other.
const MENDED: Duration = Duration::from_secs(5);

/// By which process, under which key, as what version.
type Served = (OriginId, Vec<u8>, Stamp);

/// Since when each deleted version is served by a ready node.
#[derive(Debug, Clone)]
pub struct Deleted {
    patience: Duration,
    since: BTreeMap<Served, Instant>,
    /// Versions, by key, that have come to a node after it had forgotten a later delete of theirs.
    stands: BTreeSet<(Vec<u8>, Stamp)>,
    broken: Option<String>,
}

impl Deleted {
    /// For a run in which clusters may be founded apart, or not.
    #[must_use]
    pub fn new(founded_apart: bool) -> Deleted {
        let patience = if founded_apart { MENDED } else { Duration::ZERO };
        Deleted { patience, since: BTreeMap::new(), stands: BTreeSet::new(), broken: None }
    }

    /// Judges the node on a host, which has just become ready, where nothing may last.
    pub fn turned(&mut self, cluster: &Cluster, index: usize, history: &History) {
        if self.patience.is_zero() && self.broken.is_none() {
            self.see_standing(cluster, history);
            let served = self.seen(std::slice::from_ref(&cluster.hosts[index]), history);
            self.broken = served.first().map(told);
        }
    }

    pub(super) fn check(&mut self, cluster: &Cluster, history: &History) -> Result<(), Violation> {
        self.see_standing(cluster, history);
        let before = std::mem::take(&mut self.since);
        let mut broken = self.broken.take();
        let mut since_when = BTreeMap::new();
        for seen in self.seen(&cluster.hosts, history) {
            let since = before.get(&seen.served).copied().unwrap_or(cluster.now);
            if cluster.now.since(since) >= self.patience {
                broken.get_or_insert_with(|| told(&seen));
            }
            since_when.insert(seen.served, since);
        }
        self.since = since_when;
        broken.map_or(Ok(()), |what| Err(Violation::new("reset", what)))
    }

    /// Notes what has come to a node that had forgotten its delete, where faults outlast memory.
    fn see_standing(&mut self, cluster: &Cluster, history: &History) {
        if !history.forgetful {
            return;
        }
        for (key, known) in &history.keys {
            let Some(delete) = known.last_buried() else { continue };
            for host in &cluster.hosts {
                let origin = host.store.as_ref().map(|store| store.origin());
                let forgot = origin.is_some_and(|origin| known.has_forgotten(origin, delete));
                if let Some(live) = live(host, key).filter(|live| forgot && *live < delete) {
                    self.stands.insert((key.clone(), live));
                }
            }
        }
    }

    /// Everything that is served by some of these hosts and should be deleted.
    fn seen<'a>(&self, hosts: &'a [Host], history: &History) -> Vec<Seen<'a>> {
        let mut all = Vec::new();
        for (key, known) in &history.keys {
            let Some(delete) = known.last_buried() else { continue };
            for host in hosts.iter().filter(|host| serves(host)) {
                let Some(live) = served_past(host, key, known, delete) else { continue };
                let Some(store) = &host.store else { continue };
                if !self.stands.contains(&(key.clone(), live)) {
                    let served = (store.origin(), key.clone(), live);
                    all.push(Seen { served, name: &host.name, delete });
                }
            }
        }
        all
    }
}

/// What should be deleted, who serves it, and the delete.
struct Seen<'a> {
    served: Served,
    name: &'a str,
    delete: Stamp,
}

fn told(Seen { served: (_, key, live), name, delete }: &Seen<'_>) -> String {
    format!("{name} is ready and serves {} as {live}, deleted {delete}", show(key))
}

fn serves(host: &Host) -> bool {
    !host.is_stranger && host.node().is_some_and(|node| node.health() == Health::Ok)
}

/// What is live under a key in the store on a host.
fn live(host: &Host, key: &[u8]) -> Option<Stamp> {
    let held = host.store.as_ref()?.entry(key);
    held.filter(|record| !record.is_tombstone()).map(|record| record.stamp())
}

/// What a host serves of a key although it says that it holds this later delete.
fn served_past(host: &Host, key: &[u8], known: &KeyHistory, delete: Stamp) -> Option<Stamp> {
    let dot = Dot { origin: delete.origin, seq: known.seq(delete) };
    let is_old = |live: &Stamp| *live < delete && known.buried.contains_key(live);
    live(host, key).filter(is_old).filter(|_| host.covers(dot))
}
