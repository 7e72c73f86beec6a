//! The shell around a puppet instead of a node: real sockets on loopback, real threads.

mod datagrams;
mod front;
mod hostile;
mod links;
mod puppet;
mod streams;
