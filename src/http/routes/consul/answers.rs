//! What Consul's API answers: headers, entries, flags, texts.

use crate::http::json::json_text;
use crate::http::response::{Response, number};
use crate::http::routes::context::{Api, Call, Outcome};
use crate::kv::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a value with flags is kept as, before the number.
const FLAGS: &str = "application/octet-stream;flags=";
/// The type of a text.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// What flags are kept as, with the value: they are no part of the replicated form.
pub(super) fn content_type(flags: u64) -> Option<String> {
    (flags != 0).then(|| format!("{FLAGS}{flags}"))
}

/// The flags kept with a value.
pub(super) fn flags(record: &Record) -> u64 {
    let text = record.content_type().and_then(|kept| kept.strip_prefix(FLAGS));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether a token is asked for.
pub(super) fn is_guarded(api: &Api) -> bool {
    api.shared.config.tokens.is_some()
}

/// Adds the headers that clients look for in the answer to any read.
pub(super) fn read_headers<'r>(api: &Api, response: Response<'r>, index: u64) -> Response<'r> {
    read_headers_if(is_guarded(api), response, index)
}

/// The same where nothing else is known of the server.
pub(super) fn read_headers_if(
    is_guarded: bool,
    response: Response<'_>,
    index: u64,
) -> Response<'_> {
    policy_if(is_guarded, response)
        .header("X-Consul-Index", &index.to_string())
        .header("X-Consul-KnownLeader", "true")
        .header("X-Consul-LastContact", "0")
        .header("X-Consul-Effective-Consistency", "stale")
}

/// Adds what is said to any request.
pub(super) fn policy<'r>(api: &Api, response: Response<'r>) -> Response<'r> {
    policy_if(is_guarded(api), response)
}

/// The same where nothing else is known of the server.
pub(super) fn policy_if(is_guarded: bool, response: Response<'_>) -> Response<'_> {
    let policy = if is_guarded { "deny" } else { "allow" };
    response.header("X-Consul-Default-ACL-Policy", policy)
}

/// Answers a read with the JSON in the body.
pub(super) fn json(api: &Api, call: Call<'_>, index: u64) -> Outcome {
    let response = Response::new(call.out, call.now.wall, 200, call.body.len()).json();
    read_headers(api, response, index).end(call.request.form(), call.body);
    Outcome::Answered(200)
}

/// 404: there is nothing, and this is its index.
pub(super) fn nothing(api: &Api, call: Call<'_>, index: u64) -> Outcome {
    let response = Response::new(call.out, call.now.wall, 404, 0);
    read_headers(api, response, index).end_bodiless();
    Outcome::Answered(404)
}

/// Whether a write was made.
pub(super) fn done(api: &Api, call: Call<'_>, is_done: bool) -> Outcome {
    written(api, call, 200, if is_done { TRUE } else { b"false" })
}

/// The answer to a write that was made.
pub(super) const TRUE: &[u8] = b"true";

/// Answers a write with JSON.
pub(super) fn written(api: &Api, call: Call<'_>, status: u16, body: &[u8]) -> Outcome {
    let response = Response::new(call.out, call.now.wall, status, body.len()).json();
    policy(api, response).end(call.request.form(), body);
    Outcome::Answered(status)
}

/// What stands in an entry before its value.
pub(super) fn entry_begin(out: &mut Vec<u8>, record: &Record) {
    begin(out, std::str::from_utf8(record.key()).unwrap_or_default(), flags(record));
}

/// The same for an entry of which there may be no record.
pub(super) fn begin(out: &mut Vec<u8>, key: &str, flags: u64) {
    out.extend_from_slice(b"{\"LockIndex\":0,\"Key\":");
    json_text(out, key);
    out.extend_from_slice(b",\"Flags\":");
    out.extend_from_slice(flags.to_string().as_bytes());
    out.extend_from_slice(b",\"Value\":");
}

/// A value; an empty one is `null`, as Consul has it.
pub(super) fn value(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() {
        return out.extend_from_slice(b"null");
    }
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(value).as_bytes());
    out.push(b'"');
}

/// Bytes of [`value`].
pub(super) fn value_len(value: &[u8]) -> usize {
    if value.is_empty() { 4 } else { 2 + value.len().div_ceil(3) * 4 }
}

/// What stands behind the value.
pub(super) fn end(out: &mut Vec<u8>, index: u64) {
    for name in [",\"CreateIndex\":", ",\"ModifyIndex\":"] {
        out.extend_from_slice(name.as_bytes());
        number(out, usize::try_from(index).unwrap_or(usize::MAX));
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, OriginId, Stamp};

    fn record(content_type: Option<&str>) -> Record {
        let stamp = Stamp { time: HlcTime(1), origin: OriginId(1) };
        Record::new(stamp, 1, b"a/\"b\"", Some((b"hello", content_type)))
    }

    #[test]
    fn flags_of_64_bits_are_kept_beside_the_value() {
        for n in [0, 42, 3_304_740_253_564_472_344, u64::MAX] {
            assert_eq!(flags(&record(content_type(n).as_deref())), n);
        }
        for other in [None, Some("text/plain"), Some("application/octet-stream;flags=x")] {
            assert_eq!(flags(&record(other)), 0);
        }
    }

    #[test]
    fn an_entry_has_every_field_in_consuls_order() {
        let mut out = Vec::new();
        entry_begin(&mut out, &record(Some("application/octet-stream;flags=42")));
        let before = out.len();
        value(&mut out, b"hello");
        assert_eq!(out.len() - before, value_len(b"hello"));
        end(&mut out, 7);
        let expected = "{\"LockIndex\":0,\"Key\":\"a/\\\"b\\\"\",\"Flags\":42,\
            \"Value\":\"aGVsbG8=\",\"CreateIndex\":7,\"ModifyIndex\":7}";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut empty = Vec::new();
        value(&mut empty, b"");
        assert_eq!((&empty[..], value_len(b"")), (&b"null"[..], 4));
    }
}
