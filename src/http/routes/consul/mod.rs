//! Consul's KV API: what its clients ask of a key-value store, and nothing that needs consensus.
//!
//! ```text
//! /v1/kv/{key}        kv: one key       listing: a prefix        \
//! /v1/txn             txn: several in one step                    > index: the numbers of versions
//! /v1/status, /v1/agent                 cluster: who serves      |
//! /v1/catalog, /v1/health               catalog: who is there    /
//!                     blocking: reads that wait for another index
//! ```
//!
//! - [`index`]: indexes made of content, the same on every node.
//! - [`asked`]: keys, parameters, durations; unknown parameters are passed over, as Consul does.
//! - [`concern`]: how many members hold a write before it is answered.
//! - [`answers`]: headers and entries. Errors are plain text: the router sees to that.
//!
//! Sessions and locks are refused: two nodes could both grant one.

mod answers;
mod asked;
mod blocking;
mod catalog;
mod cluster;
mod concern;
mod index;
mod kv;
mod listing;
mod txn;
mod txn_body;

pub(super) use cluster::answer as cluster;
pub(super) use kv::answer as kv;
pub(super) use txn::answer as txn;
