//! The impure shell around the node: sockets, clocks, entropy, threads, signals.
//!
//! ```text
//!   http, cli -----> Bridge ----+                          +----> UDP socket
//!   discovery -----> commands --+--> engine thread (Node) -+
//!   connections <--> reports ---+    one owner, no lock    +----> streams thread (TCP)
//! ```
//!
//! Each impurity has one address: [`clock`] reads the clocks, [`entropy`] asks the system for
//! random bytes, [`threads`] spawns, [`signal`] listens to signals.

#![cfg_attr(not(test), expect(dead_code, reason = "put together by `start`, which needs the node"))]

mod agent;
mod bridge;
pub mod clock;
mod counters;
mod engine;
pub mod entropy;
mod log;
mod mailbox;
pub mod signal;
mod sockets;
mod tcp;
pub mod threads;
mod throttle;
mod udp;

pub use agent::Agent;
pub use sockets::BindError;

#[cfg(test)]
mod tests;
