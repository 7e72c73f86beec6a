//! What must hold, one small file per promise.
//!
//! A check looks at the whole cluster and says what is wrong, naming the promise. Some are made
//! all along, the others when the calm phase has ended.

mod bounds;
mod clock;
mod convergence;
mod deleted;
mod durability;
mod forgetting;
mod handover;
pub mod holders;
mod incarnation;
mod kept;
mod let_go;
mod membership;
mod quiet;
mod ready;
mod resurrection;
mod strangers;
pub(in crate::sim) mod watched;

pub use clock::Clocks;
pub use deleted::Deleted;
pub use forgetting::Forgetting;
pub use handover::not_handed_over;
pub use incarnation::Incarnations;
pub use kept::Kept;
pub use ready::Ready;

use super::cluster::{Cluster, Counts};
use super::history::History;
use crate::kv::Store;
use std::time::Duration;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(super) fn new(invariant: &'static str, what: impl Into<String>) -> Violation {
        Violation { invariant, what: what.into() }
    }
}

/// Checks made at every look, chaos or not.
///
/// # Errors
/// The first promise found broken.
pub fn always(
    cluster: &Cluster,
    history: &History,
    incarnations: &mut Incarnations,
    clocks: &mut Clocks,
    deleted: &mut Deleted,
    kept: &mut Kept,
) -> Result<(), Violation> {
    bounds::check(cluster)?;
    incarnations.check(cluster)?;
    clocks.check(cluster)?;
    deleted.check(cluster, history)?;
    kept.check(cluster, history)?;
    strangers::check(cluster)?;
    if let Some(what) = &cluster.waits.broken {
        return Err(Violation::new("write-concern", what.clone()));
    }
    match history.complaints.first() {
        Some(what) => Err(Violation::new("clients", what.clone())),
        None => Ok(()),
    }
}

/// Whether calm has been reached: everything that the checks of the end ask for.
///
/// # Errors
/// What is still missing.
pub fn settled(cluster: &Cluster) -> Result<(), Violation> {
    membership::check(cluster)?;
    convergence::check(cluster)
}

/// Whether the runs that are over are folded. A member forgotten later begins it anew.
///
/// # Errors
/// Who still tells of whom.
pub fn folded(cluster: &Cluster) -> Result<(), Violation> {
    convergence::folding(cluster)
}

/// Whether a cluster of `n_nodes` that nobody uses has been quiet for `time`.
///
/// # Errors
/// How much it has sent instead.
pub fn quiet(
    before: &Counts,
    after: &Counts,
    n_nodes: usize,
    time: Duration,
) -> Result<(), Violation> {
    quiet::check(before, after, n_nodes, time)
}

/// How long it takes until the grace of all deletes is over, for those who hold them.
#[must_use]
pub fn grace_left(cluster: &Cluster, grace: Duration) -> Duration {
    let_go::grace_left(cluster, grace)
}

/// Whether all deletes made longer ago than `age` are forgotten.
///
/// # Errors
/// Who still holds which.
pub fn let_go(cluster: &Cluster, age: Duration) -> Result<(), Violation> {
    let_go::check(cluster, age)
}

/// Checks made once, after calm.
///
/// # Errors
/// The first promise found broken.
pub fn finally(cluster: &Cluster, history: &History) -> Result<(), Violation> {
    // The vectors are exact: the safety net must have nothing to do. But where the dead are
    // forgotten before a partition heals, so may be a delete that the other side has yet to hear
    // of; a write from there that is older then meets nodes with and without the delete.
    if cluster.counts.divergences > 0 && !history.forgetful {
        let what = format!("the safety net mended {}", cluster.counts.divergences);
        return Err(Violation::new("divergence", what));
    }
    for host in cluster.hosts.iter().filter(|host| host.node().is_some() && !host.is_stranger) {
        let Some(store) = &host.store else { continue };
        kept(&host.name, store, history)?;
    }
    Ok(())
}

/// Checks of one store, of a node that is called `name`, when its cluster has settled. For a node
/// of any kind, simulated or not: `tests/chaos` asks it of real processes.
///
/// # Errors
/// The first promise found broken.
pub fn kept(name: &str, store: &Store, history: &History) -> Result<(), Violation> {
    durability::check(name, store, history)?;
    resurrection::check(name, store, history)
}
