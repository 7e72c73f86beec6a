//! What a client sends to `/v1/txn`.
//!
//! ```text
//! [{"KV":{"Verb":"set","Key":"k","Value":"<base64>","Flags":0,"Index":0,"Session":""}}, ..]
//! ```
//!
//! Names are read in any case, as Go reads them; unknown ones are refused.

use super::asked::folded;
use crate::http::failure::Failure;
use crate::limits::BATCH_OPS_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// One operation as it was sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) verb: String,
    /// With its slashes folded, as those of a path are.
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) flags: u64,
    pub(super) index: u64,
}

/// The operations of a body.
///
/// # Errors
/// 400 for what is none, 413 for too many, 501 for those of the catalog.
pub(super) fn read(body: &[u8]) -> Result<Vec<Sent>, Failure> {
    let Parts { parts, n } = serde_json::from_slice(body)
        .map_err(|error| Failure::new(400, format_args!("Failed to parse body: {error}")))?;
    if n > BATCH_OPS_MAX {
        let message =
            format_args!("Transaction contains too many operations ({n} > {BATCH_OPS_MAX})");
        return Err(Failure::new(413, message));
    }
    let is_of_kv = |part: Part| match part {
        Part::Kv(sent) => Ok(sent),
        Part::Other => Err(Failure::new(501, "only KV operations are served")),
        Part::Empty => Err(Failure::new(400, "Failed to parse body: an operation without KV")),
    };
    parts.into_iter().map(is_of_kv).collect()
}

/// No more operations are kept than a transaction may have; the rest is counted.
struct Parts {
    parts: Vec<Part>,
    n: usize,
}

enum Part {
    Kv(Sent),
    /// Something of the catalog.
    Other,
    Empty,
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Parts, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Parts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of operations")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Parts, A::Error> {
                let mut parts = Vec::new();
                while parts.len() < BATCH_OPS_MAX {
                    match from.next_element()? {
                        Some(part) => parts.push(part),
                        None => break,
                    }
                }
                let mut n = parts.len();
                while from.next_element::<IgnoredAny>()?.is_some() {
                    n += 1;
                }
                Ok(Parts { parts, n })
            }
        }
        from.deserialize_seq(All)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Part, D::Error> {
        struct Kinds;
        impl<'de> Visitor<'de> for Kinds {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an operation, as {\"KV\":{..}}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Part, A::Error> {
                let mut part = Part::Empty;
                while let Some(name) = from.next_key::<String>()? {
                    match &*name.to_ascii_lowercase() {
                        "kv" => {
                            if let Some(sent) = from.next_value()? {
                                part = Part::Kv(sent);
                            }
                        }
                        "node" | "service" | "check" | "intention" => {
                            if from.next_value::<Option<IgnoredAny>>()?.is_some() {
                                part = Part::Other;
                            }
                        }
                        _ => return Err(A::Error::custom(format_args!("unknown field {name:?}"))),
                    }
                }
                Ok(part)
            }
        }
        from.deserialize_map(Kinds)
    }
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Sent, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Sent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the object of a KV operation")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Sent, A::Error> {
                let mut sent = Sent::default();
                while let Some(name) = from.next_key::<String>()? {
                    match &*name.to_ascii_lowercase() {
                        "verb" => sent.verb = from.next_value()?,
                        "key" => sent.key = folded(&from.next_value::<String>()?),
                        "value" => {
                            let text: Option<String> = from.next_value()?;
                            let value = STANDARD.decode(text.unwrap_or_default());
                            sent.value = value.map_err(A::Error::custom)?;
                        }
                        "flags" => sent.flags = from.next_value()?,
                        "index" => sent.index = from.next_value()?,
                        // The verbs that need one are refused.
                        "session" => _ = from.next_value::<Option<String>>()?,
                        "namespace" | "partition" => {
                            let text: Option<String> = from.next_value()?;
                            let text = text.unwrap_or_default();
                            if !["", "default"].contains(&&*text) {
                                let why = "Namespaces are a Consul Enterprise feature";
                                return Err(A::Error::custom(why));
                            }
                        }
                        _ => return Err(A::Error::custom(format_args!("unknown field {name:?}"))),
                    }
                }
                Ok(sent)
            }
        }
        from.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_in_any_case_and_nothing_unknown_is() {
        let body = br#"[{"KV":{"Verb":"set","Key":"k","Value":"aGVsbG8=","Flags":42,
            "Session":""},"Node":null},{"kv":{"VERB":"cas","key":"l","Value":null,"index":7}}]"#;
        let value = b"hello".to_vec();
        let set = Sent { verb: "set".into(), key: "k".into(), value, flags: 42, index: 0 };
        let cas = Sent { verb: "cas".into(), key: "l".into(), index: 7, ..Sent::default() };
        assert_eq!(read(body), Ok(vec![set, cas]));
        assert_eq!(read(b"[]"), Ok(vec![]));
        for bad in [
            &b"{}"[..],
            b"",
            b"[1]",
            b"[{}]",
            b"[{\"KV\":{\"Verb\":\"set\",\"Nope\":1}}]",
            b"[{\"KX\":{}}]",
            b"[{\"KV\":{\"Value\":\"%\"}}]",
            b"[{\"KV\":{\"Flags\":-1}}]",
            b"[{\"KV\":{\"Namespace\":\"team\"}}]",
        ] {
            let failure = read(bad).unwrap_err();
            assert_eq!(failure.status, 400, "{}", String::from_utf8_lossy(bad));
            assert!(failure.message.starts_with("Failed to parse body: "), "{}", failure.message);
        }
        assert_eq!(read(b"[{\"Node\":{\"a\":1}}]").unwrap_err().status, 501);
    }

    #[test]
    fn too_many_operations_are_counted_and_not_kept() {
        let body = format!("[{}{{}}]", "{},".repeat(BATCH_OPS_MAX));
        let failure = read(body.as_bytes()).unwrap_err();
        assert_eq!(failure.status, 413);
        assert_eq!(failure.message, "Transaction contains too many operations (129 > 128)");
    }
}
