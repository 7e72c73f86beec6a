//! What is asserted of every decoder, whatever bytes it meets: it does not panic, it does not
//! allocate past its cap, and what it took it writes so that it takes the same again.
//!
//! ```text
//! fuzz/targets/*.rs --libFuzzer, a heap with a limit--.
//!                                                     +--> Target::run(bytes, heap)
//! tests/it/fuzz_smoke.rs --seeds, random changes------'
//! ```
//!
//! The caps, for an input of n bytes. P is what n bytes may be expanded to: n itself without
//! compression; else at most [`LZW_RATIO`] times as much, within the bound of the layer.
//!
//! | target      | what                  | bytes of heap at most                               |
//! |-------------|-----------------------|-----------------------------------------------------|
//! | packet      | `open`                | `EXPANSION` x P, `MESSAGE_LEN` for each message     |
//! |             | `inspect::packet`     | `LINE_LEN` for each line, `SHOWN_RATIO` x (n + P)   |
//! | stream      | `FrameReader`         | `EXPANSION` x P, `STATE_LEN` a node state, the room |
//! |             | `inspect::stream`     | as above, and `LINE_LEN` for each node state        |
//! | push_pull   | `FrameReader`         | as for stream, P = n                                |
//! | message     | `Message::decode`     | `EXPANSION` x n + `FIXED`                           |
//! | lzw         | `inflate`             | 2 x P + `LZW_TABLES`                                |
//! | keyring     | `Keyring::parse`      | n + `KEY_LEN` for each of `KEYS_MAX`                |
//! |             | `Keyring::open`       | n + `FIXED`                                         |
//! | replication | `KvMessage::decode`   | `HEAD_RATIO` x n + `FIXED`                          |
//! | record      | `Record::read`        | n + `FIXED`, nothing when it is refused             |
//! | head        | `Scan`, `Head::read`  | 4 n (lists of several lines, paths) + `FIXED`       |
//! | chunked     | `Chunks::take`        | 3 n + `FIXED`                                       |

mod data;
mod gossip;
mod http;
mod keys;
mod stream;

use bytes::Bytes;
use gossipykv::wire::keyring::{Key, Keyring};
use gossipykv::wire::packet::Security;
use std::sync::LazyLock;

/// Bytes one byte of LZW can become: a code of twelve bits stands for 3,839 bytes at most.
const LZW_RATIO: usize = 2_560;
/// The tables of the LZW decoder, and the room it asks for ahead of output.
const LZW_TABLES: usize = 128 << 10;
/// Copies of a byte while it is unpacked: the layers, and a buffer that doubles.
const EXPANSION: usize = 6;
/// An error's text, a few small parts.
const FIXED: usize = 4 << 10;

/// What holds an execution to its budget.
pub trait Heap {
    /// Runs `work`; that it allocates more than `len_max` bytes at a time is a finding.
    fn within(&self, len_max: usize, work: &mut dyn FnMut());
}

/// Runs `work` within `len_max` bytes of heap and returns what it made.
fn within<T>(heap: &dyn Heap, len_max: usize, work: impl FnOnce() -> T) -> T {
    let (mut work, mut made) = (Some(work), None);
    heap.within(len_max, &mut || made = work.take().map(|work| work()));
    made.expect("a heap runs its work once")
}

/// A decoder under test.
pub struct Target {
    /// Its name, that of the program in `fuzz/targets`.
    pub name: &'static str,
    /// One execution.
    pub run: fn(&[u8], &dyn Heap),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "packet", run: gossip::packet, seeds: gossip::packet_seeds },
    Target { name: "message", run: gossip::message, seeds: gossip::message_seeds },
    Target { name: "lzw", run: gossip::lzw, seeds: gossip::lzw_seeds },
    Target { name: "stream", run: stream::stream, seeds: stream::stream_seeds },
    Target { name: "push_pull", run: stream::push_pull, seeds: stream::push_pull_seeds },
    Target { name: "keyring", run: keys::keyring, seeds: keys::keyring_seeds },
    Target { name: "replication", run: data::replication, seeds: data::replication_seeds },
    Target { name: "record", run: data::record, seeds: data::record_seeds },
    Target { name: "head", run: http::head, seeds: http::head_seeds },
    Target { name: "chunked", run: http::chunked, seeds: http::chunked_seeds },
];

/// The target of this name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"))
}

/// Takes the first byte, which chooses among ways to run; 0 where there is none.
fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(&first, rest)| (first, rest))
}

/// Takes a count of up to 15 and as many lengths; returns the rest in pieces of these lengths and
/// whatever remains.
fn pieces(data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (count, data) = choice(data);
    let (lens, all) = data.split_at(usize::from(count % 16).min(data.len()));
    let (mut pieces, mut rest) = (Vec::new(), all);
    for &len in lens {
        let (piece, after) = rest.split_at(usize::from(len).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    (pieces, all)
}

/// Ways to be protected; the vectors use the first six.
static SECURITIES: LazyLock<[Security; 8]> = LazyLock::new(|| {
    let secret: [u8; 32] = std::array::from_fn(|n| n as u8);
    let security = |label: &'static str, key_len: usize| Security {
        label: Bytes::from_static(label.as_bytes()),
        keyring: Keyring::new(Key::from_bytes(&secret[..key_len])).expect("at most one key"),
        ..Security::default()
    };
    [
        security("", 0),
        security("lbl", 0),
        security("", 16),
        security("lbl", 16),
        security("", 32),
        security("blah-blah-label", 32),
        // On its way to encryption, and back.
        Security { verify_incoming: false, ..security("lbl", 16) },
        Security { verify_incoming: false, verify_outgoing: false, ..security("", 32) },
    ]
});

/// The number of a vector's protection among [`SECURITIES`].
fn number(security: &Security) -> Option<u8> {
    let is_same =
        |known: &Security| known.label == security.label && known.keyring == security.keyring;
    SECURITIES.iter().position(is_same).map(|at| at as u8)
}

/// What `len` bytes can be expanded to within `max`, the compressed bytes included.
fn expanded(len: usize, max: usize) -> usize {
    len + len.saturating_mul(LZW_RATIO).min(max)
}
