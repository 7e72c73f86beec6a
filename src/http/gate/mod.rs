//! The gate faces the network and stands in front of tiny_http.
//!
//! tiny_http alone has no limit on heads, bodies, time, connections or requests in flight, reads
//! framing loosely, and ends for good at the first failing accept. So clients talk to the gate:
//!
//! ```text
//! clients --> accept --> conn (one task each): head, body, one request at a time
//!             (bounded)      |  trust: who is it?   forward: only the headers we use
//!                            v
//!                      lanes (private, opened once): tiny_http --> Handler
//! ```
//!
//! - [`listen`], `accept`: the port, and the task for each client, up to a bound.
//! - [`socket`]: its connection, plain or through TLS; [`handshake`]: how the latter begins.
//! - [`conn`]: one client, request after request. [`head`] and [`chunked`] read what it sends,
//!   [`deadline`] limits how long it takes, [`refusal`] is what it gets when it breaks a rule.
//!   [`send`] is the way back to it.
//! - [`trust`], [`forward`]: who a client is, and the form in which its request goes on.
//! - [`context`]: what the connections have in common. [`crowd`]: those that are one too many.
//!
//! Every bound has a counter ([`super::counters`]); no client can hold up another.

mod accept;
mod ask;
pub(super) mod chunked;
mod client;
mod codings;
mod conn;
mod context;
mod crowd;
mod deadline;
mod forward;
mod handshake;
pub(super) mod head;
mod listen;
pub(super) mod refusal;
mod send;
mod socket;
mod stream;
mod trust;

pub(super) use accept::accept;
pub(super) use context::Gate;
pub(super) use listen::bind;
