//! An acknowledged write that somebody living held is not lost; nothing appears that nobody wrote.

use super::Violation;
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, show};

pub(super) fn check(cluster: &Cluster, history: &History) -> Result<(), Violation> {
    for host in cluster.hosts.iter().filter(|host| host.node().is_some() && !host.is_stranger) {
        let Some(store) = &host.store else { continue };
        for (key, known) in &history.keys {
            let held = store.entry(key);
            let Some(required) = known.required else { continue };
            match &held {
                Some(record) if record.stamp() >= required => {}
                Some(record) if known.outlived(required, record.stamp()) => {}
                // A delete may be forgotten, and then its key is as if it had never been.
                None if known.writes.range(required..).any(|(_, value)| value.is_none()) => {}
                held => {
                    let held = held.as_ref().map(|record| record.stamp().to_string());
                    let what = format!(
                        "{}: {} is {held:?}, {required} was acknowledged",
                        host.name,
                        show(key)
                    );
                    return Err(Violation::new("durability", what));
                }
            }
            if let Some(record) = &held {
                let written = known.writes.get(&record.stamp());
                if written.map(|value| value.as_deref()) != Some(record.value()) {
                    let what = format!("{}: {} is what nobody wrote", host.name, show(key));
                    return Err(Violation::new("validity", what));
                }
            }
        }
    }
    Ok(())
}
