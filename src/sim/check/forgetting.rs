//! A delete is forgotten only when its grace is over and every member known to the one who forgets
//! holds it.
//!
//! Looked at when a node forgets, before anything else happens, and for the first that forgets a
//! delete: that one decides that nobody needs it any more.

use super::Violation;
use crate::kv::{Dot, Stamp};
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};
use crate::sim::host::Host;
use std::time::Duration;

/// What nodes have forgotten too early.
#[derive(Debug)]
pub struct Forgetting {
    grace: Duration,
    broken: Option<String>,
}

impl Forgetting {
    /// Nothing yet, where deletes are remembered for `grace`.
    #[must_use]
    pub fn new(grace: Duration) -> Forgetting {
        Forgetting { grace, broken: None }
    }

    /// Tells the history what the node on a host, which had `peers`, has just forgotten, and judges
    /// it.
    pub fn look(
        &mut self,
        cluster: &Cluster,
        index: usize,
        peers: &[usize],
        history: &mut History,
    ) {
        let host = &cluster.hosts[index];
        let (Some(store), false) = (&host.store, host.is_stranger) else { return };
        let holds = |key: &[u8]| store.entry(key).is_some();
        for (key, dot, stamp) in history.forgot(store.origin(), holds, |dot| host.covers(dot)) {
            let early = self.early(cluster, (index, peers), &key, dot, stamp);
            let name = &host.name;
            let told = early.map(|why| format!("{name} forgot {} {stamp}: {why}", show(&key)));
            self.broken = self.broken.take().or(told);
        }
    }

    /// Why a delete should not have been forgotten.
    fn early(
        &self,
        cluster: &Cluster,
        (index, peers): (usize, &[usize]),
        key: &[u8],
        dot: Dot,
        stamp: Stamp,
    ) -> Option<String> {
        let wall_ms = cluster.now_at(index).wall.0;
        if u128::from(stamp.time.millis()) + self.grace.as_millis() > u128::from(wall_ms) {
            return Some("its grace is not over".to_owned());
        }
        // The memory of a process that has ended is gone with it, whatever its host still shows.
        let lacks =
            |host: &&Host| host.is_up() && !host.covers(dot) && host.entry(key) < Some(stamp);
        let lacking = peers.iter().map(|peer| &cluster.hosts[*peer]).find(lacks);
        lacking.map(|host| format!("{} is a member and lacks it", host.name))
    }

    /// Whether all was forgotten in time.
    ///
    /// # Errors
    /// The first delete forgotten too early.
    pub fn check(&self) -> Result<(), Violation> {
        match &self.broken {
            Some(what) => Err(Violation::new("forgetting", what.clone())),
            None => Ok(()),
        }
    }
}
