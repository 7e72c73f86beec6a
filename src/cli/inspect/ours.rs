//! Our own replication messages as objects: what user messages and links carry.
//!
//! Fields are called as in `node::replication::message`; an origin is written as 16 hex digits, as
//! in a version. A gossip key in a message is shown by its fingerprint.

use crate::kv::Record;
use crate::node::formats::Formats;
use crate::node::replication::message::{Item, KeyRequest, KvMessage, MessageError, Read, is_ours};
use crate::wire::keyring::Key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Most records and entries of a list that are shown of one message.
const SHOWN_MAX: usize = 1000;
/// Bytes of a value that are shown.
const VALUE_SHOWN_MAX: usize = 4096;

/// What a payload says, when it is of our replication.
pub(super) fn explain(payload: &[u8]) -> Option<Value> {
    if !is_ours(payload) {
        return None;
    }
    Some(match KvMessage::read(payload, Formats::KNOWN) {
        Ok(Read { message, format, n_passed_over }) => {
            let (kind, mut fields) = of(&message);
            fields.insert("type".to_owned(), format!("kv.{kind}").into());
            fields.insert("format".to_owned(), format.into());
            if n_passed_over > 0 {
                fields.insert("passed_over".to_owned(), n_passed_over.into());
            }
            Value::Object(fields)
        }
        Err(error @ MessageError::Kind(_)) => {
            json!({ "type": "kv.unknown", "note": error.to_string() })
        }
        Err(error) => json!({ "error": error.to_string() }),
    })
}

fn of(message: &KvMessage) -> (&'static str, Map<String, Value>) {
    let (kind, fields) = match message {
        KvMessage::Push(head, records) => (
            "push",
            json!({
                "from": id(head.from), "of": id(head.of), "settles": head.settles,
                "urgent": head.urgent, "records": list(records, record),
            }),
        ),
        KvMessage::Ack(head) => (
            "ack",
            json!({
                "from": id(head.from), "of": id(head.of), "through": head.through,
            }),
        ),
        KvMessage::Digest(head) => (
            "digest",
            json!({
                "from": id(head.from), "heads": heads(&head.heads), "root": id(head.root),
                "folded": id(head.folded), "reply": head.reply, "whole": head.whole,
                "stage": head.stage,
            }),
        ),
        KvMessage::Want(head) => (
            "want",
            json!({
                "from": id(head.from), "of": id(head.of), "ranges": head.ranges,
            }),
        ),
        KvMessage::Folded(head) => (
            "folded",
            json!({
                "from": id(head.from), "list": folded(&head.list),
            }),
        ),
        KvMessage::Pull(head) => (
            "pull",
            json!({
                "from": id(head.from), "heads": heads(&head.heads), "folded": folded(&head.folded),
                "fresh": head.fresh, "to": head.to.map(id), "first": head.first,
            }),
        ),
        KvMessage::PullEnd(head) => (
            "pullEnd",
            json!({
                "heads": heads(&head.heads), "folded": folded(&head.folded),
                "forgotten": head.forgotten, "reset": head.reset, "marks": head.marks,
            }),
        ),
        KvMessage::Busy(head) => ("busy", json!({ "retry_ms": head.retry_ms })),
        KvMessage::Roots(head) => (
            "roots",
            json!({
                "from": id(head.from), "roots": hashes(&head.roots), "first": head.first,
            }),
        ),
        KvMessage::Leaves(head) => (
            "leaves",
            json!({
                "shards": list(&head.shards, |(shard, leaves)| json!([shard, hashes(leaves)])),
                "more": head.more,
            }),
        ),
        KvMessage::Items(head) => (
            "items",
            json!({
                "leaves": list(&head.leaves, |(shard, leaf, items)| {
                    json!([shard, leaf, list(items, item)])
                }),
                "more": head.more,
            }),
        ),
        KvMessage::Verdicts(head, records) => (
            "verdicts",
            json!({
                "need": list(&head.need, |name| text(name)), "drop": list(&head.drop, item),
                "more": head.more, "records": list(records, record),
            }),
        ),
        KvMessage::Supply(head, records) => (
            "supply",
            json!({
                "from": id(head.from), "observe": head.observe, "records": list(records, record),
            }),
        ),
        KvMessage::KeyRequest(head) => (
            "keyRequest",
            json!({
                "id": head.id, "action": action(head), "key": fingerprint(head),
            }),
        ),
        KvMessage::KeyReply(head) => (
            "keyReply",
            json!({
                "id": head.id, "from": id(head.from), "fingerprints": head.fingerprints,
                "error": head.error,
            }),
        ),
        #[cfg(feature = "next-format")]
        KvMessage::Played(head) => (
            "played",
            json!({
                "from": id(head.from), "speaks": head.format,
            }),
        ),
    };
    match fields {
        Value::Object(fields) => (kind, fields),
        _ => (kind, Map::new()),
    }
}

fn id(number: u64) -> String {
    format!("{number:016x}")
}

fn list<T>(entries: &[T], explain: impl Fn(&T) -> Value) -> Value {
    let mut shown: Vec<Value> = entries.iter().take(SHOWN_MAX).map(explain).collect();
    if entries.len() > SHOWN_MAX {
        shown.push(format!("and {} more", entries.len() - SHOWN_MAX).into());
    }
    shown.into()
}

fn heads(heads: &[(u64, u64)]) -> Value {
    list(heads, |(origin, through)| json!([id(*origin), through]))
}

fn folded(entries: &[(u64, u64, u64)]) -> Value {
    list(entries, |(origin, last, forgotten)| json!([id(*origin), last, forgotten]))
}

fn hashes(bytes: &[u8]) -> Value {
    let hashes: Vec<&[u8]> = bytes.chunks(8).collect();
    list(&hashes, |hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

/// UTF-8 as it is, anything else as its bytes.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

fn item(item: &Item) -> Value {
    json!({
        "key": text(&item.key), "version": item.stamp().to_string(), "seq": item.seq,
        "check": format!("{:08x}", item.check),
    })
}

fn record(record: &Record) -> Value {
    let mut shown = json!({
        "key": text(record.key()), "version": record.stamp().to_string(),
        "seq": record.dot().seq,
    });
    match record.value() {
        None => shown["deleted"] = true.into(),
        Some(value) if value.len() > VALUE_SHOWN_MAX => shown["size"] = value.len().into(),
        Some(value) => shown["value"] = text(value),
    }
    if let Some(content_type) = record.content_type() {
        shown["content_type"] = content_type.into();
    }
    shown
}

fn action(request: &KeyRequest) -> Value {
    match request.action {
        0 => "list".into(),
        1 => "install".into(),
        2 => "use".into(),
        3 => "remove".into(),
        other => other.into(),
    }
}

fn fingerprint(request: &KeyRequest) -> Option<String> {
    Key::from_bytes(&request.key).map(|key| key.fingerprint().to_owned())
}
