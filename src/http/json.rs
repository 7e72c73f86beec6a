//! What is written by hand as JSON: texts, and values that may be any bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Appends a text as a JSON string, quotes included.
pub(super) fn json_text(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector does not fail, and a string always has a JSON form.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a value: a string when it is UTF-8, else `{"base64":".."}`. Either way the very bytes
/// can be had back.
pub(super) fn json_value(out: &mut Vec<u8>, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(text) => json_text(out, text),
        Err(_) => {
            out.extend_from_slice(BASE64_BEGIN);
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.extend_from_slice(BASE64_END);
        }
    }
}

/// Bytes of [`json_text`].
pub(super) fn json_text_len(text: &str) -> usize {
    2 + escaped_len(text.as_bytes())
}

/// Bytes of [`json_value`].
pub(super) fn json_value_len(value: &[u8]) -> usize {
    match std::str::from_utf8(value) {
        Ok(text) => json_text_len(text),
        Err(_) => BASE64_BEGIN.len() + value.len().div_ceil(3) * 4 + BASE64_END.len(),
    }
}

/// What stands before and after the base64 of a value.
pub(super) const BASE64_BEGIN: &[u8] = b"{\"base64\":\"";
pub(super) const BASE64_END: &[u8] = b"\"}";

/// Bytes of [`escape`].
fn escaped_len(bytes: &[u8]) -> usize {
    let n_controls = count(bytes, |b| b < b' ');
    let n_short = count(bytes, |b| (8..=13).contains(&b) && b != 11);
    let n_quoted = count(bytes, |b| b == b'"' || b == b'\\');
    bytes.len() + 5 * n_controls - 4 * n_short + n_quoted
}

/// How many bytes are such. Each `is` has a loop of its own, in which the compiler compares many
/// bytes at a time: by a pointer to a function it would be a call for each.
fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    let chunks = bytes.chunks(255);
    let counted = chunks.map(|chunk| chunk.iter().map(|&b| u8::from(is(b))).sum::<u8>());
    counted.map(usize::from).sum()
}

/// Appends the inside of a JSON string. No character is escaped but by its first byte, so a text
/// may be escaped in any parts.
pub(super) fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let is_special = |&b: &u8| b < b' ' || b == b'"' || b == b'\\';
        let at = rest.iter().position(is_special).unwrap_or(rest.len());
        // Where many stand in a row, copying nothing between them would be most of the work.
        if at > 0 {
            out.extend_from_slice(&rest[..at]);
        }
        let Some((&byte, after)) = rest[at..].split_first() else { return };
        let short = match byte {
            8 => b'b',
            9 => b't',
            10 => b'n',
            12 => b'f',
            13 => b'r',
            b'"' | b'\\' => byte,
            _ => 0,
        };
        if short == 0 {
            let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
        rest = after;
    }
}

/// Appends `{"<key>":<value>}`, the answer to a key.
pub(super) fn json_pair(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.push(b'{');
    json_text(out, key);
    out.push(b':');
    json_value(out, value);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn what_is_text_looks_like_text() {
        let check = |key, value: &[u8], expected| {
            let mut out = Vec::new();
            json_pair(&mut out, key, value);
            assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
        };
        check("foo", b"bar", r#"{"foo":"bar"}"#);
        check("a\"\\\n", b"\0\x7f", "{\"a\\\"\\\\\\n\":\"\\u0000\x7f\"}");
        check("k", b"\xff\xfe", r#"{"k":{"base64":"//4="}}"#);
    }

    proptest! {
        #[test]
        fn any_key_and_value_come_back(key: String, value: Vec<u8>) {
            let mut out = Vec::new();
            json_pair(&mut out, &key, &value);
            let json: Value = serde_json::from_slice(&out).unwrap();
            let back = &json[&key];
            let bytes = match back["base64"].as_str() {
                Some(text) => STANDARD.decode(text).unwrap(),
                None => back.as_str().unwrap().as_bytes().to_vec(),
            };
            prop_assert_eq!(bytes, value);
        }
    }
}
