//! Who speaks another format of replication is a member and no peer: nothing waits for it.

use super::Violation;
use crate::sim::cluster::Cluster;
use crate::sim::host::Guise;

pub(super) fn check(cluster: &Cluster) -> Result<(), Violation> {
    let incompatible = |guise| guise == Guise::OtherFormat;
    for stranger in cluster.hosts.iter().filter(|host| host.is_up() && incompatible(host.guise)) {
        let Some(origin) = stranger.store.as_ref().map(|store| store.origin()) else { continue };
        for host in cluster.hosts.iter().filter(|host| !host.is_stranger) {
            if host.node().is_some_and(|node| node.replication().has_peer(origin)) {
                let what = format!("{} takes {} for a peer", host.name, stranger.name);
                return Err(Violation::new("incompatible-members-are-no-peers", what));
            }
        }
    }
    Ok(())
}
