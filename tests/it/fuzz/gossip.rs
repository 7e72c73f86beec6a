//! Datagrams, the messages in them, and their compression.

use super::{
    EXPANSION, FIXED, Heap, LZW_RATIO, LZW_TABLES, SECURITIES, choice, expanded, number, within,
};
use crate::vectors;
use bytes::Bytes;
use gossipykv::limits::{
    DATAGRAM_RECV_LEN, PACKET_DEPTH_MAX, PACKET_INFLATED_LEN_MAX, PACKET_MESSAGES_MAX,
};
use gossipykv::wire::message::Message;
use gossipykv::wire::packet::{PacketError, Security, open, seal};
use gossipykv::wire::{DecodeError, inspect};

/// A message in memory beside its bytes, in a list that doubles.
const MESSAGE_LEN: usize = 1 << 10;
/// Most lines of an explanation.
const LINES_MAX: usize = 10_000;
/// A line of an explanation beside the bytes it shows, in a list that doubles.
pub(super) const LINE_LEN: usize = 4 << 10;
/// Bytes of explanation for a byte explained: hex of it, or a character that stands for three.
pub(super) const SHOWN_RATIO: usize = 12;
/// Chooses that the bytes are the inside of an authentic datagram.
const SEALED: u8 = 8;

/// A datagram of any bytes: bits 0 to 2 of the first choose the protection, 3 that we seal it.
pub fn packet(data: &[u8], heap: &dyn Heap) {
    let (choice, body) = choice(data);
    let security = &SECURITIES[usize::from(choice % 8)];
    let body = &body[..body.len().min(DATAGRAM_RECV_LEN)];
    let datagram = if choice & SEALED != 0 {
        let plain = Security { compress: false, ..security.clone() };
        seal(&plain, &[Bytes::copy_from_slice(body)], choice & 16 != 0, vectors::NONCE)
    } else {
        Bytes::copy_from_slice(body)
    };
    let plain_len = expanded(datagram.len(), PACKET_INFLATED_LEN_MAX);
    let n_messages = plain_len.min(PACKET_MESSAGES_MAX);
    let len_max = EXPANSION * plain_len + MESSAGE_LEN * n_messages + LZW_TABLES * PACKET_DEPTH_MAX;
    let opened = within(heap, len_max, || open(security, datagram.clone()));
    match &opened {
        Ok(opened) => {
            let n = opened.messages.len() + opened.dropped.len();
            assert!(n <= PACKET_MESSAGES_MAX + PACKET_DEPTH_MAX, "{n} messages");
            opened.dropped.iter().for_each(|error| assert!(!error.to_string().is_empty()));
            same_again(security, &opened.messages);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let is_ours = choice & SEALED != 0 && security.encrypts();
            assert!(!is_ours || matches!(error, PacketError::Checksum { .. }), "{error}");
        }
    }
    let len_max =
        LINE_LEN * plain_len.min(LINES_MAX) + SHOWN_RATIO * plain_len + LZW_TABLES + FIXED;
    let lines =
        within(heap, len_max, || inspect::packet(&datagram, &security.keyring, &security.label));
    assert!(lines.iter().all(serde_json::Value::is_object));
}

/// Messages that we took reach any of our kind as they are.
fn same_again(security: &Security, messages: &[Message]) {
    let parts: Vec<Bytes> = messages.iter().map(Message::encode).collect();
    let parts_len: usize = parts.iter().map(|part| 2 + part.len()).sum();
    // As many as one compound carries whole; each again is a message by itself.
    if parts.is_empty() || parts.len() > 255 || parts_len > usize::from(u16::MAX) {
        return;
    }
    let opened = open(security, seal(security, &parts, true, vectors::NONCE));
    let opened = opened.expect("our own datagram");
    assert_eq!((&opened.messages[..], &opened.dropped[..]), (messages, &[][..]));
}

/// The datagrams that Go sent, and the inside of each.
pub fn packet_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for vector in vectors::of_kind("packet") {
        if let Some(number) = number(&vector.security()) {
            seeds.push([&[number], &vector.bytes()[..]].concat());
        }
    }
    for message in message_seeds() {
        seeds.push([&[0], &message[..]].concat());
        seeds.push([&[SEALED | 3], &message[..]].concat());
    }
    let part = gossipykv::wire::lzw::compress(&[8; 4000]);
    let twice = gossipykv::wire::lzw::compress(&part);
    seeds.push([&[0], &part[..]].concat());
    seeds.push([&[0], &twice[..]].concat());
    seeds.extend(long_packets());
    seeds
}

/// Datagrams as large as they can be: many parts, parts in parts, much that is compressed.
fn long_packets() -> impl Iterator<Item = Vec<u8>> {
    let nack = b"\x0b\x81\xa5SeqNo\x2b";
    let many = compound(255, nack);
    let packed = gossipykv::wire::lzw::compress(&[8; 60_000]);
    let user = [&[8], &noise(60_000)[..]].concat();
    let unpacked = [
        compound(20, &many),
        compound(200, &compound(60, &[7, 0])),
        gossipykv::wire::lzw::compress(&compound(20, &many)),
        compound(17, &packed),
        user,
    ];
    unpacked.into_iter().map(|inside| [&[SEALED | 2], &inside[..]].concat())
}

/// A compound of `n` times the same part.
fn compound(n: u8, part: &[u8]) -> Vec<u8> {
    let len = (part.len() as u16).to_be_bytes();
    [&[7, n], &len.repeat(n.into())[..], &part.repeat(n.into())].concat()
}

/// Bytes of which LZW makes nothing shorter, so that its table fills.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state: u32 = 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

/// One message of any bytes.
pub fn message(data: &[u8], heap: &dyn Heap) {
    let bytes = Bytes::copy_from_slice(data);
    let decoded = within(heap, EXPANSION * data.len() + FIXED, || Message::decode(&bytes));
    match decoded {
        Ok(message) => {
            let encoded = message.encode();
            assert_eq!(Message::decode(&encoded).as_ref(), Ok(&message));
            assert!(inspect::message(&message)["type"].is_string());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Every message that Go sent, and the forms it takes without sending them.
pub fn message_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        vectors::of_kind("message").iter().map(|vector| vector.bytes().to_vec()).collect();
    for vector in vectors::list("decoder_acceptance") {
        let kind = match vector.text("struct") {
            "ping" => 0,
            "indirectPingReq" => 1,
            "ackResp" => 2,
            "suspect" => 3,
            "alive" => 4,
            "dead" => 5,
            "nackResp" => 11,
            _ => continue,
        };
        seeds.push([&[kind], &vector.bytes()[..]].concat());
    }
    seeds
}

/// Chooses a message around the stream.
const MESSAGE: u8 = 8;
/// Chooses any bytes to pack.
const PACK: u8 = 16;

/// An LZW stream of any bytes, bare or in its message, expanded within one of some bounds; or any
/// bytes packed. One of them at a time: a decoder's tables cost more than short inputs do.
pub fn lzw(data: &[u8], heap: &dyn Heap) {
    use gossipykv::wire::lzw::{compress, decompress};
    let (choice, data) = choice(data);
    // Output grows in steps of 4 KiB; bounds of the layers would only take longer.
    let bounds = [0, 1, 100, 4_095, 4_096, 4_097, 20_000, 65_536];
    let len_max = bounds[usize::from(choice % 8)];
    if choice & PACK != 0 {
        let packed = compress(data);
        assert_eq!(decompress(&packed[1..], data.len()).as_deref(), Ok(data));
    } else if choice & MESSAGE != 0 {
        let budget = 2 * len_max.min(LZW_RATIO * data.len()) + EXPANSION * data.len() + LZW_TABLES;
        if let Ok(plain) = within(heap, budget, || decompress(data, len_max)) {
            assert!(plain.len() <= len_max);
        }
    } else {
        inflated(data, len_max, heap);
    }
}

fn inflated(data: &[u8], len_max: usize, heap: &dyn Heap) {
    use gossipykv::wire::lzw::inflate;
    let budget = 2 * len_max.min(LZW_RATIO * data.len()) + LZW_TABLES;
    match within(heap, budget, || inflate(data, len_max)) {
        Ok(plain) => {
            assert!(plain.len() <= len_max);
            if let Some(less) = plain.len().checked_sub(1) {
                assert_eq!(inflate(data, less), Err(DecodeError::InflatedTooLong(less)));
            }
        }
        Err(DecodeError::InflatedTooLong(bound)) => assert_eq!(bound, len_max),
        Err(error) => assert_eq!(error, DecodeError::BrokenLzw),
    }
}

/// Go's own streams, bare and in their message.
pub fn lzw_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for vector in vectors::of_kind("lzw") {
        seeds.push([&[7], &vector.param_bytes("lzw_hex")[..]].concat());
        seeds.push([&[MESSAGE | 7], &vector.bytes()[1..]].concat());
    }
    let packed = gossipykv::wire::lzw::compress(&noise(20_000));
    seeds.push([&[MESSAGE | 7], &packed[1..]].concat());
    seeds.push([&[PACK], &noise(10_000)[..]].concat());
    seeds
}
