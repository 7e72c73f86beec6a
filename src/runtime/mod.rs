//! The impure shell around the node: sockets, clocks, entropy, threads, signals.
//!
//! ```text
//!   http, cli -----> Bridge ----+                          +----> UDP socket
//!   discovery -----> commands --+--> engine thread (Node) -+
//!   connections <--> reports ---+    one owner, no lock    +----> streams thread (TCP)
//! ```
//!
//! Each impurity has one address: [`clock`] reads the clocks, [`entropy`] asks the system for
//! random bytes, [`threads`] spawns, [`signal`] listens to signals, [`process`] asks what all this
//! costs, [`memory`] what it may.

mod agent;
mod alarm;
mod bridge;
pub mod clock;
mod counters;
mod detail;
mod engine;
pub mod entropy;
mod log;
mod mailbox;
pub mod memory;
pub mod process;
mod seals;
pub mod signal;
mod sockets;
mod start;
mod tcp;
pub mod threads;
mod throttle;
mod turns;
mod udp;
mod watchdog;

pub use agent::Agent;
pub use sockets::BindError;
pub use start::{Config, NodeSettings, StartError, start};

#[cfg(test)]
mod tests;
