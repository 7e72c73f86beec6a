//! Bytes no honest peer sends: refused for the right reason, at once, and within bounds.
//!
//! The first five are the decoder bugs memberlist fixed in 2026; the rest are the checks it lacks
//! or once lacked.

use bytes::Bytes;
use gossipykv::limits::{
    META_LEN_MAX, NODE_NAME_LEN_MAX, PACKET_COMPRESSED_MAX, PACKET_INFLATED_LEN_MAX,
    PUSH_PULL_NODES_MAX, STREAM_FRAME_LEN_MAX, STREAM_INFLATED_LEN_MAX, STREAM_STRUCT_LEN_MAX,
};
use gossipykv::wire::keyring::{CryptError, Key, Keyring};
use gossipykv::wire::message::{Alive, Message, NodeName, PushNodeState, PushPull, Suspect, Vsn};
use gossipykv::wire::packet::{PacketError, Security, open, seal};
use gossipykv::wire::stream::{Frame, FrameReader, Role, StreamError, encode_request};
use gossipykv::wire::{DecodeError, inspect, lzw};

fn keyed() -> Security {
    let key = Key::from_bytes(&[7; 16]).expect("an AES key");
    Security { keyring: Keyring::new([key]).expect("one key"), ..Security::default() }
}

fn accept(security: &Security, bytes: &[u8]) -> Result<Option<Frame>, StreamError> {
    let mut reader = FrameReader::new(Role::Acceptor);
    reader.extend(bytes);
    let outcome = reader.next(security);
    if outcome.is_err() {
        assert!(reader.is_done());
        reader.extend(bytes);
        assert_eq!(reader.next(security), Ok(None), "nothing comes after an error");
    }
    outcome
}

#[track_caller]
fn check_refused(bytes: &[u8], expected: StreamError, answered: bool) {
    assert_eq!(accept(&Security::default(), bytes), Err(expected));
    assert_eq!(expected.reply().is_some(), answered, "{expected}");
}

/// A map of one field with a Go `int`.
fn header(field: &str, value: i64) -> Vec<u8> {
    let key = [&[0xa0 | field.len() as u8], field.as_bytes()].concat();
    [&[0x81], &key[..], &[0xd3], &value.to_be_bytes()].concat()
}

#[test]
fn header_counts_are_checked_before_they_are_believed() {
    for value in [-1, i64::MIN, PUSH_PULL_NODES_MAX as i64 + 1, i64::MAX] {
        let refused = StreamError::OutOfBounds { field: "Nodes", value, max: PUSH_PULL_NODES_MAX };
        check_refused(&[&[6], &header("Nodes", value)[..]].concat(), refused, false);
    }
    for value in [-1, STREAM_FRAME_LEN_MAX as i64 + 1, i64::MAX] {
        let refused =
            StreamError::OutOfBounds { field: "UserStateLen", value, max: STREAM_FRAME_LEN_MAX };
        check_refused(&[&[6], &header("UserStateLen", value)[..]].concat(), refused, false);
    }
}

#[test]
fn user_message_length_is_checked_before_it_is_believed() {
    for value in [-1, STREAM_FRAME_LEN_MAX as i64 + 1, i64::MAX] {
        let refused =
            StreamError::OutOfBounds { field: "UserMsgLen", value, max: STREAM_FRAME_LEN_MAX };
        check_refused(&[&[8], &header("UserMsgLen", value)[..]].concat(), refused, false);
    }
}

#[test]
fn a_decompression_bomb_stops_at_the_bound() {
    let bomb = lzw::compress(&vec![0; STREAM_INFLATED_LEN_MAX + 1]);
    assert!(bomb.len() < STREAM_INFLATED_LEN_MAX / 500);
    let too_long = DecodeError::InflatedTooLong(STREAM_INFLATED_LEN_MAX);
    check_refused(&bomb, StreamError::Decompress(too_long), true);
    let opened = open(&Security::default(), bomb.into()).expect("no outer layer");
    assert!(matches!(opened.dropped[..], [DecodeError::InflatedTooLong(_)]));
}

/// A compound of these parts.
fn compound(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![7, parts.len() as u8];
    parts.iter().for_each(|part| bytes.extend_from_slice(&(part.len() as u16).to_be_bytes()));
    bytes.extend(parts.concat());
    bytes
}

/// Cuts a `compress` message of ours, whose stream is 256 to 65,535 bytes, before its end code:
/// it expands nearly as far, and then is refused.
fn without_end(message: &[u8]) -> Vec<u8> {
    let at = message.windows(5).position(|bytes| bytes == b"\xa3Buf\xda").expect("a str16") + 5;
    let mut broken = message[..message.len() - 4].to_vec();
    let len = (broken.len() - at - 2) as u16;
    broken[at..at + 2].copy_from_slice(&len.to_be_bytes());
    broken
}

#[test]
fn bombs_of_one_datagram_share_a_bound() {
    let plain_len = PACKET_INFLATED_LEN_MAX / 2 + 8_192;
    let half = lzw::compress(&vec![8; plain_len]);
    let refused = |parts: &[&[u8]]| {
        let opened = open(&Security::default(), compound(parts).into()).expect("no outer layer");
        (opened.messages.len(), opened.dropped)
    };
    let left = PACKET_INFLATED_LEN_MAX - plain_len;
    assert_eq!(refused(&[&half, &half]), (1, vec![DecodeError::InflatedTooLong(left)]));
    // The work done for a part that ends badly counts too.
    let (taken, dropped) = refused(&[&without_end(&half), &half]);
    assert_eq!((taken, dropped[0]), (0, DecodeError::BrokenLzw));
    assert!(matches!(dropped[1], DecodeError::InflatedTooLong(left) if left < plain_len));
    let whole = lzw::compress(&vec![8; PACKET_INFLATED_LEN_MAX + 1]);
    let (taken, dropped) = refused(&[&whole, &lzw::compress(&[8; 100])]);
    assert_eq!((taken, dropped[1]), (0, DecodeError::InflatedTooLong(0)));
}

/// Setting up a decoder costs far more than a byte of output, so their number is bounded, not only
/// what they expand to.
#[test]
fn compressed_layers_of_one_datagram_have_a_number() {
    let part = lzw::compress(b"\x08x");
    let many = compound(&[&part[..]; 255]);
    for datagram in [many.clone(), lzw::compress(&many)] {
        let nested = usize::from(datagram[0] == 9);
        let opened = open(&Security::default(), datagram.into()).expect("no outer layer");
        assert_eq!(opened.messages.len(), PACKET_COMPRESSED_MAX - nested);
        let refused = DecodeError::TooManyCompressed(PACKET_COMPRESSED_MAX);
        assert_eq!(opened.dropped, vec![refused; 255 - PACKET_COMPRESSED_MAX + nested]);
    }
}

#[test]
fn an_explanation_is_not_larger_than_what_a_datagram_expands_to() {
    let bomb = lzw::compress(&vec![8; PACKET_INFLATED_LEN_MAX / 3]);
    let parts = vec![&bomb[..]; 100];
    let nested = lzw::compress(&compound(&parts));
    for datagram in [compound(&parts[..30]), nested] {
        let lines = inspect::packet(&datagram, &Keyring::default(), b"");
        let shown: usize = lines.iter().map(|line| line.to_string().len()).sum();
        assert!(shown < 3 * PACKET_INFLATED_LEN_MAX, "{shown} bytes");
        assert!(lines.iter().any(|line| line["error"].is_string()), "and says so");
    }
}

#[test]
fn short_versions_are_no_versions() {
    for len in 0..Vsn::LEN {
        assert_eq!(Vsn::from_bytes(&vec![1; len]), None);
        let vsn = Some(Bytes::from(vec![1; len]));
        let message = Message::Alive(Alive { vsn, ..Alive::default() });
        assert_eq!(Message::decode(&message.encode()), Ok(message), "kept as announced");
    }
    let vsn = Vsn { pmin: 1, pmax: 5, pcur: 2, dmin: 0, dmax: 5, dcur: 4 };
    assert_eq!(Vsn::from_bytes(&vsn.to_bytes()), Some(vsn));
}

#[test]
fn an_empty_message_inside_compression() {
    let empty = lzw::compress(b"");
    check_refused(&empty, StreamError::EmptyFrame, true);
    let opened = open(&Security::default(), empty.into()).expect("no outer layer");
    assert_eq!(opened.dropped, [DecodeError::Empty]);
}

#[test]
fn an_empty_message_inside_encryption() {
    let security = keyed();
    let mut blob = Vec::new();
    security.keyring.seal([0; 12], &[10, 0, 0, 0, 29], b"", &mut blob);
    let frame = [&[10, 0, 0, 0, 29], &blob[..]].concat();
    assert_eq!(accept(&security, &frame), Err(StreamError::EmptyFrame));

    let mut blob = Vec::new();
    security.keyring.seal([0; 12], b"", b"", &mut blob);
    let opened = open(&security, blob.into()).expect("authentic");
    assert_eq!(opened.dropped, [DecodeError::Empty]);
}

#[test]
fn compounds_that_lie() {
    let check = |bytes: &'static [u8], expected: DecodeError| {
        let opened = open(&Security::default(), Bytes::from_static(bytes)).expect("no layer");
        assert_eq!((opened.messages.len(), &opened.dropped[..]), (0, &[expected][..]));
    };
    check(&[7], DecodeError::Truncated { missing: 1 });
    // 255 parts: a table of 510 bytes, which eight bits would make 254.
    check(&[7, 255], DecodeError::Truncated { missing: 510 });
    check(&[7, 1, 0], DecodeError::Truncated { missing: 1 });
    check(&[7, 1, 0xff, 0xff], DecodeError::CompoundTruncated { missing: 1, count: 1 });
    check(&[7, 1, 0, 0], DecodeError::Empty);
}

#[test]
fn labels_that_lie() {
    for bytes in [&[0xf4][..], &[0xf4, 0], &[0xf4, 5, 1, 2]] {
        let opened = open(&Security::default(), Bytes::from_static(bytes));
        assert_eq!(opened, Err(PacketError::BrokenLabel));
    }
    check_refused(&[0xf4, 0], StreamError::BrokenLabel, false);
    check_refused(&[0xf4, 1, b'x'], StreamError::LabelMismatch, true);
    let labelled = Security { label: Bytes::from_static(b"here"), ..Security::default() };
    assert_eq!(accept(&labelled, &[0]), Err(StreamError::LabelMismatch));
    assert_eq!(accept(&labelled, b"GET /"), Err(StreamError::UnexpectedType(b'G')));
    // A second header is not a message.
    let twice = b"\xf4\x04here\xf4\x04here";
    assert_eq!(accept(&labelled, twice), Err(StreamError::UnexpectedType(0xf4)));
    let opened = open(&labelled, Bytes::from_static(twice)).expect("the outer label is ours");
    assert_eq!(opened.dropped, [DecodeError::UnexpectedType(0xf4)]);
}

#[test]
fn encrypted_frames_that_lie() {
    let len = STREAM_FRAME_LEN_MAX as u32 + 1;
    let frame = [&[10], &len.to_be_bytes()[..]].concat();
    let too_long = StreamError::FrameTooLong { len: u64::from(len), max: STREAM_FRAME_LEN_MAX };
    assert_eq!(accept(&keyed(), &frame), Err(too_long), "before a byte of it is awaited");
    check_refused(&frame, StreamError::NoKeys, true);
    let short = CryptError::TooShort { len: 0, min: 29 };
    assert_eq!(accept(&keyed(), &[10, 0, 0, 0, 0]), Err(StreamError::Decrypt(short)));
    assert_eq!(accept(&keyed(), &[0]), Err(StreamError::NotEncrypted));
    assert!(StreamError::NotEncrypted.reply().is_some());
}

#[test]
fn a_frame_is_bound_to_its_header_and_label() {
    let security = Security { label: Bytes::from_static(b"here"), ..keyed() };
    let request = encode_request(&security, &Frame::User(Bytes::from_static(b"x")), [0; 12]);
    assert!(accept(&security, &request).is_ok());
    // Same key, other label, header rewritten to match.
    let other = Security { label: Bytes::from_static(b"ther"), ..keyed() };
    let mut forged = request.to_vec();
    forged[2..6].copy_from_slice(b"ther");
    let refused = Err(StreamError::Decrypt(CryptError::NoKeyFits));
    assert_eq!(accept(&other, &forged), refused);
    // A datagram is not a frame.
    let datagram = seal(&keyed(), &[Bytes::from_static(b"\x08x")], false, [0; 12]);
    let frame = [&[10], &(datagram.len() as u32).to_be_bytes()[..], &datagram].concat();
    assert_eq!(accept(&keyed(), &frame), refused);
}

#[test]
fn types_a_side_does_not_take() {
    for kind in 0..=u8::MAX {
        let mut reader = FrameReader::new(Role::Acceptor);
        reader.extend(&[kind]);
        let taken = reader.next(&Security::default()).is_ok();
        assert_eq!(taken, [0, 6, 8, 9, 200, 0xf4].contains(&kind), "acceptor, {kind}");
        let mut reader = FrameReader::new(Role::Dialer);
        reader.extend(&[kind]);
        let taken = reader.next(&Security::default()).is_ok();
        assert_eq!(taken, [2, 6, 9, 13, 200].contains(&kind), "dialler, {kind}");
    }
    // One level of compression only, and none around replication.
    for inner in [lzw::compress(b"\x08"), vec![200, 0, 0, 0, 0]] {
        let refused = StreamError::UnexpectedType(inner[0]);
        check_refused(&lzw::compress(&inner), refused, false);
    }
}

#[test]
fn names_and_meta_have_bounds() {
    let name = |len: usize| NodeName::from(&vec![b'n'; len][..]);
    let suspect = |len| Message::Suspect(Suspect { node: name(len), ..Suspect::default() });
    let alive = |len| Message::Alive(Alive { meta: Some(vec![1; len].into()), ..Alive::default() });
    for (message, max) in
        [(&suspect as &dyn Fn(usize) -> Message, NODE_NAME_LEN_MAX), (&alive, META_LEN_MAX)]
    {
        assert_eq!(Message::decode(&message(max).encode()), Ok(message(max)));
        let refused = Message::decode(&message(max + 1).encode());
        assert!(matches!(refused, Err(DecodeError::TooLong { .. })), "{refused:?}");
    }
}

#[test]
fn a_member_with_a_long_name_is_left_out_and_counted() {
    let state = |len: usize| PushNodeState {
        name: NodeName::from(&vec![b'n'; len][..]),
        ..PushNodeState::default()
    };
    let nodes = vec![state(1), state(NODE_NAME_LEN_MAX + 1), state(2)];
    let frame = Frame::PushPull(PushPull { nodes, ..PushPull::default() });
    for security in [Security::default(), keyed()] {
        let mut reader = FrameReader::new(Role::Acceptor);
        reader.extend(&encode_request(&security, &frame, [0; 12]));
        let Ok(Some(Frame::PushPull(push_pull))) = reader.next(&security) else {
            panic!("the other members are fine");
        };
        assert_eq!(push_pull.nodes, [state(1), state(2)]);
        assert_eq!(reader.refused_states(), 1);
    }
}

#[test]
fn a_struct_that_never_ends() {
    // A node state with one unknown field of four gigabytes, announced.
    let mut stream = [&[6], &header("Nodes", 1)[..]].concat();
    stream.extend_from_slice(b"\x81\xa1x\xc6\xff\xff\xff\xff");
    let outcome = accept(&Security::default(), &stream);
    let Err(StreamError::Decode { kind: 6, error: DecodeError::TooLong { max, .. } }) = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(max, STREAM_STRUCT_LEN_MAX as u64);
}

/// A reader that began again with every byte would take some 30 thousand million steps here and
/// not end; one that goes on where it stopped takes a million.
#[test]
fn work_is_linear_in_bytes_however_they_arrive() {
    let n_states = 16;
    let mut stream = [&[6], &header("Nodes", n_states)[..]].concat();
    let n_unknown = 30_000_u16;
    for _ in 0..n_states {
        stream.extend_from_slice(b"\x81\xa1x\xdc");
        stream.extend_from_slice(&(2 * n_unknown).to_be_bytes());
        stream.extend(std::iter::repeat_n(0xc0, 2 * usize::from(n_unknown)));
    }
    let mut reader = FrameReader::new(Role::Acceptor);
    let mut frame = None;
    for byte in &stream {
        assert_eq!(frame, None);
        reader.extend(std::slice::from_ref(byte));
        frame = reader.next(&Security::default()).expect("legal if silly");
    }
    let Some(Frame::PushPull(push_pull)) = frame else { panic!("complete") };
    assert_eq!(push_pull.nodes.len() as i64, n_states);
}

#[test]
fn a_megabyte_byte_by_byte() {
    let state = PushNodeState { meta: Some(vec![3; 500].into()), ..PushNodeState::default() };
    let frame = Frame::PushPull(PushPull { nodes: vec![state; 2000], ..PushPull::default() });
    for security in [
        Security { compress: false, ..Security::default() },
        Security::default(),
        Security { compress: false, ..keyed() },
    ] {
        let bytes = encode_request(&security, &frame, [0; 12]);
        let mut reader = FrameReader::new(Role::Acceptor);
        let mut read = None;
        for byte in &bytes {
            reader.extend(std::slice::from_ref(byte));
            read = read.or(reader.next(&security).expect("our own frame"));
        }
        assert_eq!(read.as_ref(), Some(&frame));
    }
}

#[test]
fn nested_unknown_fields_have_a_bound() {
    let nested = |depth: usize| {
        let mut body = b"\x04\x81\xa1x".to_vec();
        body.extend(std::iter::repeat_n(0x91, depth));
        body.push(0xc0);
        Message::decode(&body.into())
    };
    assert!(nested(30).is_ok());
    for depth in [33, 2000, 60_000] {
        assert!(matches!(nested(depth), Err(DecodeError::TooDeep(_))));
    }
}
