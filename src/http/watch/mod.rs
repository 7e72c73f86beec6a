//! Waiting for changes: what readers that watch keys have in common.
//!
//! ```text
//! routes: check, register a Watch, park it --> gate: waits for its bell, writes events
//!                                  ^
//! store's feed --bell--> hub: which keys changed --> the watches of these keys
//!                         `--- Command::Coverage --> node
//! ```
//!
//! - [`token`]: where a reader is, as text that is good on every node.
//! - [`hub`]: all that is watched, and the task that tells of changes.
//! - [`bell`]: one watch: what has changed under it since it was looked at.
//! - [`latest`]: what the node has told last, asked for once by all.
//! - [`roster`]: the members, and waiting for others.
//! - [`wish`]: what a client asked for, on its way from the routes to the gate.
//! - [`event`]: events as bytes.
//!
//! A watch holds keys, never values; when it would hold too many it holds none, and its reader
//! looks at everything that it has not seen. So the slowest reader costs a bounded amount.

pub(super) mod bell;
pub(super) mod event;
pub(super) mod hub;
mod latest;
pub(super) mod roster;
pub(super) mod token;
pub(super) mod wish;
