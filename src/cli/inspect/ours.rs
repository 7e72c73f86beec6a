//! Our own replication messages as objects: what user messages and links carry.
//!
//! Fields are called as in `node::replication::message`; an origin is written as 16 hex digits, as
//! in a version. A gossip key in a message is shown by its fingerprint.

use crate::kv::Record;
use crate::node::formats::Formats;
use crate::node::replication::message::{
    Ack, Digest, Item, Items, KeyReply, KeyRequest, KvMessage, Leaves, MessageError, Pull, PullEnd,
    Push, Read, Roots, Supply, Verdicts, Want, is_ours,
};
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
        KvMessage::Push(head, records) => ("push", push(head, records)),
        KvMessage::Ack(head) => ("ack", ack(head)),
        KvMessage::Digest(head) => ("digest", digest(head)),
        KvMessage::Want(head) => ("want", want(head)),
        KvMessage::Folded(head) => {
            ("folded", json!({ "from": id(head.from), "list": folded(&head.list) }))
        }
        KvMessage::Pull(head) => ("pull", pull(head)),
        KvMessage::PullEnd(head) => ("pullEnd", pull_end(head)),
        KvMessage::Busy(head) => ("busy", json!({ "retry_ms": head.retry_ms })),
        KvMessage::Roots(head) => ("roots", roots(head)),
        KvMessage::Leaves(head) => ("leaves", leaves(head)),
        KvMessage::Items(head) => ("items", items(head)),
        KvMessage::Verdicts(head, records) => ("verdicts", verdicts(head, records)),
        KvMessage::Supply(head, records) => ("supply", supply(head, records)),
        KvMessage::KeyRequest(head) => ("keyRequest", key_request(head)),
        KvMessage::KeyReply(head) => ("keyReply", key_reply(head)),
        #[cfg(feature = "next-format")]
        KvMessage::Played(head) => {
            ("played", json!({ "from": id(head.from), "speaks": head.format }))
        }
    };
    match fields {
        Value::Object(fields) => (kind, fields),
        _ => (kind, Map::new()),
    }
}

fn push(head: &Push, records: &[Record]) -> Value {
    json!({
        "from": id(head.from), "of": id(head.of), "settles": head.settles,
        "urgent": head.urgent, "records": list(records, record),
    })
}

fn ack(head: &Ack) -> Value {
    json!({ "from": id(head.from), "of": id(head.of), "through": head.through })
}

fn digest(head: &Digest) -> Value {
    json!({
        "from": id(head.from), "heads": heads(&head.heads), "root": id(head.root),
        "folded": id(head.folded), "reply": head.reply, "whole": head.whole, "stage": head.stage,
    })
}

fn want(head: &Want) -> Value {
    json!({ "from": id(head.from), "of": id(head.of), "ranges": head.ranges })
}

fn pull(head: &Pull) -> Value {
    json!({
        "from": id(head.from), "heads": heads(&head.heads), "folded": folded(&head.folded),
        "fresh": head.fresh, "to": head.to.map(id), "first": head.first,
    })
}

fn pull_end(head: &PullEnd) -> Value {
    json!({
        "heads": heads(&head.heads), "folded": folded(&head.folded),
        "forgotten": head.forgotten, "reset": head.reset, "marks": head.marks,
    })
}

fn roots(head: &Roots) -> Value {
    json!({ "from": id(head.from), "roots": hashes(&head.roots), "first": head.first })
}

fn leaves(head: &Leaves) -> Value {
    let shards = list(&head.shards, |(shard, leaves)| json!([shard, hashes(leaves)]));
    json!({ "shards": shards, "more": head.more })
}

fn items(head: &Items) -> Value {
    let leaves = list(&head.leaves, |(shard, leaf, items)| json!([shard, leaf, list(items, item)]));
    json!({ "leaves": leaves, "more": head.more })
}

fn verdicts(head: &Verdicts, records: &[Record]) -> Value {
    json!({
        "need": list(&head.need, |name| text(name)), "drop": list(&head.drop, item),
        "more": head.more, "records": list(records, record),
    })
}

fn supply(head: &Supply, records: &[Record]) -> Value {
    json!({
        "from": id(head.from), "observe": head.observe, "records": list(records, record),
    })
}

fn key_request(head: &KeyRequest) -> Value {
    let (action, is_name) = match head.action {
        0 => (json!("list"), false),
        1 => (json!("install"), false),
        2 => (json!("use"), false),
        3 => (json!("remove"), false),
        4 => (json!("forget"), true),
        other => (json!(other), false),
    };
    if is_name {
        return json!({ "id": head.id, "action": action, "member": text(&head.key) });
    }
    // Who lists names no key, or the fingerprint of one that it is about to have used or removed.
    let print = match head.action {
        0 if !head.key.is_empty() => Some(text(&head.key)),
        _ => Key::from_bytes(&head.key).map(|key| key.fingerprint().into()),
    };
    json!({ "id": head.id, "action": action, "key": print })
}

fn key_reply(head: &KeyReply) -> Value {
    json!({
        "id": head.id, "from": id(head.from), "fingerprints": head.fingerprints,
        "error": head.error,
    })
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
    if let Some(ttl) = record.ttl() {
        shown["ttl"] = ttl.into();
    }
    if let Some(content_type) = record.content_type() {
        shown["content_type"] = content_type.into();
    }
    shown
}
