//! The replicated map: keys, versions, tombstones, digests. Knows no member and no packet.
//!
//! In the order to read them:
//!
//! - `version`, `hlc`: how writes are named and ordered, and the clock that stamps them.
//! - `record`: one version of one key, in memory as on the wire.
//! - `shard`, `store`: the map itself; `write` takes local writes, `batch` several in
//!   one step, `merge` those of peers.
//! - `list`, `digest`: reading it in key order, and comparing it with another's; `scrub` looks for
//!   damage.
//! - `vector`, `log`: which writes are held, and which keys recent ones were about.
//! - `ttl`: keys that expire.
//! - `feed`: which keys changed lately, for those who wait; `seen`: what a reader has seen already,
//!   with all `ended` runs counted as one; `reader`: what it is told then of its `target`.
//!
//! Locks, always taken in this order: one shard's, then the head's (clock and own log). A batch
//! alone holds several shards at once, taken in their order. Nothing waits for anything else while
//! it holds a lock.

mod batch;
mod digest;
mod ended;
mod feed;
mod folders;
mod forget;
mod hash;
mod head;
mod list;
mod log;
mod merge;
mod reader;
mod scrub;
mod seen;
mod shard;
mod stats;
mod store;
mod target;
mod ttl;
mod write;

pub mod hlc;
pub mod record;
mod room;
pub mod vector;
pub mod version;

pub use batch::{Act, BatchError, Done, Op};
pub use ended::{Ended, EndedChanges, EndedRun, run_hash};
pub use feed::{Bell, Changes};
pub use folders::Folders;
pub use forget::{Forgotten, Gone, Most};
pub use head::OwnLog;
pub use hlc::Hlc;
pub use list::Listing;
pub use merge::Merge;
pub use reader::{Asked, Begun, Reader, Told};
pub use record::{Record, RecordError, SEQ_MAX};
pub use room::Bound;
pub use seen::{Coverage, LetGo, Seen, Token};
pub use stats::StoreStats;
pub use store::{Store, StoreConfig};
pub use target::Target;
pub use ttl::Expiring;
pub use vector::VersionVector;
pub use version::{Dot, HlcTime, OriginId, Stamp};
pub use write::{WriteError, Written};
