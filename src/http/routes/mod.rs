//! The routes answer requests: from the store at once, from the node when it has replied.
//!
//! ```text
//! Request --> router --> entry, list                  --> Store
//!                   |--> members, keys, metrics       --> Command, pending answer
//!                   |--> entry with ?w=               --> Store, then Command, pending answer
//!                   `--> probes, page                 --> (nothing)
//! ```
//!
//! - [`router`]: finds the route of a request, and counts the answer. It alone knows every route.
//! - [`context`]: what a route may use, and the three forms of its outcome.
//! - [`entry`]: one key; [`concern`] and [`precondition`] are what may be asked of a write.
//! - [`batch`]: several keys in one step; [`load`]: many, a line for each. [`list`]: many keys, as
//!   [`wanted`]; [`listing`] writes them, [`clear`] deletes them.
//! - [`consul`]: the same for clients of Consul's KV API.
//! - [`ofrep`]: flags for OpenFeature's SDKs.
//! - [`openapi`]: what programs are told of all this. [`page`]: a page for a person.
//! - [`probes`]: health, liveness, version.
//! - [`members`], [`keys`], [`metrics`]: what the node is asked for.
//! - [`watch`]: requests that wait for changes, of one key or of many; [`version`]: what a read of
//!   one key may wait for.
//! - [`query`]: what keys, values and parameters in a target spell.

mod batch;
mod clear;
mod concern;
mod consul;
mod context;
mod entry;
mod keys;
mod list;
mod listing;
mod load;
mod members;
mod metrics;
mod ofrep;
mod openapi;
mod page;
mod precondition;
mod probes;
pub mod query;
mod router;
mod version;
mod wanted;
mod watch;

pub(super) use router::Router;
