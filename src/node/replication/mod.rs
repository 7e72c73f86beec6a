//! The corridor between membership and store: how writes reach every member of our kind.
//!
//! ```text
//!            written                        datagram, frame
//! store --------------> push ----.      .--> receive ----> store.merge, vector
//!                        |  resend|      |      | changed (many members)
//!                        v        v      |      v
//!                     datagrams, links --'    rumors ----> datagrams
//!
//! gaps     a hole in the vector, or a digest that claims more  --> want (datagram) or pull (link)
//! digest   every second to a random peer: heads, root hash      --> gaps, acks, compare
//! compare  equal heads and different hashes, which should not be --> repair (link)
//! walk     slept past forgotten deletes, or damaged              --> all shards compared (link)
//! sweep    forgets tombstones that all hold, folds origins that all hold
//! floor    lets go of folded origins that all have known for long
//! scrub    looks for damaged records, a shard a second           --> dropped, walk (link)
//! renew    a peer holds more of this run than there is            --> another run, walk
//! tails    deletes held past a lost write of a folded origin     --> told to all (link)
//! ```
//!
//! Each of these is a machine of its own: state that nobody else touches, and functions that are
//! lent a `context` and return what others have to do, as a `Next`. They are in `spread`,
//! `repair` and `forget`; what they share is in `facts`. Only `machine` knows two of them.
//!
//! It knows peers, not members: [`PeerInfo`] is all that membership tells it. Sans-IO like all of
//! the core.

mod beacon;
mod capacity;
mod context;
mod due;
mod facts;
mod floor;
mod forget;
mod machine;
mod meet;
pub mod message;
mod next;
mod observe;
#[cfg(feature = "next-format")]
mod played;
mod receive;
mod renew;
mod repair;
mod spread;
mod stats;
#[cfg(test)]
mod tests;

pub use context::Config;
pub(in crate::node) use context::{Out, answer};
pub use facts::peers::PeerInfo;
pub use facts::stage::Stage;
pub(in crate::node) use machine::Replication;
pub use observe::View;
pub use spread::holders::Waiting;
pub use spread::push::COALESCE;
