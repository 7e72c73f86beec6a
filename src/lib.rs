//! GossipyKV: a gossip-replicated key-value store in one small binary.
//!
//! The rooms, in the order to read them:
//!
//! - [`time`], [`rng`], [`limits`]: plain numbers; every bound of the program in one place.
//! - [`source`]: whom a connection counts for, where something scarce is shared.
//! - [`wire`]: bytes to values and back, in hashicorp/memberlist's formats. No state.
//! - [`swim`]: who is in the cluster. Typed messages in, outputs out. Knows no key.
//! - [`kv`]: what the cluster remembers. Knows no member.
//! - [`node`]: the pure composition of the two; the state machine every shell runs.
//! - [`sim`]: whole clusters in virtual time, another shell around the same machine.
//! - [`runtime`]: the impure shell: sockets, clocks, signals, on tokio.
//! - [`discovery`]: finds addresses to try, for ever.
//! - [`http`]: the REST API in front of the store.
//! - [`cli`]: the commands.
//!
//! The law of the state machine: [`Node::handle`](node::Node::handle) takes an input, then
//! [`Node::poll`](node::Node::poll) is called until it says
//! [`Output::Timeout`](node::io::Output::Timeout), then the shell waits for the next input or that
//! deadline. `wire`, `swim`, `kv`, `node` and `sim` hold no socket, clock, thread or entropy: all
//! of it comes in as an argument.
//!
//! To read first: [`node::io`], then [`node::Node`]; then `ARCHITECTURE.md` for the way a write
//! and a packet take.

pub mod limits;
pub mod mutation;
pub mod rng;
pub mod source;
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
