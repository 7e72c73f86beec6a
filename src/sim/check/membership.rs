//! In the calm everybody sees everybody who lives as alive, where it lives, and counts with nobody
//! else.

use super::Violation;
use crate::sim::cluster::Cluster;
use crate::swim::MemberState;
use std::collections::BTreeSet;
use std::net::SocketAddr;

pub(super) fn check(cluster: &Cluster) -> Result<(), Violation> {
    let living: BTreeSet<(String, SocketAddr)> = cluster
        .hosts
        .iter()
        .filter(|host| host.is_up() && !host.is_stranger)
        .map(|host| (host.name.clone(), host.addr))
        .collect();
    for host in cluster.hosts.iter().filter(|host| host.is_up() && !host.is_stranger) {
        let Some(process) = &host.process else { continue };
        let seen = |state: fn(&MemberState) -> bool| -> BTreeSet<(String, SocketAddr)> {
            let members = process.swim().members().filter(|member| state(&member.state));
            members.map(|member| (member.name.to_string(), member.socket_addr)).collect()
        };
        let alive = seen(|state| *state == MemberState::Alive);
        if let Some((missing, addr)) = living.difference(&alive).next() {
            let what = format!("{} does not see {missing} alive at {addr}", host.name);
            return Err(Violation::new("membership-complete", what));
        }
        let present = seen(|state| matches!(state, MemberState::Alive | MemberState::Suspect));
        if let Some((ghost, addr)) = present.difference(&living).next() {
            let what = format!("{} still counts with {ghost} at {addr}, who is not", host.name);
            return Err(Violation::new("membership-accurate", what));
        }
    }
    Ok(())
}
