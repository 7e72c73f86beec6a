//! The REST API in front of the store.
//!
//! ```text
//!   clients ==> gate ==> lanes (tiny_http) ==> routes --> Store
//!                 ^                              |
//!                 `------ pending answers <------'-----> Command, to the node
//! ```
//!
//! - `gate` faces the network: limits, deadlines, framing, trust. It is async, on its own runtime.
//! - `lanes` lead to tiny_http: a few private connections, each with a worker.
//! - `routes` answer: reads and writes of keys go straight to the store on the worker's thread.
//!   Everything else is a [`Command`](crate::node::command::Command), and waits in the gate.
//! - `start` puts them together and ends them. [`readers`] lends out what reads bytes of clients.
//!
//! Below them is the ground, which they all use: `request`, `response`, `failure`, `json`,
//! `percent`, `route`, the `manner` of an answer, `pending` and `long` answers, the `memory` held
//! for clients, `sources` of them, `counters`, `token` and `tokens`, `tls`, [`local`], `hosts`,
//! `throttle`, `config` and the steps of the `shutdown`. `shared` holds what there is only one of.
//!
//! ```text
//!   start --> gate --> lanes --> ground        start --> routes --> ground
//! ```
//!
//! No import runs back up, and none runs in a circle: `tests/it/tidy/circles.rs` checks that.

mod config;
mod counters;
mod failure;
mod gate;
mod hosts;
mod json;
mod lanes;
pub mod local;
mod long;
mod manner;
mod memory;
mod object;
mod pending;
mod percent;
pub mod readers;
mod request;
mod response;
mod route;
mod routes;
mod shared;
mod shutdown;
mod sources;
mod start;
mod throttle;
mod tls;
mod token;
mod tokens;
mod watch;

pub use config::{Config, Timing, Version};
pub use counters::Reason;
pub use hosts::{HostName, NoHostName};
pub use manner::{NoOrigin, Origin};
pub use start::{Server, StartError, start};
pub use tls::{Certificate, CertificateError, Tls};
pub use token::{Token, TokenError};
pub use tokens::{Role, TokenList, Tokens, TokensError, TokensProblem};
