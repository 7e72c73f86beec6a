//! The replicated map: keys, versions, tombstones, digests. Knows no member and no packet.

pub mod version;

pub use version::{Dot, HlcTime, OriginId, Stamp};

/// The replicated map (its real body lives in `store`).
#[derive(Debug)]
pub struct Store;
