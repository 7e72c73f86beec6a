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
            out.extend_from_slice(b"{\"base64\":\"");
            out.extend_from_slice(STANDARD.encode(value).as_bytes());
            out.extend_from_slice(b"\"}");
        }
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
