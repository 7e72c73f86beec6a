//! A client that watches ends with what the nodes hold, wherever it was told what.
//!
//! It may know what no node does: a write that was lost with its holders, if it was told of it
//! after its last token, or has not come back since the writer's run was known to be over. And of a
//! key that expires it may know so sooner than a node whose clock is behind, or not know of it,
//! which is as much.

use super::Violation;
use super::convergence::records;
use crate::kv::Record;
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};
use crate::sim::watch::Client;
use std::collections::BTreeMap;

/// What a client may keep that no node holds, as faults outlasted the memory of deletes.
#[derive(Debug, Clone, Copy)]
pub(in crate::sim) struct Excuses<'a> {
    /// Deletes may be forgotten while a fault lasts.
    pub(in crate::sim) is_forgetful: bool,
    /// Halves may have been apart for longer than deletes are remembered.
    pub(in crate::sim) outlived: Option<&'a History>,
}

impl Excuses<'_> {
    /// Whether one half had forgotten a later delete of the key before the other heard of it: by
    /// its token the client had seen that delete.
    fn outlived(&self, known: &Record) -> bool {
        let history = self.outlived.and_then(|history| history.keys.get(known.key()));
        history.is_some_and(|history| history.last_buried() > Some(known.stamp()))
    }
}

/// `is_back` says that the client has just gone on from its token.
pub(in crate::sim) fn check(
    cluster: &Cluster,
    index: usize,
    client: &Client,
    is_back: bool,
    excuses: Excuses<'_>,
) -> Result<(), Violation> {
    let host = &cluster.hosts[index];
    let Some(store) = &host.store else { return Ok(()) };
    let held: BTreeMap<Vec<u8>, Record> = records(store, |record| client.target.has(record.key()))
        .into_iter()
        .map(|record| (record.key().to_vec(), record))
        .collect();
    let mut keys: Vec<&Vec<u8>> = held.keys().chain(client.model.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let coverage = host.node().map(|node| node.replication().coverage()).unwrap_or_default();
    for key in keys {
        let (held, known) = (held.get(key), client.model.get(key));
        let Some(why) = wrong(held, known) else { continue };
        // A snapshot leaves out what has expired by its node's clock.
        if known.is_none_or(|known| Some(known.stamp()) < held.map(Record::stamp))
            && held.is_some_and(|held| may_have_expired(cluster, held))
        {
            continue;
        }
        let may_be_lost = |known: &Record| {
            let dot = known.dot();
            let is_in_token =
                client.token.as_ref().is_some_and(|seen| seen.highest(dot.origin) >= dot.seq);
            // Before the writer's run is known to be over, what is lost may have yet to come.
            let is_over = !coverage.knows(dot.origin) || coverage.ended.last(dot.origin) > 0;
            let is_later = held.is_none_or(|held| held.stamp() < known.stamp());
            let was_forgotten = excuses.is_forgetful && known.is_tombstone();
            is_later
                && (was_forgotten || !(host.covers(dot) || (is_back && is_in_token && is_over)))
        };
        if known.is_some_and(|known| may_be_lost(known) || excuses.outlived(known)) {
            continue;
        }
        let way = if is_back { "that has come back" } else { "on a stream" };
        let what = format!(
            "a client {way} {why}: {} of {:?}; it knows {known:?}, {} holds {held:?}",
            show(key),
            client.target,
            host.name
        );
        return Err(Violation::new("watch", what));
    }
    Ok(())
}

/// Whether it has expired by any clock that a node has had.
fn may_have_expired(cluster: &Cluster, record: &Record) -> bool {
    record.expiry().is_some_and(|expiry| expiry <= cluster.wall_max_ms())
}

/// What is wrong with what is known of a key, beside what is held of it.
fn wrong(held: Option<&Record>, known: Option<&Record>) -> Option<&'static str> {
    let live = |record: Option<&Record>| record.is_some_and(|record| !record.is_tombstone());
    match (held, known) {
        _ if !live(held) && !live(known) => None,
        (Some(held), Some(known)) if held.stamp() == known.stamp() => {
            let is_same = held.value() == known.value();
            (!is_same && !known.has_expired()).then_some("has another value, or missed an expiry")
        }
        (Some(held), Some(known)) if held.stamp() > known.stamp() => Some("missed the latest"),
        (Some(_), Some(_)) => Some("has what is no more"),
        (None, Some(_)) => Some("keeps what is deleted"),
        (_, None) => Some("was not told"),
    }
}
