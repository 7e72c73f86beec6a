//! Only a member raises its own incarnation.

use super::Violation;
use crate::sim::cluster::Cluster;
use std::collections::BTreeMap;

/// The highest incarnation each name has given itself.
#[derive(Debug, Clone, Default)]
pub struct Incarnations {
    own: BTreeMap<Vec<u8>, u32>,
}

impl Incarnations {
    pub(super) fn check(&mut self, cluster: &Cluster) -> Result<(), Violation> {
        for (name, last) in &cluster.last_incarnations {
            let own = self.own.entry(name.clone()).or_default();
            *own = (*last).max(*own);
        }
        for process in cluster.hosts.iter().filter_map(|host| host.process.as_ref()) {
            let me = process.swim().me();
            let own = self.own.entry(me.name.as_bytes().to_vec()).or_default();
            *own = me.incarnation.max(*own);
        }
        for host in &cluster.hosts {
            let Some(process) = &host.process else { continue };
            process.swim().check().map_err(|what| Violation::new("membership-table", what))?;
            for member in process.swim().members() {
                let own = self.own.get(member.name.as_bytes());
                if own.is_some_and(|own| member.incarnation > *own) {
                    let what = format!(
                        "{} holds incarnation {} of {}, who is at {own:?}",
                        host.name, member.incarnation, member.name
                    );
                    return Err(Violation::new("incarnation", what));
                }
            }
        }
        Ok(())
    }
}
