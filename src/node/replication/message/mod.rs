//! What members of our kind say to each other about data: the formats.
//!
//! ```text
//! c8 | format u8 | kind u8 | MessagePack array | records ...  user message of a datagram, and
//!                                                             payload of a replication frame
//! ```
//!
//! The head is an rmp-serde array of the fields in order, every list of it bounded; records follow
//! in the store's own packed form (`Record`) and delimit themselves. `c8` tells ours from other
//! programs' messages.
//!
//! **A new field** goes to the end of a struct here as `Option<T>` with `#[serde(default)]`, and
//! into the table `heads!` of `heads` with the format that brings it:
//! `Digest: 6, state in 3;`. That is all: a message in which it is `None` is written without it, in
//! the format it had before, and sending takes it away for peers that do not read that format. So
//! whoever reads the field must do without it. A list in it is bounded, as all are
//! (`lists`). Only heads grow: the arrays within them never do.
//!
//! **A new kind** is a struct and a variant in `kinds`, a line in `heads!`, and its number in
//! `codec`, which also has the format that brings it. `machine` gives it to the mechanism that it
//! concerns.

mod codec;
mod heads;
mod item;
mod kinds;
mod lists;

pub(super) use codec::supplies;
pub use codec::{MessageError, Read, fit, format_of, is_ours, is_pull, is_pull_end, is_push};
pub use item::{Item, LeafItems, Name};
pub use kinds::*;
