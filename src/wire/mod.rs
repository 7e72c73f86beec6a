//! Bytes to values and back, in hashicorp/memberlist's formats.
//!
//! No time, no state, no socket. See `docs/wire.md` for the bytes.

mod codec;
mod error;
pub mod inspect;
pub mod keyring;
pub mod label;
pub mod lzw;
pub mod message;
mod msgpack;
pub mod packet;
pub mod stream;

pub use codec::type_byte;
pub use error::DecodeError;
