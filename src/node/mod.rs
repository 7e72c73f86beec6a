//! The pure composition of membership and store that every shell runs.
//!
//! [`Node`] owns [`crate::swim`] and [`replication`], which do not know each other: it takes the
//! layers off what arrives, hands each message to the one it is for, and tells replication who
//! the members of our kind are.

pub mod command;
mod commands;
pub mod config;
pub mod formats;
mod founding;
pub mod io;
mod keys;
mod links;
mod machine;
pub mod meta;
pub mod replication;
mod shut_out;
mod stats;
mod streams;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use machine::Node;
