//! The pure composition of membership and store that every shell runs.

pub mod command;
pub mod io;
