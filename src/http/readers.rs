//! What reads the bytes of clients, for tests that give it any bytes.

pub use super::gate::chunked::Chunks;
pub use super::gate::head::{Framing, Head, Scan};
pub use super::gate::refusal::Refusal;
pub use super::route::{Route, Spelt};
pub use super::routes::query;
