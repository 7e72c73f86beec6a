//! A delete is remembered until its grace is over, whoever else has forgotten it sooner.

use super::Violation;
use crate::kv::{OriginId, Stamp};
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};
use std::collections::BTreeMap;
use std::time::Duration;

/// The deletes that each process held at the last look.
#[derive(Debug, Clone)]
pub struct Kept {
    grace: Duration,
    held: BTreeMap<(OriginId, Vec<u8>), Stamp>,
}

impl Kept {
    /// Nothing yet, where deletes are remembered for `grace`.
    #[must_use]
    pub fn new(grace: Duration) -> Kept {
        Kept { grace, held: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, cluster: &Cluster, history: &History) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.held);
        for host in cluster.hosts.iter().filter(|host| host.is_up() && !host.is_stranger) {
            let Some(store) = &host.store else { continue };
            for key in history.keys.iter().filter(|(_, known)| known.has_deletes()).map(|of| of.0) {
                let place = (store.origin(), key.clone());
                let Some(record) = store.entry(key) else {
                    let Some(stamp) = before.get(&place) else { continue };
                    let over = u128::from(stamp.time.millis()) + self.grace.as_millis();
                    // By the latest that its clock has shown: it may have been set back since.
                    if over > u128::from(host.wall_max_ms) {
                        let (name, key) = (&host.name, show(key));
                        let what = format!("{name} dropped the delete of {key}, {stamp}");
                        return Err(Violation::new("forgetting", what));
                    }
                    continue;
                };
                if record.is_tombstone() {
                    self.held.insert(place, record.stamp());
                }
            }
        }
        Ok(())
    }
}
