//! Who says that it is ready, and that it holds a delete which has been forgotten, serves nothing
//! of what went with it: a node that slept past the delete has been reset by then.
//!
//! Clusters that were founded apart may each have forgotten a delete of a write that only the
//! other had. They tell each other of it when they meet, so what is seen counts once it has lasted
//! in runs in which that can be.

use super::Violation;
use crate::kv::{Dot, OriginId, Stamp};
use crate::node::command::Health;
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};
use crate::time::Instant;
use std::collections::BTreeMap;
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
}

impl Deleted {
    /// For a run in which clusters may be founded apart, or not.
    #[must_use]
    pub fn new(founded_apart: bool) -> Deleted {
        let patience = if founded_apart { MENDED } else { Duration::ZERO };
        Deleted { patience, since: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, cluster: &Cluster, history: &History) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.since);
        for (served, name, delete) in seen(cluster, history) {
            let since = before.get(&served).copied().unwrap_or(cluster.now);
            if cluster.now.since(since) >= self.patience {
                let (_, key, live) = &served;
                let key = show(key);
                let what = format!("{name} is ready and serves {key} as {live}, deleted {delete}");
                return Err(Violation::new("reset", what));
            }
            self.since.insert(served, since);
        }
        Ok(())
    }
}

/// Everything served that should be deleted, with the node's name and the delete.
fn seen<'a>(cluster: &'a Cluster, history: &History) -> Vec<(Served, &'a str, Stamp)> {
    let mut all = Vec::new();
    for (key, known) in &history.keys {
        let mut buried = known.buried.iter().rev();
        let Some((delete, seq)) = buried.find(|(stamp, _)| known.is_delete(**stamp)) else {
            continue;
        };
        let dot = Dot { origin: delete.origin, seq: *seq };
        for host in cluster.hosts.iter().filter(|host| !host.is_stranger) {
            let is_ready = host.node().is_some_and(|node| node.health() == Health::Ok);
            let Some(store) = host.store.as_ref().filter(|_| is_ready) else { continue };
            let Some(live) = store.get(key).map(|record| record.stamp()) else { continue };
            if live < *delete && known.buried.contains_key(&live) && host.covers(dot) {
                all.push(((store.origin(), key.clone(), live), host.name.as_str(), *delete));
            }
        }
    }
    all
}
