//! Datagrams fit their budget; nobody who is not of our kind gets our bytes; no node takes itself
//! for set back to an earlier state, as none is.

use super::Violation;
use crate::limits::DATAGRAM_LEN_MAX;
use crate::sim::cluster::Cluster;
use crate::sim::host::Process;

pub(super) fn check(cluster: &Cluster) -> Result<(), Violation> {
    if let Some(what) = &cluster.stuck {
        return Err(Violation::new("progress", what.clone()));
    }
    let longest = cluster.counts.datagram_len_max;
    if longest > DATAGRAM_LEN_MAX {
        return Err(Violation::new("datagram-budget", format!("a datagram of {longest} bytes")));
    }
    // A flipped bit in what no checksum and no key protects may make anything of anything.
    let felt = &cluster.network.felt;
    if felt.corrupted > 0 && felt.encrypted == 0 {
        return Ok(());
    }
    if cluster.counts.set_backs > 0 {
        let what = "a peer said to hold more writes than their node had made".to_owned();
        return Err(Violation::new("nobody-is-set-back", what));
    }
    for host in &cluster.hosts {
        if let Some(Process::Foreign(foreign)) = &host.process
            && foreign.n_user_messages > 0
        {
            let what = format!("{} received {}", host.name, foreign.n_user_messages);
            return Err(Violation::new("foreign-members-get-no-data", what));
        }
    }
    Ok(())
}
