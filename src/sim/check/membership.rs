//! In the calm everybody sees everybody who lives as alive, and nobody else.

use super::Violation;
use crate::sim::cluster::Cluster;
use crate::swim::MemberState;
use std::collections::BTreeSet;

pub(super) fn check(cluster: &Cluster) -> Result<(), Violation> {
    let living: BTreeSet<&str> = cluster
        .hosts
        .iter()
        .filter(|host| host.is_up() && !host.is_stranger)
        .map(|host| host.name.as_str())
        .collect();
    for host in cluster.hosts.iter().filter(|host| host.is_up() && !host.is_stranger) {
        let Some(process) = &host.process else { continue };
        let alive: BTreeSet<String> = process
            .swim()
            .members()
            .filter(|member| member.state == MemberState::Alive)
            .map(|member| member.name.to_string())
            .collect();
        if let Some(missing) = living.iter().find(|name| !alive.contains(**name)) {
            let what = format!("{} does not see {missing} alive", host.name);
            return Err(Violation::new("membership-complete", what));
        }
        if let Some(ghost) = alive.iter().find(|name| !living.contains(name.as_str())) {
            let what = format!("{} sees {ghost} alive, who is not", host.name);
            return Err(Violation::new("membership-accurate", what));
        }
    }
    Ok(())
}
