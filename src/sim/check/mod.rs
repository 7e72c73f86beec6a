//! What must hold, one small file per promise.
//!
//! A check looks at the whole cluster and says what is wrong, naming the promise. Some are made
//! all along, the others when the calm phase has ended.

mod bounds;
mod convergence;
mod durability;
mod incarnation;
mod membership;
mod resurrection;

pub use incarnation::Incarnations;

use super::cluster::Cluster;
use super::history::History;

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
) -> Result<(), Violation> {
    bounds::check(cluster)?;
    incarnations.check(cluster)?;
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

/// Checks made once, after calm.
///
/// # Errors
/// The first promise found broken.
pub fn finally(cluster: &Cluster, history: &History) -> Result<(), Violation> {
    if cluster.counts.divergences > 0 {
        // The vectors are exact: the safety net must have nothing to do.
        let what = format!("the safety net mended {}", cluster.counts.divergences);
        return Err(Violation::new("divergence", what));
    }
    durability::check(cluster, history)?;
    resurrection::check(cluster, history)
}
