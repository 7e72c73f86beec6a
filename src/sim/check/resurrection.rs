//! A deleted key does not come back: what is live is later than every delete that counts.

use super::Violation;
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};

pub(super) fn check(cluster: &Cluster, history: &History) -> Result<(), Violation> {
    for host in cluster.hosts.iter().filter(|host| host.node().is_some() && !host.is_stranger) {
        let Some(store) = &host.store else { continue };
        for (key, known) in &history.keys {
            let Some(required) = known.required else { continue };
            let delete = known.writes.range(..=required).rev().find(|(_, value)| value.is_none());
            let (Some((delete, _)), Some(record)) = (delete, store.get(key)) else { continue };
            if record.stamp() < *delete && !known.outlived(*delete, record.stamp()) {
                let what = format!(
                    "{}: {} is live as {}, deleted as {delete}",
                    host.name,
                    show(key),
                    record.stamp()
                );
                return Err(Violation::new("resurrection", what));
            }
        }
    }
    Ok(())
}
