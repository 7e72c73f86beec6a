//! The hashes that place a key and that summarise what is held.
//!
//! ```text
//! key  --xxh3-->  shard (low byte) | leaf (next byte)
//! leaf  = wrapping sum over its live records that do not expire
//!         of xxh3(time | origin | seq | check)
//! shard = wrapping sum of its leaves
//! root  = xxh3 over the shards' sums, big-endian
//! ```
//!
//! Sums can be kept up to date by adding and subtracting, whatever the order of arrivals. They
//! find divergence between honest nodes; they are no proof against a peer who forges one.

use super::record::Record;
use xxhash_rust::xxh3::xxh3_64;

/// The shard and the leaf within it where `key` lives.
#[must_use]
pub(super) fn bucket(key: &[u8]) -> (usize, usize) {
    let bytes = xxh3_64(key).to_le_bytes();
    (usize::from(bytes[0]), usize::from(bytes[1]))
}

/// What one live record adds to its leaf.
#[must_use]
pub(super) fn of_record(record: &Record) -> u64 {
    // The check stands for key and value.
    xxh3_64(record.version_bytes())
}

/// The root over all shards' sums, in their order.
#[must_use]
pub(super) fn root(shards: impl Iterator<Item = u64>) -> u64 {
    xxh3_64(&shards.flat_map(u64::to_be_bytes).collect::<Vec<u8>>())
}
