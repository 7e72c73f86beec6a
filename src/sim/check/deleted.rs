//! Who says that it is ready, and that it holds a delete which has been forgotten, serves nothing
//! of what went with it: a node that slept past the delete has been reset by then.

use super::Violation;
use crate::kv::Dot;
use crate::node::command::Health;
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};

pub(super) fn check(cluster: &Cluster, history: &History) -> Result<(), Violation> {
    for (key, known) in &history.keys {
        let mut buried = known.buried.iter().rev();
        let Some((delete, seq)) = buried.find(|(stamp, _)| known.is_delete(**stamp)) else {
            continue;
        };
        let dot = Dot { origin: delete.origin, seq: *seq };
        for host in cluster.hosts.iter().filter(|host| !host.is_stranger) {
            let is_ready = host.node().is_some_and(|node| node.health() == Health::Ok);
            let live = host.store.as_ref().and_then(|store| store.get(key));
            let Some(live) = live.map(|record| record.stamp()).filter(|_| is_ready) else {
                continue;
            };
            if live < *delete && known.buried.contains_key(&live) && host.covers(dot) {
                let (name, key) = (&host.name, show(key));
                let what = format!("{name} is ready and serves {key} as {live}, deleted {delete}");
                return Err(Violation::new("reset", what));
            }
        }
    }
    Ok(())
}
