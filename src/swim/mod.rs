//! Membership: SWIM with Lifeguard, as memberlist speaks it.
//!
//! Typed messages in, outputs out. Knows no key and no socket.

pub mod io;
