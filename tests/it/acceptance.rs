//! What go-msgpack 2 makes of 119 unusual encodings, and that we make the same of them.

use crate::vectors::{Vector, list, unhex};
use bytes::Bytes;
use gossipykv::limits::PUSH_PULL_NODES_MAX;
use gossipykv::wire::message::Message;
use gossipykv::wire::packet::Security;
use gossipykv::wire::stream::{Frame, FrameReader, Role, StreamError};
use gossipykv::wire::{DecodeError, inspect, lzw};
use serde_json::{Value, json};

/// Where we differ from Go on purpose, and why.
const DIFFERENCES: [(&str, &str); 1] = [(
    "pushPullHeader",
    "Go decodes any count and refuses those outside 0..=1,048,576 a step later; we refuse those \
     outside 0..=131,072 at once: we remember no more members than half of that, and an entry \
     costs a hundred times as much in memory as on the wire",
)];

#[test]
fn same_verdict_and_value_as_go() {
    let mut n_rows = 0;
    for vector in list("decoder_acceptance") {
        let go = vector.field("go_msgpack_2_1_5");
        let ours = decode(vector);
        let expected = (go["ok"] == true).then(|| go["decoded"].clone());
        assert_eq!(ours.ok(), expected, "{} ({:?})", vector.id(), decode(vector).err());
        n_rows += 1;
    }
    assert_eq!(n_rows, 119);
}

fn decode(vector: Vector) -> Result<Value, String> {
    let body = unhex(vector.text("hex"));
    match vector.text("struct") {
        "alive" => message(4, &body),
        "indirectPing" => message(1, &body),
        "ack" => message(2, &body),
        "pushPullHeader" => header(&body),
        "pushNodeState" => node_state(&body),
        "compress" => compress(vector, &body),
        other => panic!("{other}"),
    }
}

fn message(kind: u8, body: &[u8]) -> Result<Value, String> {
    let bytes = Bytes::from([&[kind], body].concat());
    let message = Message::decode(&bytes).map_err(|error| error.to_string())?;
    let mut object = inspect::message(&message);
    object.as_object_mut().expect("an object").remove("type");
    Ok(object)
}

/// Reads the header by reading a push-pull that begins with it.
fn header(body: &[u8]) -> Result<Value, String> {
    let mut reader = FrameReader::new(Role::Acceptor);
    reader.extend(&[6]);
    reader.extend(body);
    // Go's verdict is on the header alone; ours comes when as many entries follow.
    reader.extend(&[0x80; 16]);
    match reader.next(&Security::default()) {
        Ok(Some(Frame::PushPull(push_pull))) => Ok(json!({
            "Join": push_pull.join, "Nodes": push_pull.nodes.len(),
            "UserStateLen": push_pull.user_state.len(),
        })),
        Err(StreamError::OutOfBounds { field: "Nodes", value, max }) => {
            assert_eq!((max, DIFFERENCES[0].0), (PUSH_PULL_NODES_MAX, "pushPullHeader"));
            assert!(!(0..=max as i64).contains(&value));
            Ok(json!({ "Join": false, "Nodes": value, "UserStateLen": 0 }))
        }
        Err(error) => Err(error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn node_state(body: &[u8]) -> Result<Value, String> {
    // Nodes: 1
    let stream = [&[6, 0x81, 0xa5], &b"Nodes"[..], &[1], body].concat();
    let lines = inspect::stream(&stream, &Security::default().keyring, b"");
    match lines[0].get("error") {
        Some(error) => Err(error.to_string()),
        None => Ok(lines[0]["nodes"][0].clone()),
    }
}

/// The struct is judged by how far decompression gets with it.
fn compress(vector: Vector, body: &[u8]) -> Result<Value, String> {
    let expected = &vector.field("go_msgpack_2_1_5")["decoded"];
    match lzw::decompress(body, 1000) {
        Err(DecodeError::UnknownAlgorithm(algo)) if algo != 0 => {
            Ok(json!({ "Algo": algo, "Buf": expected["Buf"] }))
        }
        Err(DecodeError::BrokenLzw) => Ok(json!({ "Algo": 0, "Buf": expected["Buf"] })),
        other => Err(format!("{other:?}")),
    }
}
