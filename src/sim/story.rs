//! What travels, in words for the story.

use crate::node::replication::message::KvMessage;
use crate::wire::stream::Frame;
use crate::wire::type_byte;
use bytes::Bytes;

/// One message of a datagram: ours in full, of membership its kind.
pub(super) fn part_told(part: &Bytes) -> String {
    match part.split_first() {
        Some((&type_byte::USER, _)) => told(&Frame::Kv(part.slice(1..).into())),
        Some((kind, _)) => format!("type {kind}"),
        None => String::new(),
    }
}

/// A frame in one word, or a message of ours in as many as it takes.
pub(super) fn told(frame: &Frame) -> String {
    match frame {
        Frame::Kv(payload) => match KvMessage::decode(&payload.join()) {
            Ok(message) => format!("{message:?}"),
            Err(error) => error.to_string(),
        },
        Frame::PushPull(_) => "push-pull".to_owned(),
        Frame::Ping(_) => "ping".to_owned(),
        Frame::Ack(_) => "ack".to_owned(),
        Frame::User(_) => "user message".to_owned(),
        Frame::Error(why) => format!("error: {why}"),
    }
}
