//! Events as bytes.
//!
//! ```text
//! NDJSON   {"event":"put","key":"a","value":"1","version":".."}
//! SSE      event: put
//!          data: {"key":"a","value":"1","version":".."}
//! ```
//!
//! What is in a value is in one line of JSON in both. A `sync` carries the token to go on from; in
//! SSE it is the event's `id`, too, so that browsers go on by themselves. The `id` of
//! a `reset` is the token `t0`: a browser that calls again before the next `sync` begins anew, too,
//! whatever token its address names.

use crate::http::json::json_text;
use crate::http::response::{number, type_field, version_fields};
use crate::kv::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Style {
    /// One JSON object a line.
    Lines,
    /// Server-sent events.
    Sse,
}

impl Style {
    /// The content type of a stream.
    pub(in crate::http) fn content_type(self) -> &'static str {
        match self {
            Style::Lines => "application/x-ndjson",
            Style::Sse => "text/event-stream",
        }
    }

    /// What a stream begins with: how soon a browser calls again, in milliseconds.
    pub(in crate::http) fn begin(self, out: &mut Vec<u8>, retry_millis: u64) {
        if self == Style::Sse {
            out.extend_from_slice(format!("retry: {retry_millis}\n\n").as_bytes());
        }
    }

    /// A key's present state: put, or deleted.
    pub(in crate::http) fn record(self, out: &mut Vec<u8>, record: &Record, only_keys: bool) {
        let name = if record.is_tombstone() { "delete" } else { "put" };
        self.event(out, name, None, |out| {
            write_entry(out, record, only_keys);
        });
    }

    /// All up to `token` has been told.
    pub(in crate::http) fn sync(self, out: &mut Vec<u8>, token: &str) {
        self.event(out, "sync", Some(token), |out| {
            out.extend_from_slice(b"\"token\":");
            json_text(out, token);
        });
    }

    /// What was told so far is void; everything follows anew.
    pub(in crate::http) fn reset(self, out: &mut Vec<u8>, reason: &str) {
        self.event(out, "reset", Some("t0"), |out| {
            out.extend_from_slice(b"\"reason\":");
            json_text(out, reason);
        });
    }

    /// The stream ends here; its client goes on elsewhere.
    pub(in crate::http) fn bye(self, out: &mut Vec<u8>, reason: &str) {
        self.event(out, "bye", None, |out| {
            out.extend_from_slice(b"\"reason\":");
            json_text(out, reason);
        });
    }

    fn event(
        self,
        out: &mut Vec<u8>,
        name: &str,
        id: Option<&str>,
        fields: impl FnOnce(&mut Vec<u8>),
    ) {
        match self {
            Style::Lines => {
                out.extend_from_slice(b"{\"event\":\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\",");
                fields(out);
                out.extend_from_slice(b"}\n");
            }
            Style::Sse => {
                if let Some(id) = id {
                    out.extend_from_slice(format!("id: {id}\n").as_bytes());
                }
                out.extend_from_slice(format!("event: {name}\ndata: {{").as_bytes());
                fields(out);
                out.extend_from_slice(b"}\n\n");
            }
        }
    }
}

/// Appends the fields of an entry: key, type if one was kept, version. Unless it is left out the
/// value comes along, as `value` when it is text and as `base64` otherwise; else its length does.
fn write_entry(out: &mut Vec<u8>, record: &Record, only_keys: bool) {
    out.extend_from_slice(b"\"key\":");
    json_text(out, std::str::from_utf8(record.key()).unwrap_or_default());
    if let (Some(value), false) = (record.value(), only_keys) {
        match std::str::from_utf8(value) {
            Ok(text) => {
                out.extend_from_slice(b",\"value\":");
                json_text(out, text);
            }
            Err(_) => {
                out.extend_from_slice(b",\"base64\":\"");
                out.extend_from_slice(STANDARD.encode(value).as_bytes());
                out.push(b'"');
            }
        }
    }
    type_field(out, record);
    version_fields(out, record);
    if let (Some(value), true) = (record.value(), only_keys) {
        out.extend_from_slice(b",\"size\":");
        number(out, value.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, OriginId, Stamp};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("events are text")
    }

    #[test]
    fn events_are_one_line_of_json_in_both_styles() {
        let stamp = Stamp { time: HlcTime(1), origin: OriginId(2) };
        let put = Record::new(stamp, 1, b"a\nb", Some((b"x\ny", None)));
        let version = "0000000000000001-0000000000000002";
        assert_eq!(
            text(|out| Style::Lines.record(out, &put, false)),
            format!(
                "{{\"event\":\"put\",\"key\":\"a\\nb\",\"value\":\"x\\ny\",\
                 \"version\":\"{version}\"}}\n"
            )
        );
        assert_eq!(
            text(|out| Style::Sse.record(out, &put, true)),
            format!(
                "event: put\ndata: {{\"key\":\"a\\nb\",\"version\":\"{version}\",\"size\":3}}\n\n"
            )
        );
        let delete = Record::new(stamp, 1, b"k", None);
        assert_eq!(
            text(|out| Style::Lines.record(out, &delete, false)),
            format!("{{\"event\":\"delete\",\"key\":\"k\",\"version\":\"{version}\"}}\n")
        );
        let lasting = Record::lasting(stamp, 1, b"k", Some((b"", None)), 2);
        assert_eq!(
            text(|out| Style::Lines.record(out, &lasting, true)),
            format!(
                "{{\"event\":\"put\",\"key\":\"k\",\"version\":\"{version}\",\
                 \"expires\":\"1970-01-01T00:00:02.000Z\",\"size\":0}}\n"
            )
        );
        assert_eq!(
            text(|out| Style::Lines.record(out, &lasting.expired(), false)),
            format!(
                "{{\"event\":\"delete\",\"key\":\"k\",\"version\":\"{version}-expired\",\
                 \"expired\":true}}\n"
            )
        );
        assert_eq!(
            text(|out| Style::Sse.sync(out, "t1.AA")),
            "id: t1.AA\nevent: sync\ndata: {\"token\":\"t1.AA\"}\n\n"
        );
        assert_eq!(
            text(|out| Style::Sse.reset(out, "old")),
            "id: t0\nevent: reset\ndata: {\"reason\":\"old\"}\n\n"
        );
        assert_eq!(
            text(|out| Style::Lines.bye(out, "leaving")),
            "{\"event\":\"bye\",\"reason\":\"leaving\"}\n"
        );
    }
}
