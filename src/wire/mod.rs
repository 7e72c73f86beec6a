//! Bytes to values and back, in hashicorp/memberlist's formats.
//!
//! No time, no state, no socket. See `docs/wire.md` for the bytes.

pub mod message;
