//! A node that leaves and says that it leaves nothing behind has handed over what it held: the
//! writes of its own clients, and those of others that it knew when it began to leave, are held by
//! nodes that stay when it ends.

use super::Violation;
use crate::sim::cluster::Cluster;
use crate::sim::history::{History, KeyHistory, Required, show};
use crate::sim::host::Host;
use crate::time::Instant;
use std::time::Duration;

/// Holders may have ended while the node left, or was stopped before: it cannot know that at once.
const SINCE: Duration = Duration::from_secs(6);

/// A write of the node on a host that nobody else holds, now that it has left in good order.
#[must_use]
pub fn not_handed_over(cluster: &Cluster, index: usize, history: &History) -> Option<Violation> {
    let host = &cluster.hosts[index];
    let origin = host.store.as_ref()?.origin();
    let now = cluster.now;
    // It knew, or knows, nobody who stays: it says so in another way.
    if host.had_no_heir || host.node().is_none_or(|node| node.replication().n_peers() == 0) {
        return None;
    }
    if host.standing.went_on + SINCE > now {
        return None;
    }
    let ended = cluster.hosts.iter().filter_map(|other| other.ended_at).max();
    let ended_since = |since: Instant| ended.is_some_and(|at| at >= since);
    let own_may_be_lost = ended.is_some_and(|at| at + SINCE > now);
    // Of others it hands over what it knew at the beginning, to whom it asked since.
    let others_may_be_lost = host.leaving.is_none_or(ended_since);
    let stays = |at: &usize| *at != index && !cluster.hosts[*at].is_stranger;
    let lost = history.keys.iter().find(|(key, known)| {
        let Some(required) = required(host, key, known) else { return false };
        let Required { stamp, seq, .. } = required;
        let is_own = stamp.origin == origin;
        let may_be_lost = if is_own { own_may_be_lost } else { others_may_be_lost };
        if may_be_lost {
            return false;
        }
        let stands = |held| held >= stamp || history.excuses(known, stamp, held);
        let holds = |at: usize| cluster.hosts[at].version(key, required).is_some_and(stands);
        // What a broken copy has left comes by the safety net, as what is past a lost write does.
        let covers = is_own || cluster.left_with(index, stamp.origin, seq);
        covers && holds(index) && !(0..cluster.hosts.len()).filter(stays).any(holds)
    });
    lost.map(|(key, _)| {
        let what = format!(
            "{} left, said to leave nothing, and took the last of {}",
            host.name,
            show(key)
        );
        Violation::new("leave-hands-over", what)
    })
}

/// What has to be handed over of a key: the last write that counts, or a delete after it that the
/// node holds, though it was taken for lost with its writer.
fn required(host: &Host, key: &[u8], known: &KeyHistory) -> Option<Required> {
    let stamp = known.required?;
    let held = host.store.as_ref().and_then(|store| store.entry(key));
    let delete = held.filter(|held| held.is_tombstone() && held.stamp() > stamp);
    let (stamp, is_delete) = match delete {
        Some(delete) => (delete.stamp(), true),
        None => (stamp, known.is_delete(stamp)),
    };
    Some(Required { stamp, seq: known.seq(stamp), is_delete })
}
