//! A line of an export: one entry as a JSON object.
//!
//! ```text
//!   {"key":"a","value":"text","type":"text/plain","version":"01a2..-acd7.."}
//!   {"key":"b","base64":"//4=","version":".."}             a value that is not UTF-8
//!   {"key":"c","value":"","version":"..","expires":"2026-11-29T18:05:15.000Z"}
//! ```
//!
//! Lines of `kv list --json`, whose values that are not UTF-8 read `{"base64":".."}`, are read as
//! well. What else a line has is passed over.

use crate::limits::{KEY_LEN_MAX, VALUE_LEN_HARD_MAX};
use crate::time::WallMillis;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// Longest line that is read: the largest value, each byte of it escaped as `\u0000`, and room.
pub(in crate::cli) const LINE_LEN_MAX: usize = 6 * VALUE_LEN_HARD_MAX + (16 << 10);

/// An item of a list as the node tells it.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Item {
    pub(in crate::cli) key: String,
    value: ItemValue,
    #[serde(rename = "type")]
    content_type: Option<String>,
    version: String,
    expires: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ItemValue {
    Text(String),
    Bytes { base64: String },
}

#[derive(Debug, Deserialize, Serialize)]
struct Line<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<LineValue<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type", default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    expires: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum LineValue<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Bytes {
        #[serde(borrow)]
        base64: Cow<'a, str>,
    },
}

/// What a line tells to write.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Entry<'a> {
    pub(in crate::cli) key: Cow<'a, str>,
    pub(in crate::cli) value: Cow<'a, [u8]>,
    pub(in crate::cli) content_type: Option<Cow<'a, str>>,
    /// When it expires, whenever it is written.
    pub(in crate::cli) expires: Option<SystemTime>,
}

impl Entry<'_> {
    /// The seconds that it lasts from now on, at least one; `None` when it stays.
    ///
    /// # Errors
    /// It has expired.
    pub(in crate::cli) fn ttl(&self, now: WallMillis) -> Result<Option<u64>, Expired> {
        let Some(expires) = self.expires else { return Ok(None) };
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0);
        let left = expires.duration_since(now).unwrap_or_default();
        if left.is_zero() { Err(Expired) } else { Ok(Some(left.as_secs().max(1))) }
    }
}

/// An entry whose time is over.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Expired;

impl Item {
    /// Appends the line of the item, its end included.
    pub(in crate::cli) fn write(&self, out: &mut Vec<u8>) {
        let (value, base64) = match &self.value {
            ItemValue::Text(text) => (Some(LineValue::Text(text.into())), None),
            ItemValue::Bytes { base64 } => (None, Some(base64.into())),
        };
        let line = Line {
            key: (&self.key).into(),
            value,
            base64,
            content_type: self.content_type.as_ref().map(Into::into),
            version: Some((&self.version).into()),
            expires: self.expires.as_ref().map(Into::into),
        };
        // Writing to a vector does not fail, and texts always have a JSON form.
        let _ = serde_json::to_writer(&mut *out, &line);
        out.push(b'\n');
    }
}

/// The key of a line.
pub(in crate::cli) fn key_of(line: &[u8]) -> Option<String> {
    serde_json::from_slice::<Line<'_>>(line).ok().map(|line| line.key.into_owned())
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub(in crate::cli) fn read(line: &[u8]) -> Result<Entry<'_>, String> {
    let Line { key, value, base64, content_type, expires, .. } =
        serde_json::from_slice(line).map_err(|error| format!("no line of an export: {error}"))?;
    if key.is_empty() || key.len() > KEY_LEN_MAX {
        return Err(format!("a key has 1 to {KEY_LEN_MAX} bytes, not {}", key.len()));
    }
    let decode = |text: &str| {
        STANDARD.decode(text).map_err(|error| format!("the value of {key:?} is no base64: {error}"))
    };
    let value: Cow<'_, [u8]> = match (value, base64) {
        (Some(LineValue::Text(Cow::Borrowed(text))), None) => Cow::Borrowed(text.as_bytes()),
        (Some(LineValue::Text(Cow::Owned(text))), None) => Cow::Owned(text.into_bytes()),
        (Some(LineValue::Bytes { base64 }), None) | (None, Some(base64)) => decode(&base64)?.into(),
        (Some(_), Some(_)) => return Err(format!("{key:?} has both a value and a base64")),
        (None, None) => return Err(format!("{key:?} has neither a value nor a base64")),
    };
    if value.len() > VALUE_LEN_HARD_MAX {
        return Err(format!("a value has at most {VALUE_LEN_HARD_MAX} bytes, not {}", value.len()));
    }
    let is_header = |text: &str| text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if content_type.as_deref().is_some_and(|kept| !is_header(kept)) {
        return Err(format!("the type of {key:?} holds more than visible ASCII"));
    }
    let expires = expires.map(|text| humantime::parse_rfc3339(&text)).transpose();
    let expires =
        expires.map_err(|_| format!("expires of {key:?} is no time as 2026-11-29T18:05:15Z"))?;
    Ok(Entry { key, value, content_type, expires })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(item: &str) -> (String, Result<Entry<'static>, String>) {
        let item: Item = serde_json::from_str(item).expect("an item of a list");
        let mut line = Vec::new();
        item.write(&mut line);
        let text = String::from_utf8(line).expect("text");
        let leaked: &'static str = Box::leak(text.clone().into_boxed_str());
        (text, read(leaked.as_bytes()))
    }

    #[test]
    fn what_expires_does_so_at_its_time_whenever_it_is_read() {
        let at = |seconds: u64| WallMillis(1_000 * seconds);
        let (line, entry) =
            round(r#"{"key":"k","value":"v","version":"1","expires":"1970-01-01T00:01:40.000Z"}"#);
        assert!(line.contains(r#""expires":"1970-01-01T00:01:40.000Z""#), "{line}");
        let entry = entry.expect("an entry");
        assert_eq!(entry.ttl(at(90)), Ok(Some(10)));
        assert_eq!(entry.ttl(at(100)), Err(Expired));
        assert!(read(br#"{"key":"k","value":"v","expires":"soon"}"#).is_err());
        assert_eq!(read(br#"{"key":"k","value":"v"}"#).expect("one").ttl(at(1)), Ok(None));
    }

    #[test]
    fn an_item_is_a_line_and_back() {
        let (line, entry) =
            round(r#"{"key":"a\n","value":"v","type":"text/a","version":"1","size":1}"#);
        let expected = "{\"key\":\"a\\n\",\"value\":\"v\",\"type\":\"text/a\",\"version\":\"1\"}\n";
        assert_eq!(line, expected);
        let entry = entry.expect("a line");
        assert_eq!((&*entry.key, &*entry.value), ("a\n", &b"v"[..]));
        assert_eq!(entry.content_type.as_deref(), Some("text/a"));
        let (line, entry) = round(r#"{"key":"..","value":{"base64":"//4="},"version":"1"}"#);
        assert_eq!(line, "{\"key\":\"..\",\"base64\":\"//4=\",\"version\":\"1\"}\n");
        assert_eq!(&*entry.expect("a line").value, b"\xff\xfe");
    }

    #[test]
    fn what_is_no_line_says_why() {
        for (line, wrong) in [
            ("", "no line of an export"),
            ("[]", "no line of an export"),
            (r#"{"key":""}"#, "a key has 1 to 512 bytes, not 0"),
            (r#"{"key":"k"}"#, "\"k\" has neither a value nor a base64"),
            (r#"{"key":"k","value":"v","base64":""}"#, "\"k\" has both"),
            (r#"{"key":"k","base64":"*"}"#, "the value of \"k\" is no base64"),
            (r#"{"key":"k","value":"v","type":"a\r\nb: c"}"#, "the type of \"k\" holds more"),
        ] {
            let error = read(line.as_bytes()).expect_err("wrong");
            assert!(error.starts_with(wrong), "{line}: {error}");
        }
        let listed = read(br#"{"key":"k","value":{"base64":"AA=="},"version":"1"}"#);
        assert_eq!(&*listed.expect("as `kv list --json` prints it").value, b"\0");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(key in "\\PC{1,40}|[\\x00-\\x1f]{1,9}", value: Vec<u8>) {
            let base64 = STANDARD.encode(&value);
            let line = serde_json::json!({ "key": key, "base64": base64 }).to_string();
            let entry = read(line.as_bytes()).unwrap();
            prop_assert_eq!((&*entry.key, &*entry.value), (&*key, &*value));
        }
    }
}
