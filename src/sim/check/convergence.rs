//! All live nodes hold the same: records, hashes, and what they say to hold.

use super::Violation;
use crate::kv::{Record, Store};
use crate::limits::STORE_SHARDS;
use crate::node::command::Health;
use crate::sim::cluster::Cluster;

pub(super) fn check(cluster: &Cluster) -> Result<(), Violation> {
    let mut stores = cluster
        .hosts
        .iter()
        .filter(|host| host.node().is_some() && !host.is_stranger)
        .filter_map(|host| host.store.as_deref().map(|store| (host.name.as_str(), store)));
    let Some((first_name, first)) = stores.next() else { return Ok(()) };
    for (name, store) in stores {
        if store.root() != first.root() {
            let what = format!("{first_name} and {name} differ: {}", difference(first, store));
            return Err(Violation::new("convergence", what));
        }
    }
    for host in &cluster.hosts {
        if let Some(node) = host.node()
            && node.health() != Health::Ok
        {
            let what = format!("{} is {:?} in the calm", host.name, node.health());
            return Err(Violation::new("readiness", what));
        }
    }
    Ok(())
}

/// Live records of a store, by key.
fn live(store: &Store) -> Vec<Record> {
    let mut records = Vec::new();
    for shard in 0..STORE_SHARDS {
        store.scan_shard(shard, |record| {
            if !record.is_tombstone() {
                records.push(record.clone());
            }
        });
    }
    records.sort_by(|a, b| a.key().cmp(b.key()));
    records
}

fn difference(a: &Store, b: &Store) -> String {
    let (a, b) = (live(a), live(b));
    let only = |x: &[Record], y: &[Record]| {
        x.iter()
            .find(|record| !y.contains(record))
            .map(|record| format!("{} {}", String::from_utf8_lossy(record.key()), record.stamp()))
    };
    match (only(&a, &b), only(&b, &a)) {
        (Some(a), Some(b)) => format!("one has {a}, the other {b}"),
        (Some(a), None) => format!("only the first has {a}"),
        (None, Some(b)) => format!("only the second has {b}"),
        (None, None) => "their hashes only".to_owned(),
    }
}
