//! GossipyKV: a gossip-replicated key-value store in one small binary.
//!
//! The rooms, in the order to read them:
//!
//! - [`time`], [`rng`], [`limits`]: plain numbers; every bound of the program in one place.
//! - [`wire`]: bytes to values and back, in hashicorp/memberlist's formats. No state.
//! - [`swim`]: who is in the cluster. Typed messages in, outputs out. Knows no key.
//! - [`kv`]: what the cluster remembers. Knows no member.
//! - [`node`]: the pure composition of the two; the state machine every shell runs.
//! - `runtime`: the impure shell: sockets, clocks, signals, on tokio.
//! - `discovery`: finds addresses to try, for ever.
//! - `http`: the REST API in front of the store.
//! - `cli`: the commands.

pub mod limits;
pub mod rng;
pub mod time;

pub mod kv;
pub mod node;
pub mod swim;
pub mod wire;

pub mod discovery;
pub mod http;
pub mod runtime;
pub mod sim;

pub mod cli;
