//! In the end every delete is forgotten: nothing holds one back for ever.
//!
//! But for deletes past a write that was lost with its writer: of them no head tells, so nobody
//! learns that everybody holds them, and they stay.
//!
//! Judged once all is calm and clients are silent, when the grace of each delete is over by the
//! clock of whoever holds it, and the dead are forgotten, too.

use super::Violation;
use super::convergence::records;
use crate::kv::{Dot, Record, Store};
use crate::sim::cluster::Cluster;
use crate::sim::history::show;
use crate::sim::host::Host;
use std::time::Duration;

/// How long it takes until the grace of all deletes is over, for those who hold them.
pub(super) fn grace_left(cluster: &Cluster, grace: Duration) -> Duration {
    let left = |(host, store): (&Host, &Store)| {
        let times = deletes(host, store).into_iter().map(|record| time_ms(&record));
        times.max().unwrap_or(0).saturating_sub(wall_ms(cluster, host))
    };
    let left_ms = holders(cluster).map(left).max().unwrap_or(0);
    grace + Duration::from_millis(left_ms)
}

/// Whether nobody holds a delete that has been made, or an expiry that has been, longer ago than
/// `age`.
///
/// # Errors
/// Who still does, and which.
pub(super) fn check(cluster: &Cluster, age: Duration) -> Result<(), Violation> {
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    for (host, store) in holders(cluster) {
        let until = wall_ms(cluster, host).saturating_sub(age_ms);
        let held = deletes(host, store).into_iter().find(|record| time_ms(record) < until);
        if let Some(record) = held {
            let what = format!(
                "{} still holds the delete of {}, {}, number {}",
                host.name,
                show(record.key()),
                record.stamp(),
                record.dot().seq
            );
            return Err(Violation::new("let-go", what));
        }
    }
    Ok(())
}

fn wall_ms(cluster: &Cluster, host: &Host) -> u64 {
    host.clock.read(cluster.now).wall.0
}

/// When it was deleted, or expired.
fn time_ms(record: &Record) -> u64 {
    record.expiry().unwrap_or_else(|| record.stamp().time.millis())
}

fn holders(cluster: &Cluster) -> impl Iterator<Item = (&Host, &Store)> {
    let ours = cluster.hosts.iter().filter(|host| host.node().is_some() && !host.is_stranger);
    ours.filter_map(|host| Some((host, host.store.as_deref()?)))
}

/// The deletes in a store that heads tell of.
fn deletes(host: &Host, store: &Store) -> Vec<Record> {
    if host.node().is_none() || store.stats().n_tombstones == 0 {
        return Vec::new();
    }
    let is_told = |dot: Dot| dot.seq <= host.contiguous(dot.origin);
    records(store, |record| record.is_tombstone() && is_told(record.dot()))
}
