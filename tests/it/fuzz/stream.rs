//! Streams: frames however they arrive, and push-pulls.

use super::gossip::{LINE_LEN, SHOWN_RATIO, noise};
use super::{
    EXPANSION, FIXED, Heap, LZW_TABLES, SECURITIES, choice, expanded, number, pieces, within,
};
use crate::vectors;
use bytes::{BufMut as _, Bytes};
use gossipykv::limits::{
    PUSH_PULL_NODES_MAX, STREAM_FRAME_LEN_MAX, STREAM_INFLATED_LEN_MAX, STREAM_STRUCT_LEN_MAX,
};
use gossipykv::wire::inspect;
use gossipykv::wire::keyring::OVERHEAD;
use gossipykv::wire::message::{PushNodeState, PushPull};
use gossipykv::wire::packet::Security;
use gossipykv::wire::stream::{
    Frame, FrameReader, ROOM_LEN_MAX, Role, StreamError, encode_reply, encode_reply_pieces,
    encode_request,
};

/// A node state in memory beside its bytes, in a list that doubles.
const STATE_LEN: usize = 3 * size_of::<PushNodeState>() + 64;
/// Chooses the end of the connection that dialled.
const DIALER: u8 = 8;
/// Chooses that the bytes are the inside of an authentic frame.
const SEALED: u8 = 16;
const COMPRESS: u8 = 9;

/// One side of a connection, cut into pieces: bits 0 to 2 of the first byte choose the
/// protection, 3 the role, 4 that we seal the bytes into a frame; the lengths of pieces follow.
pub fn stream(data: &[u8], heap: &dyn Heap) {
    let (choice, data) = choice(data);
    let security = &SECURITIES[usize::from(choice % 8)];
    let role = if choice & DIALER == 0 { Role::Acceptor } else { Role::Dialer };
    let (mut arriving, bytes) = pieces(data);
    let sealed = sealed(security, role, bytes);
    let mut whole = bytes;
    if choice & SEALED != 0 && security.encrypts() {
        let first_len = arriving[0].len();
        let (first, rest) = sealed.split_at(first_len.min(sealed.len()));
        (arriving, whole) = (vec![first, rest], &sealed);
    }
    let plain_len = plain_len(security, whole);
    let budget = budget(whole.len(), plain_len);
    let cut = within(heap, budget, || read(role, security, &arriving));
    let at_once = within(heap, budget, || read(role, security, &[whole]));
    assert_eq!(cut.frames, at_once.frames);
    if whole.len() < STREAM_STRUCT_LEN_MAX {
        assert_eq!(cut.error, at_once.error, "cut, and at once");
    }
    assert_eq!(cut.error.is_some(), at_once.error.is_some());
    for frame in &cut.frames {
        same_again(security, role, frame);
    }
    let n_lines = plain_len.min(PUSH_PULL_NODES_MAX) + 10;
    let budget = budget + SHOWN_RATIO * plain_len + LINE_LEN * n_lines;
    let lines = within(heap, budget, || inspect::stream(whole, &security.keyring, &security.label));
    assert!(lines.iter().all(serde_json::Value::is_object));
}

/// What `bytes` may be expanded to. Only what a byte for it says, or encryption hides, is
/// compressed.
fn plain_len(security: &Security, bytes: &[u8]) -> usize {
    if security.keyring.is_empty() && !bytes.contains(&COMPRESS) {
        bytes.len()
    } else {
        expanded(bytes.len(), STREAM_INFLATED_LEN_MAX)
    }
}

fn budget(len: usize, plain_len: usize) -> usize {
    let n_states = plain_len.min(PUSH_PULL_NODES_MAX);
    let tables = if plain_len > len { LZW_TABLES } else { 0 };
    EXPANSION * plain_len + STATE_LEN * n_states + tables + ROOM_LEN_MAX + FIXED
}

/// `bytes` as the inside of one encrypted frame, its label before it where one belongs.
fn sealed(security: &Security, role: Role, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if role == Role::Acceptor && !security.label.is_empty() {
        out.extend_from_slice(&[0xf4, security.label.len() as u8]);
        out.extend_from_slice(&security.label);
    }
    let mut authenticated = [&[10], &((bytes.len() + OVERHEAD) as u32).to_be_bytes()[..]].concat();
    out.extend_from_slice(&authenticated);
    authenticated.extend_from_slice(&security.label);
    security.keyring.seal(vectors::NONCE, &authenticated, bytes, &mut out);
    out
}

struct Read {
    frames: Vec<Frame>,
    error: Option<StreamError>,
}

fn read(role: Role, security: &Security, pieces: &[&[u8]]) -> Read {
    let mut reader = FrameReader::new(role);
    let mut read = Read { frames: Vec::new(), error: None };
    for piece in pieces {
        let mut rest = *piece;
        if let Some(mut room) = reader.room() {
            let here = rest.len().min(room.remaining_mut());
            room.put_slice(&rest[..here]);
            rest = &rest[here..];
        }
        reader.extend(rest);
        loop {
            match reader.next(security) {
                Ok(Some(frame)) => {
                    assert!(!reader.is_done() || !matches!(frame, Frame::Kv(_)));
                    read.frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(reader.is_done() && read.error.is_none(), "one error ends it");
                    assert!(error.reply().is_none_or(|text| !text.is_empty()));
                    read.error = Some(error);
                }
            }
        }
    }
    read
}

/// A frame that we took, sent on by us and taken again.
fn same_again(security: &Security, role: Role, frame: &Frame) {
    if matches!(frame, Frame::Error(text) if text.len() > STREAM_STRUCT_LEN_MAX / 2) {
        // Shown lossily it is up to three times as long, and nobody sends it on.
        return;
    }
    let encode = if role == Role::Acceptor { encode_request } else { encode_reply };
    let bytes = encode(security, frame, vectors::NONCE);
    let again = read(role, security, &[&bytes]);
    assert_eq!((&again.frames[..], again.error), (std::slice::from_ref(frame), None));
    let mut pieces = Vec::new();
    encode_reply_pieces(security, frame, vectors::NONCE, &mut pieces);
    assert_eq!(pieces.concat(), encode_reply(security, frame, vectors::NONCE));
}

/// What Go wrote on streams, whole and in pieces.
pub fn stream_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (n, vector) in vectors::of_kind("stream").into_iter().enumerate() {
        let Some(number) = number(&vector.security()) else { continue };
        let replied = vector.id().contains("response") || vector.id().starts_with("stream/err/");
        let choice = number | if replied { DIALER } else { 0 };
        let cuts: &[u8] = if n % 2 == 0 { &[0] } else { &[3, 1, 7, 30] };
        seeds.push([&[choice], cuts, &vector.bytes()].concat());
        if vector.param("key").is_empty() && vector.param("label").is_empty() {
            seeds.push([&[choice | SEALED | 3, 0], &vector.bytes()[..]].concat());
        }
    }
    let kv =
        encode_reply(&SECURITIES[0], &Frame::Kv(Bytes::from_static(b"\xc8\x02ab").into()), [0; 12]);
    seeds.push([&[0, 1, 6], &kv[..], &kv].concat());
    seeds.push([&[DIALER, 1, 6], &kv[..], &kv].concat());
    for frame in long_frames() {
        let bytes = encode_request(&SECURITIES[0], &frame, [0; 12]);
        seeds.push([&[0, 3, 9, 200, 1], &bytes[..]].concat());
        seeds.push([&[SEALED | 2, 1, 50], &bytes[..]].concat());
    }
    // A struct past its bound.
    seeds.push([&[0, 1, 200], &b"\x00\x82\xa1x\xdb\x00\x01\x11\x11"[..], &noise(66_000)].concat());
    seeds
}

/// Frames of some ten thousand bytes.
fn long_frames() -> [Frame; 3] {
    let compressed = Security { compress: true, ..SECURITIES[0].clone() };
    let push_pull = Frame::PushPull(PushPull {
        join: true,
        nodes: vec![PushNodeState { state: 1, port: 7946, ..PushNodeState::default() }; 500],
        user_state: noise(5_000).into(),
    });
    let inside = encode_reply(&compressed, &push_pull, [0; 12]);
    [push_pull, Frame::User(noise(60_000).into()), Frame::Kv(inside.into())]
}

/// A push-pull without layers: an even first byte leaves all of it to the input; an odd one
/// writes a header for as many node states and bytes of user state as the next two bytes say.
pub fn push_pull(data: &[u8], heap: &dyn Heap) {
    let (choice, mut body) = choice(data);
    let mut bytes = vec![6];
    if let ([n_nodes, user_len, rest @ ..], 1) = (body, choice % 2) {
        bytes.extend_from_slice(b"\x83\xa4Join\xc3\xa5Nodes");
        bytes.extend_from_slice(&[n_nodes % 8, 0xac]);
        bytes.extend_from_slice(b"UserStateLen");
        bytes.push(user_len % 128);
        body = rest;
    }
    bytes.extend_from_slice(body);
    let security = &SECURITIES[0];
    let budget = budget(bytes.len(), bytes.len());
    let read = within(heap, budget, || read(Role::Acceptor, security, &[&bytes]));
    let Some(Frame::PushPull(push_pull)) = read.frames.first() else { return };
    assert!(push_pull.nodes.len() <= PUSH_PULL_NODES_MAX);
    assert!(push_pull.user_state.len() <= STREAM_FRAME_LEN_MAX);
    same_again(security, Role::Acceptor, &read.frames[0]);
}

/// Go's push-pulls, and its entries behind a header of ours.
pub fn push_pull_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for vector in vectors::of_kind("stream") {
        let bytes = vector.bytes();
        if bytes.first() == Some(&6) {
            seeds.push([&[0], &bytes[1..]].concat());
        }
    }
    let fragments = vectors::of_kind("msgpack").into_iter();
    let entries = vectors::list("decoder_acceptance")
        .chain(fragments.filter(|vector| vector.param("struct") == "pushNodeState"));
    for vector in entries {
        let is_entry = vector.field("struct").as_str().is_none_or(|name| name == "pushNodeState");
        if is_entry {
            seeds.push([&[1, 1, 3], &vector.bytes()[..], b"abc"].concat());
        }
    }
    seeds.push([&[0], &PushPull::default().encode()[1..]].concat());
    for frame in long_frames() {
        if let Frame::PushPull(push_pull) = frame {
            seeds.push([&[0], &push_pull.encode()[1..]].concat());
        }
    }
    seeds
}
