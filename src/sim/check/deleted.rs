//! Who says that it is ready, and that it holds a delete which has been forgotten, serves nothing
//! of what went with it: a node that slept past the delete has been reset by then.
//!
//! Clusters that were founded apart may each have forgotten a delete of a write that only the
//! other had. They tell each other of it when they meet, so what is seen counts once it has lasted
//! in runs in which that can be. The same where faults outlast memory: a write may be unknown to
//! one who forgets its delete, and known to another. It stands with the one, and with all who copy
//! from there, until they can tell each other.

use super::Violation;
use crate::kv::{Dot, OriginId, Stamp};
use crate::node::command::Health;
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};
use crate::sim::host::Host;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long what should be deleted may be served, while clusters that have met tell each other.
const MENDED: Duration = Duration::from_secs(5);
/// The same where faults outlast memory: as long as a partition lasts, and some time to tell.
const FORGETFUL: Duration = Duration::from_secs(60);

/// By which process, under which key, as what version.
type Served = (OriginId, Vec<u8>, Stamp);

/// Since when each deleted version is served by a ready node.
#[derive(Debug, Clone)]
pub struct Deleted {
    patience: Duration,
    since: BTreeMap<Served, Instant>,
    broken: Option<String>,
}

impl Deleted {
    /// For a run in which clusters may be founded apart, or faults outlast memory, or neither.
    #[must_use]
    pub fn new(founded_apart: bool, forgetful: bool) -> Deleted {
        let patience = match (founded_apart, forgetful) {
            (_, true) => FORGETFUL,
            (true, false) => MENDED,
            (false, false) => Duration::ZERO,
        };
        Deleted { patience, since: BTreeMap::new(), broken: None }
    }

    /// Judges the node on a host, which has just become ready, where nothing may last.
    pub fn turned(&mut self, cluster: &Cluster, index: usize, history: &History) {
        if self.patience.is_zero() && self.broken.is_none() {
            let served = seen(std::slice::from_ref(&cluster.hosts[index]), history);
            self.broken = served.first().map(told);
        }
    }

    pub(super) fn check(&mut self, cluster: &Cluster, history: &History) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.since);
        for seen in seen(&cluster.hosts, history) {
            let since = before.get(&seen.served).copied().unwrap_or(cluster.now);
            if cluster.now.since(since) >= self.patience {
                self.broken.get_or_insert_with(|| told(&seen));
            }
            self.since.insert(seen.served, since);
        }
        self.broken.take().map_or(Ok(()), |what| Err(Violation::new("reset", what)))
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

/// Everything that is served by some of these hosts and should be deleted.
fn seen<'a>(hosts: &'a [Host], history: &History) -> Vec<Seen<'a>> {
    let mut all = Vec::new();
    for (key, known) in &history.keys {
        let Some(delete) = known.last_buried() else { continue };
        let dot = Dot { origin: delete.origin, seq: known.seq(delete) };
        for host in hosts.iter().filter(|host| !host.is_stranger) {
            let is_ready = host.node().is_some_and(|node| node.health() == Health::Ok);
            let Some(store) = host.store.as_ref().filter(|_| is_ready) else { continue };
            let Some(live) = store.get(key).map(|record| record.stamp()) else { continue };
            if live < delete && known.buried.contains_key(&live) && host.covers(dot) {
                let served = (store.origin(), key.clone(), live);
                all.push(Seen { served, name: &host.name, delete });
            }
        }
    }
    all
}
