//! All live nodes hold the same: records, hashes, deletes, and what they say to hold.

use super::Violation;
use crate::kv::{OriginId, Record, Store};
use crate::limits::STORE_SHARDS;
use crate::node::Node;
use crate::node::command::Health;
use crate::sim::cluster::Cluster;
use crate::sim::host::Host;
use std::collections::{BTreeMap, BTreeSet};

/// A node to be compared.
struct Seen<'a> {
    name: &'a str,
    host: &'a Host,
    node: &'a Node,
    store: &'a Store,
}

pub(super) fn check(cluster: &Cluster) -> Result<(), Violation> {
    let seen = seen(cluster);
    ready(&seen)?;
    vectors(&seen, |of| cluster.floor_above(of))?;
    hashes(&seen)?;
    deletes(&seen)
}

fn seen(cluster: &Cluster) -> Vec<Seen<'_>> {
    cluster
        .hosts
        .iter()
        .filter(|host| !host.is_stranger)
        .filter_map(|host| {
            let (node, store) = (host.node()?, host.store.as_deref()?);
            Some(Seen { name: &host.name, host, node, store })
        })
        .collect()
}

fn ready(seen: &[Seen<'_>]) -> Result<(), Violation> {
    if let Some(Seen { name, .. }) =
        seen.iter().find(|seen| seen.node.replication().is_to_compare())
    {
        return Err(Violation::new("readiness", format!("{name} has yet to compare its store")));
    }
    match seen.iter().find(|seen| seen.node.health() != Health::Ok) {
        Some(Seen { name, node, .. }) => {
            let why = node.why();
            let what = format!("{name} is {:?} in the calm: {why:?}", node.health());
            Err(Violation::new("readiness", what))
        }
        None => Ok(()),
    }
}

/// Every write known anywhere is known everywhere, by its run or by a floor that is as high as the
/// lowest one `above` it.
fn vectors(
    seen: &[Seen<'_>],
    above: impl Fn(OriginId) -> Option<(u64, u64)>,
) -> Result<(), Violation> {
    let origins: BTreeSet<OriginId> = seen.iter().flat_map(|seen| seen.host.origins()).collect();
    for origin in origins {
        let (floor, last) = above(origin).unwrap_or((u64::MAX, 0));
        let through = |seen: &&Seen<'_>| {
            let by_floor = if seen.host.floor >= floor { last } else { 0 };
            seen.host.contiguous(origin).max(by_floor)
        };
        let (Some(most), Some(least)) =
            (seen.iter().max_by_key(through), seen.iter().min_by_key(through))
        else {
            continue;
        };
        if through(&most) != through(&least) {
            let what = format!(
                "{} has writes of {:016x} up to {}, {} up to {}",
                most.name,
                origin.0,
                through(&most),
                least.name,
                through(&least)
            );
            return Err(Violation::new("vectors", what));
        }
    }
    Ok(())
}

fn hashes(seen: &[Seen<'_>]) -> Result<(), Violation> {
    let Some((first, rest)) = seen.split_first() else { return Ok(()) };
    match rest.iter().find(|other| other.store.root() != first.store.root()) {
        Some(other) => {
            let what = difference(first.store, other.store);
            let what = format!("{} and {} differ: {what}", first.name, other.name);
            Err(Violation::new("convergence", what))
        }
        None => Ok(()),
    }
}

/// A delete that one node remembers, others hold too or have forgotten, never something older.
/// Where no node has forgotten any, all hold it.
fn deletes(seen: &[Seen<'_>]) -> Result<(), Violation> {
    let mut latest: BTreeMap<Vec<u8>, (&str, Record)> = BTreeMap::new();
    for seen in seen {
        for record in records(seen.store, Record::is_tombstone) {
            let known = latest.entry(record.key().to_vec()).or_insert((seen.name, record.clone()));
            if record.stamp() > known.1.stamp() {
                *known = (seen.name, record);
            }
        }
    }
    let may_be_forgotten = seen.iter().any(|seen| seen.node.replication().forgotten_total() > 0);
    for (key, (holder, tombstone)) in latest {
        for Seen { name, store, .. } in seen {
            let older = match store.entry(&key).map(|record| record.stamp()) {
                Some(held) if held < tombstone.stamp() => "something older",
                None if !may_be_forgotten => "nothing",
                _ => continue,
            };
            let key = String::from_utf8_lossy(&key).into_owned();
            let what = format!("{holder} holds a delete of {key}, {name} {older}");
            return Err(Violation::new("convergence", what));
        }
    }
    Ok(())
}

/// Runs that are over have no place in digests any more.
pub(super) fn folding(cluster: &Cluster) -> Result<(), Violation> {
    for Seen { name, node, .. } in seen(cluster) {
        if let Some(origin) = node.replication().unfolded() {
            let what = format!("{name} still tells of {:016x}, whose run is over", origin.0);
            return Err(Violation::new("folding", what));
        }
    }
    Ok(())
}

/// Records of a store that `pick` picks, by key.
pub(super) fn records(store: &Store, pick: impl Fn(&Record) -> bool) -> Vec<Record> {
    let mut records = Vec::new();
    for shard in 0..STORE_SHARDS {
        store.scan_shard(shard, |record| {
            if pick(record) {
                records.push(record.clone());
            }
        });
    }
    records.sort_by(|a, b| a.key().cmp(b.key()));
    records
}

fn difference(a: &Store, b: &Store) -> String {
    let is_live = |record: &Record| !record.is_tombstone();
    let (a, b) = (records(a, is_live), records(b, is_live));
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
