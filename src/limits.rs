//! Every bound of the program, with the relations between them checked at compile time.
//!
//! A full queue is never a stall: what does not fit is dropped and counted (membership traffic is
//! re-sent by its protocol, data is in the store and found by repair).

use std::time::Duration;

/// Longest key in bytes (contract, section 2).
pub const KEY_LEN_MAX: usize = 512;
/// Longest `Content-Type` kept with a value, in bytes.
pub const CONTENT_TYPE_LEN_MAX: usize = 255;
/// Largest value a node can be configured to take, in bytes.
pub const VALUE_LEN_HARD_MAX: usize = 16 << 20;
/// Longest time after which a key expires, in seconds: ten years.
pub const TTL_SECONDS_MAX: u32 = 3_653 * 24 * 60 * 60;
/// Default of `--max-value-bytes`.
pub const VALUE_LEN_DEFAULT_MAX: usize = 1 << 20;
/// Most items in one answer to a list request.
pub const LIST_ITEMS_MAX: usize = 1000;

/// Bytes of one gossip datagram, as memberlist's `UDPBufferSize`.
pub const DATAGRAM_LEN_MAX: usize = 1400;
/// Receive buffer for one datagram: the largest UDP can carry.
pub const DATAGRAM_RECV_LEN: usize = 65_536;
/// Longest node name accepted from a peer, in bytes.
pub const NODE_NAME_LEN_MAX: usize = 255;
/// Longest meta a member may announce, in bytes (memberlist's `MetaMaxSize`).
pub const META_LEN_MAX: usize = 512;
/// Longest address field accepted, in bytes. Only 4 and 16 can be dialled.
pub const ADDR_LEN_MAX: usize = 64;
/// Longest version field accepted, in bytes. Six are meaningful.
pub const VSN_LEN_MAX: usize = 64;
/// Longest label, in bytes.
pub const LABEL_LEN_MAX: usize = 255;
/// Most parts in one compound message.
pub const COMPOUND_PARTS_MAX: usize = 255;
/// Nesting of compound and compress layers inside one datagram.
pub const PACKET_DEPTH_MAX: usize = 4;
/// Most messages one datagram may expand to: parts of compounds, nested ones counted too.
pub const PACKET_MESSAGES_MAX: usize = 2048;
/// Most bytes the LZW layers of one datagram may expand to, all together.
pub const PACKET_INFLATED_LEN_MAX: usize = 1 << 20;
/// Most LZW layers taken in one datagram, nested or side by side. An honest one has one; each costs
/// as much as some hundred messages, however little it holds.
pub const PACKET_COMPRESSED_MAX: usize = 16;
/// Depth of nested containers skipped inside an unknown MessagePack field.
pub const MSGPACK_DEPTH_MAX: usize = 32;

/// Most bytes of one encrypted stream frame, of push-pull user state and of a user message.
pub const STREAM_FRAME_LEN_MAX: usize = 20 << 20;
/// Most node states in one push-pull. memberlist takes 1,048,576, but a few bytes on the wire
/// become some hundred in memory, and we remember no more than [`MEMBERS_MAX`].
pub const PUSH_PULL_NODES_MAX: usize = 2 * MEMBERS_MAX;
/// Most bytes of one MessagePack struct on a stream (a node state, a ping, a header), unknown
/// fields included.
pub const STREAM_STRUCT_LEN_MAX: usize = 64 << 10;
/// Keys in a keyring; each one more is a decryption more for a packet nobody's key opens.
pub const KEYS_MAX: usize = 16;
/// Most bytes one LZW layer of a stream may expand to.
pub const STREAM_INFLATED_LEN_MAX: usize = 40 << 20;
/// Most bytes read from one inbound stream message, all layers included.
pub const STREAM_TOTAL_LEN_MAX: usize = 64 << 20;
/// File descriptors that a node needs beside connections: listeners, runtimes, ways to its workers,
/// the log, and the files it reads.
const OPEN_FILES_OWN: usize = 64;
/// Of the others clients have half, those that are told that there are too many among them; the
/// rest is for connections that this node dials, and for these two. All are in sixteenths.
pub const HTTP_CONNECTIONS_SHARE: usize = 7;
/// See [`HTTP_CONNECTIONS_SHARE`].
pub const HTTP_REFUSED_CONNECTIONS_SHARE: usize = 1;
/// See [`HTTP_CONNECTIONS_SHARE`].
pub const STREAMS_INBOUND_SHARE: usize = 2;
/// See [`HTTP_CONNECTIONS_SHARE`].
pub const LINKS_INBOUND_SHARE: usize = 3;

/// How many connections of a kind that has so many sixteenths fit into so many file descriptors;
/// one at least.
#[must_use]
pub fn connections_of(open_files: usize, sixteenths: usize) -> usize {
    // In this order the product is never too large, and what is cut off is less than a share.
    let fit = open_files.saturating_sub(OPEN_FILES_OWN) / 16 * sixteenths;
    if fit == 0 { 1 } else { fit }
}

/// Inbound streams served at once. Of more, a newcomer takes the place of the one that has been
/// silent longest.
pub const STREAMS_INBOUND_MAX: usize = 128;
/// Inbound streams from one address whose first frame is not whole; of more, one goes likewise.
pub const STREAMS_WAITING_PER_SOURCE_MAX: usize = 64;
/// Addresses remembered because this node has talked to them; their streams give way to no
/// stranger's. The first are forgotten first.
pub const STREAM_SOURCES_KNOWN_MAX: usize = 4_096;

/// Inbound replication links held at once; a stream that turns out to be one makes room for
/// another stream.
pub const LINKS_INBOUND_MAX: usize = 512;
/// Connections dialled and not yet ended.
pub const STREAMS_OUTBOUND_MAX: usize = 1024;
/// Decoded inbound frames not yet taken by the node, over all streams.
pub const STREAM_FRAMES_WAITING_MAX: usize = 8;
/// Bytes of unfinished inbound frames, over all streams, beyond what each may hold anyway.
pub const STREAM_UNFINISHED_LEN_MAX: usize = 128 << 20;
/// Bytes of an unfinished inbound frame that count against no shared bound.
pub const STREAM_UNFINISHED_LEN_FREE: usize = 64 << 10;
/// Frames handed over for one connection and not yet written; the node keeps far fewer in flight.
pub const STREAM_OUTBOX_MAX: usize = 1024;

/// Commands waiting for the engine; more are refused as busy.
pub const MAILBOX_MAX: usize = 4096;
/// Reports of connections waiting for the engine; past it connections wait.
pub const REPORTS_MAX: usize = 256;
/// Commands without an answer yet; more are refused.
pub const TICKETS_MAX: usize = 16_384;
/// Datagrams, reports and commands the engine takes, of each, before it looks at its timers.
pub const TURN_INPUTS_MAX: usize = 128;

/// Members remembered, dead ones included; more are refused and counted.
pub const MEMBERS_MAX: usize = 65_536;
/// Broadcasts waiting; past it the most transmitted is dropped and counted.
pub const BROADCASTS_MAX: usize = 8_192;
/// Pings run for others at once; more are dropped and counted, and the asker asks others too.
pub const RELAYS_MAX: usize = 1_024;
/// Joins by push-pull under way at once.
pub const JOINS_MAX: usize = 16;
/// Addresses one look of discovery tells of; of more, a random choice, another at every look.
pub const LOOK_ADDRESSES_MAX: usize = 256;
/// Members on this machine called at the same time because they may have been restarted.
pub const CALLS_MAX: usize = 16;
/// Names asked about at once, because two addresses claim them; more are dropped and counted, and
/// the next rumor asks again.
pub const INQUIRIES_MAX: usize = 64;
/// Names and addresses not asked about again for a while; past it nobody is asked until one's time
/// is over.
pub const INQUIRY_VERDICTS_MAX: usize = 1_024;
/// Addresses that are no member's own and are known to lead to one.
pub const ALIASES_MAX: usize = 256;
/// Addresses waiting for their turn to be joined; more are refused and counted.
pub const JOINS_WAITING_MAX: usize = 256;
/// Members remembered after they have left or are forgotten, so that their old `alive` is nothing;
/// of more the first are forgotten.
pub const DEPARTED_MAX: usize = 16_384;
/// Incarnations in the reserve at the top of their range are reached only in steps of at most
/// [`INCARNATION_STEP_MAX`]: a forged accusation near the end would leave the accused nothing to
/// refute with. The reserve suffices for a refutation a second over twelve days.
pub const INCARNATION_RESERVE: u32 = 1 << 20;
/// See [`INCARNATION_RESERVE`].
pub const INCARNATION_STEP_MAX: u32 = 1 << 10;

/// Shards of the store, and root buckets of the digest.
pub const STORE_SHARDS: usize = 256;
/// Leaf buckets under each root bucket.
pub const STORE_LEAVES_PER_SHARD: usize = 256;
/// Origins a version vector may hold; more are refused and counted.
pub const ORIGINS_MAX: usize = 65_536;
/// Runs that are over and known by name, and for how long all members have to have known the same
/// ones before they are let go of: years of daily deployments of a few nodes. Twice as many leave
/// a quarter of [`ORIGINS_MAX`] for those that are not over.
pub const FOLDED_MAX: usize = 24_576;
/// See [`FOLDED_MAX`].
pub const FOLDED_AGE: Duration = Duration::from_secs(10 * 60);
/// Separate ranges of writes remembered above an origin's first gap; more are refused and counted.
pub const SEEN_RANGES_MAX: usize = 1_024;
/// Such ranges of all origins of one vector together, so that many origins with many gaps cost
/// megabytes, not a gigabyte.
pub const SEEN_RANGES_TOTAL_MAX: usize = 262_144;
/// How far ahead of our wall clock a stamp may be and still move our hybrid clock. One further
/// ahead is kept and counted, but never drags the clock.
pub const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(60);
/// Own writes whose keys are remembered by number; the oldest are forgotten first.
pub const LOG_OWN_MAX: usize = 131_072;
/// Merged writes of others whose keys are remembered; the oldest are forgotten first.
pub const LOG_REMOTE_MAX: usize = 65_536;
/// Bytes of keys either of these two logs may hold.
pub const LOG_KEY_BYTES_MAX: usize = 8 << 20;
/// The part of a store's limit, one in so many, that deletes may take: as they fill the second half
/// of it their grace shrinks.
pub const TOMBSTONES_SHARE: u64 = 4;
/// Default of `--expired-grace`: how long what has expired is remembered after that. A
/// thousand expiries a second are 600,000 tombstones then, where a day would make it 86 million.
pub const EXPIRED_GRACE: Duration = Duration::from_secs(10 * 60);
/// What that shrinks to at most, where much expires at once: longer than clocks may differ
/// ([`CLOCK_AHEAD_MAX`]), or a node ahead would forget what others have yet to let expire, and
/// longer than a long poll waits ([`HTTP_POLL_EXPIRING_MAX`]), or its token would be too old then.
pub const EXPIRED_GRACE_FLOOR: Duration = Duration::from_secs(90);
const _: () = assert!(EXPIRED_GRACE_FLOOR.as_secs() > CLOCK_AHEAD_MAX.as_secs());
/// How many that have expired are remembered for all of `--expired-grace`: of more it shrinks, and
/// is down to its floor at twice as many. One costs some 120 bytes of memory beside a short key.
pub const EXPIRED_REMEMBERED: u64 = 25_000;
/// Records that expire in one turn of the engine.
pub const TURN_EXPIRIES_MAX: usize = 1_024;
/// What the grace of deletes shrinks to at most, where they take all of their part.
pub const TOMBSTONE_GRACE_FLOOR: Duration = Duration::from_secs(60);
/// Records looked at under one hold of a shard's lock while listing.
pub const LIST_SCAN_MAX: usize = 512;

/// Longest head of a replication message, its records excluded, in bytes.
pub const KV_HEAD_LEN_MAX: usize = 2 << 20;
/// How deep the values in such a head nest; those known here go five deep.
pub const KV_HEAD_DEPTH_MAX: usize = 16;
/// Bytes of bulk on their way on one replication link; a peer that does not read costs this much.
pub const LINK_WINDOW: usize = 4 << 20;
/// Bytes handed to a link and not written, at which its other end is taken for an abuser.
pub const LINK_UNREAD_MAX: usize = STREAM_FRAME_LEN_MAX + LINK_WINDOW;
/// Bytes of records in one bulk frame, about.
pub const LINK_CHUNK_LEN: usize = 128 << 10;
/// Writes asked for by number at once; of more a bulk copy is asked.
pub const WANTED_WRITES_MAX: usize = 1024;
/// Origins of which writes are being asked for at once; more are counted and told of again.
pub const GAPS_MAX: usize = 4_096;
/// Numbers one push may settle.
pub const SETTLES_MAX: u64 = 1 << 20;
/// Clients waiting for their write to be held by others; more are refused.
pub const WAITERS_MAX: usize = 1024;
/// Bulk copies served at once; others are asked to come back.
pub const PULLS_SERVED_MAX: usize = 4;
/// Rumors borne; past it the most told is dropped and counted, and found by repair.
pub const RUMORS_MAX: usize = 8_192;
/// Bytes of rumors borne.
pub const RUMORS_LEN_MAX: usize = 8 << 20;
/// Ranges of numbers in one replication message.
pub const RANGES_MAX: usize = 8_192;
/// Leaf buckets compared in one round.
pub const COMPARED_LEAVES_MAX: usize = 512;
/// Records named in one message of a comparison, and keys asked for in one.
pub const COMPARED_ITEMS_MAX: usize = 65_536;
/// Bytes of names that one message of a comparison is filled with, and at most as many more of the
/// last leaf; other leaves wait for the next round.
pub const COMPARED_NAMES_LEN_MAX: usize = 512 << 10;
/// Bytes of records that one message of a comparison is filled with, and one record more.
pub const COMPARED_RECORDS_LEN_MAX: usize = 2 << 20;
/// Records that one message of a comparison is filled with.
pub const COMPARED_RECORDS_MAX: usize = 4_096;
/// Messages of comparisons judged or waiting for it; who sends more is asked to come back.
pub const JUDGED_MAX: usize = 8;
/// Records of the store visited in one turn of the engine by whatever visits many: the rest of them
/// waits for the next turns.
pub const TURN_RECORDS_MAX: usize = 8_192;
/// Key changes across the cluster at once.
pub const KEY_CHANGES_MAX: usize = 16;

/// Client connections the gate holds at once, unless it is set.
pub const HTTP_CONNECTIONS_DEFAULT_MAX: usize = 4_096;
/// The most that it can be set to. Streams and long polls hold a connection each, so this bounds
/// them, too.
pub const HTTP_CONNECTIONS_HARD_MAX: usize = 65_536;
/// Bytes of a request head.
pub const HTTP_HEAD_LEN_MAX: usize = 16 << 10;
/// Header lines of a request.
pub const HTTP_HEADERS_MAX: usize = 100;
/// Bytes of a request target, and so of a value written in a path.
pub const HTTP_TARGET_LEN_MAX: usize = 8 << 10;
/// Bytes of one chunk-size or trailer line in a chunked body, and how many trailer lines.
pub const HTTP_CHUNK_LINE_LEN_MAX: usize = 256;
/// Bytes of bodies and answers the gate holds for slow clients, all together. A connection holds
/// up to [`HTTP_UNCOUNTED_LEN_MAX`] beside them.
pub const HTTP_HELD_LEN_MAX: usize = 128 << 20;
/// The part of it that one source of clients may take of what the others have left.
pub const HTTP_HELD_SHARE: (usize, usize) = (3, 4);
/// A value of more bytes is a long answer: it is not made whole, and takes a lane for what takes
/// its time. So is a page of a list of more bytes.
pub const HTTP_LONG_LEN: usize = 64 << 10;
/// Bytes of one body or answer that are not counted into [`HTTP_HELD_LEN_MAX`].
pub const HTTP_UNCOUNTED_LEN_MAX: usize = 32 << 10;
/// Bytes that a TLS connection encrypts ahead of what its client takes, beside those. It also holds
/// the record that comes in, of at most 18 KiB, or a handshake.
pub const HTTP_TLS_PART_LEN: usize = 16 << 10;
/// Bytes that are counted into [`HTTP_HELD_LEN_MAX`] while a TLS connection waits for its client in
/// the middle of an answer or of a body: those, and the record that comes in.
pub const HTTP_TLS_HELD_LEN: usize = HTTP_TLS_PART_LEN + (18 << 10);
/// Bytes that a client may send before the end of a TLS handshake: certificates are most of it.
pub const HTTP_TLS_HANDSHAKE_LEN_MAX: usize = 32 << 10;
/// Bytes of log lines that wait while standard error takes none; those past it are dropped.
pub const LOG_WAITING_LEN_MAX: usize = 1 << 20;
/// Requests handed to tiny_http on one upstream connection and not yet answered.
pub const HTTP_LANE_DEPTH_MAX: usize = 256;
/// The same on a connection for requests that take their time: to send them ahead gains nothing,
/// and what is sent is worked off though its client may have gone.
pub const HTTP_BULK_DEPTH_MAX: usize = 16;
/// Requests that wait for one of those connections; more are refused.
pub const HTTP_BULK_WAITING_MAX: usize = 512;
/// Long polls that are asked, or asked again, at once beside those: the others of them have their
/// turns later.
pub const HTTP_POLL_TURNS_MAX: usize = 64;
/// Writes that wait for other members at once (`?w=`).
pub const HTTP_WAITING_MAX: usize = 1_024;
/// Requests that ask the node something at once (members, metrics, keys). They have seats of their
/// own: writes may wait for a minute.
pub const HTTP_ASKING_MAX: usize = 256;
/// Connections being told that there are too many, at once; of a source that has its share of them
/// the oldest makes room, and more are closed without a word.
pub const HTTP_REFUSED_CONNECTIONS_MAX: usize = 256;
/// Bytes after which an answer to a list request ends early, with `next` set.
pub const HTTP_LIST_LEN_MAX: usize = 4 << 20;
/// Bytes from which on a list is compressed for a client that asks for it; those of more than
/// [`HTTP_LIST_LEN_MAX`], of one long value, are not.
pub const HTTP_COMPRESSED_LEN_MIN: usize = 1 << 10;
/// Longest `?timeout=` of a write.
pub const HTTP_WAIT_MAX: Duration = Duration::from_secs(60);
/// Operations of one batch.
pub const BATCH_OPS_MAX: usize = 128;
/// Lines of a load that say something: one request must not keep a worker for long.
pub const LOAD_LINES_MAX: usize = 50_000;
/// Lines of a load that are written before others have their turn.
pub const LOAD_SLICE: usize = 256;
/// Lines of a load that are named as wrong.
pub const LOAD_ERRORS_MAX: usize = 20;
/// Keys that the feed of changes remembers for its reader; past them anything may have changed.
pub const FEED_KEYS_MAX: usize = 8_192;
/// Bytes of those keys.
pub const FEED_LEN_MAX: usize = 1 << 20;
/// Writes that a returning reader may lack to be told them by the logs; with more, everything it is
/// interested in is looked through.
pub const FEED_LOGGED_MAX: u64 = 1_024;
/// Keys that one watch remembers for its reader; past them it looks at everything under its prefix.
pub const WATCH_DIRTY_MAX: usize = 1_024;
/// Bytes of those keys.
pub const WATCH_DIRTY_LEN_MAX: usize = 64 << 10;
/// Longest wait of a read of Consul's API, unless it is set: proxies end what is silent for 60 s.
pub const CONSUL_WAIT_MAX: Duration = Duration::from_secs(55);
/// Bytes of a list in Consul's API, which knows no pages.
pub const CONSUL_LIST_LEN_MAX: usize = 64 << 20;
/// Keys that such a list looks at, whatever of them it tells: some seconds.
pub const CONSUL_KEYS_MAX: usize = 4_000_000;
/// Keys that a deletion of a prefix in Consul's API deletes before others have their turn, and up
/// to a page more.
pub const CONSUL_DELETES_MAX: usize = 10_000;
/// Keys of all trees of a transaction.
pub const CONSUL_TREE_MAX: usize = 4_096;
/// Bytes of a flag that OFREP evaluates.
pub const FLAG_LEN_MAX: usize = 64 << 10;
/// Longest `?wait=` of a long poll.
pub const HTTP_POLL_MAX: Duration = Duration::from_secs(300);
/// How long a long poll with a token waits at most where keys expire: at its end the token must
/// still name what is remembered of them, however many have expired meanwhile.
pub const HTTP_POLL_EXPIRING_MAX: Duration = Duration::from_secs(60);
const _: () = assert!(HTTP_POLL_EXPIRING_MAX.as_secs() < EXPIRED_GRACE_FLOOR.as_secs());
/// Origins that a resume token names at most: some 14 bytes each, and it goes into a target.
pub const TOKEN_ORIGINS_MAX: usize = 256;
/// Bearer tokens of one server: each request is compared with all of them.
pub const HTTP_TOKENS_MAX: usize = 256;
/// Bytes of a bearer token.
pub const HTTP_TOKEN_LEN_MAX: usize = 4 << 10;

const _: () = assert!(VALUE_LEN_HARD_MAX + KEY_LEN_MAX + 4096 < STREAM_FRAME_LEN_MAX);
const _: () = assert!(STREAM_FRAME_LEN_MAX <= STREAM_INFLATED_LEN_MAX);
const _: () = assert!(STREAM_INFLATED_LEN_MAX < STREAM_TOTAL_LEN_MAX);
const _: () = assert!(STREAM_TOTAL_LEN_MAX < STREAM_UNFINISHED_LEN_MAX);
const _: () = assert!(STREAMS_WAITING_PER_SOURCE_MAX < STREAMS_INBOUND_MAX);
const _: () = assert!(HTTP_CONNECTIONS_SHARE + HTTP_REFUSED_CONNECTIONS_SHARE == 8);
const _: () = assert!(STREAMS_INBOUND_SHARE + LINKS_INBOUND_SHARE < 8);
const _: () = assert!(MAILBOX_MAX <= TICKETS_MAX);
const _: () = assert!(DATAGRAM_LEN_MAX <= DATAGRAM_RECV_LEN);
const _: () = assert!(META_LEN_MAX + NODE_NAME_LEN_MAX + 128 < DATAGRAM_LEN_MAX);
// The highest bit of a key's length says something else.
const _: () = assert!(KEY_LEN_MAX < 1 << 15 && CONTENT_TYPE_LEN_MAX <= u8::MAX as usize);
const _: () = assert!(VALUE_LEN_DEFAULT_MAX <= VALUE_LEN_HARD_MAX);
// A value's length and the tombstone's mark share 32 bits.
const _: () = assert!(VALUE_LEN_HARD_MAX < u32::MAX as usize);
// A key's shard and leaf are one byte of its hash each.
const _: () = assert!(STORE_SHARDS == 256 && STORE_LEAVES_PER_SHARD == 256);
const _: () = assert!(KEY_LEN_MAX <= LOG_KEY_BYTES_MAX);
// The names of a comparison, of 24 bytes at least, fit what its other side takes; so do all the
// origins that a node remembers, at 28 bytes each.
const _: () = assert!(2 * COMPARED_NAMES_LEN_MAX / 24 <= COMPARED_ITEMS_MAX);
const _: () = assert!(2 * COMPARED_NAMES_LEN_MAX + 16 * COMPARED_LEAVES_MAX < KV_HEAD_LEN_MAX);
const _: () = assert!(28 * (ORIGINS_MAX + 1) + 64 < KV_HEAD_LEN_MAX);
const _: () = assert!(SEEN_RANGES_MAX <= SEEN_RANGES_TOTAL_MAX);
const _: () = assert!(HTTP_TARGET_LEN_MAX + 64 < HTTP_HEAD_LEN_MAX);
// The answer to a write is never thrown away: of what it repeats from the target no byte grows to
// more than two.
const _: () = assert!(2 * HTTP_TARGET_LEN_MAX + 1024 < HTTP_UNCOUNTED_LEN_MAX);
const _: () = assert!(HTTP_WAITING_MAX <= WAITERS_MAX);
// One source can send the largest value, whose buffer may have room for as much again, and read it.
const _: () =
    assert!(4 * VALUE_LEN_HARD_MAX < HTTP_HELD_LEN_MAX / HTTP_HELD_SHARE.1 * HTTP_HELD_SHARE.0);
// So it can have the longest list in Consul's API, and an entry more with what it is made of.
const _: () = assert!(
    CONSUL_LIST_LEN_MAX + VALUE_LEN_HARD_MAX
        < HTTP_HELD_LEN_MAX / HTTP_HELD_SHARE.1 * HTTP_HELD_SHARE.0
);
// What a quick worker makes of a value can be held.
const _: () = assert!(16 * HTTP_LONG_LEN < HTTP_HELD_LEN_MAX);
