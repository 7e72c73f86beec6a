//! Each node's hybrid clock rises, and stays near what its own wall clock has shown.

use super::Violation;
use crate::kv::{HlcTime, OriginId};
use crate::limits::CLOCK_AHEAD_MAX;
use crate::sim::cluster::Cluster;
use std::collections::BTreeMap;

/// A stamp may count on within the last millisecond it followed.
const SLACK_MS: u64 = 1;

/// The last hybrid time seen of each process.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    last: BTreeMap<OriginId, HlcTime>,
}

impl Clocks {
    pub(super) fn check(&mut self, cluster: &Cluster) -> Result<(), Violation> {
        let ahead_ms = u64::try_from(CLOCK_AHEAD_MAX.as_millis()).unwrap_or(u64::MAX);
        for host in cluster.hosts.iter().filter(|host| host.is_up()) {
            let Some(store) = &host.store else { continue };
            let hlc = store.stats().hlc;
            let last = self.last.entry(store.origin()).or_default();
            if hlc < *last {
                let what = format!("{}: from {last:?} back to {hlc:?}", host.name);
                return Err(Violation::new("clock-rises", what));
            }
            *last = hlc;
            let bound_ms = host.wall_max_ms + ahead_ms + SLACK_MS;
            if hlc.millis() > bound_ms {
                let what = format!("{}: at {} ms, bound {bound_ms} ms", host.name, hlc.millis());
                return Err(Violation::new("clock-bounded", what));
            }
        }
        Ok(())
    }
}
