//! A delete is remembered until its grace is over, and until the node that holds it forgets it
//! itself: whoever else has forgotten it sooner, a comparison does not take it away.

use super::Violation;
use crate::kv::{OriginId, Stamp};
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};
use crate::sim::host::Host;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// The deletes that each process held at the last look.
#[derive(Debug, Clone)]
pub struct Kept {
    grace: Duration,
    held: BTreeMap<(OriginId, Vec<u8>), Stamp>,
    seen: BTreeMap<OriginId, Seen>,
}

/// What else was seen of a process at the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// How many deletes it had forgotten.
    n_forgotten: u64,
    /// Since when it was ready: a reset would have begun that anew.
    ready_since: Option<Instant>,
    is_resetting: bool,
}

impl Seen {
    fn of(host: &Host) -> Option<Seen> {
        let replication = host.node()?.replication();
        Some(Seen {
            n_forgotten: replication.forgotten_total(),
            ready_since: host.standing.ok_since,
            is_resetting: replication.is_resetting(),
        })
    }

    /// How many deletes may have gone since `before`: those that it has forgotten. In a reset any
    /// may go.
    fn gone_max(self, before: Seen) -> Option<u64> {
        let may_reset = self.is_resetting || before.is_resetting;
        let is_same = self.ready_since == before.ready_since && !may_reset;
        is_same.then(|| self.n_forgotten.saturating_sub(before.n_forgotten))
    }
}

impl Kept {
    /// Nothing yet, where deletes are remembered for `grace`.
    #[must_use]
    pub fn new(grace: Duration) -> Kept {
        Kept { grace, held: BTreeMap::new(), seen: BTreeMap::new() }
    }

    pub(super) fn check(&mut self, cluster: &Cluster, history: &History) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.held);
        let seen_before = std::mem::take(&mut self.seen);
        for host in cluster.hosts.iter().filter(|host| host.is_up() && !host.is_stranger) {
            let Some(store) = &host.store else { continue };
            let me = store.origin();
            let seen = Seen::of(host);
            let gone_max =
                seen.zip(seen_before.get(&me)).and_then(|(now, then)| now.gone_max(*then));
            let mut n_gone = 0;
            for key in history.keys.iter().filter(|(_, known)| known.has_deletes()).map(|of| of.0) {
                let place = (me, key.clone());
                if let Some(record) = store.entry(key) {
                    if record.is_tombstone() {
                        self.held.insert(place, record.stamp());
                    }
                    continue;
                }
                let Some(stamp) = before.get(&place) else { continue };
                n_gone += 1;
                let told = |why| format!("{} {why} {}, {stamp}", host.name, show(key));
                if is_early(*stamp, self.grace, host) {
                    return Err(Violation::new("forgetting", told("dropped the delete of")));
                }
                if gone_max.is_some_and(|most| n_gone > most) {
                    let what = told("has not forgotten as many deletes, and lost that of");
                    return Err(Violation::new("forgetting", what));
                }
            }
            self.seen.extend(seen.map(|seen| (me, seen)));
        }
        Ok(())
    }
}

/// Whether the grace of a delete is not over by the latest that a host's clock has shown: it may
/// have been set back since.
fn is_early(stamp: Stamp, grace: Duration, host: &Host) -> bool {
    let over = u128::from(stamp.time.millis()) + grace.as_millis();
    over > u128::from(host.wall_max_ms)
}
