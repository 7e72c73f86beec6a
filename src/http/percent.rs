//! Percent-encoding, read strictly.
//!
//! A lenient reader would pass `%zz` on as it is: then `%zz` and `%25zz` would name the same key.

use std::borrow::Cow;

/// A `%` without two hex digits behind it; the text is what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no percent-encoding: % wants two hex digits, and is itself written %25")]
pub(super) struct BadPercent(String);

/// What a `+` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plus {
    /// A plus, as in a path.
    Plus,
    /// A space, as in the query strings that forms and most client libraries write.
    Space,
}

/// The bytes that `text` spells.
///
/// # Errors
/// [`BadPercent`] for the first thing that is none.
pub(super) fn decode(text: &str, plus: Plus) -> Result<Cow<'_, [u8]>, BadPercent> {
    let is_special = |&b: &u8| b == b'%' || (b == b'+' && plus == Plus::Space);
    let Some(first) = text.bytes().position(|b| is_special(&b)) else {
        return Ok(Cow::Borrowed(text.as_bytes()));
    };
    let mut bytes = text.as_bytes()[..first].to_vec();
    let mut rest = &text.as_bytes()[first..];
    while let Some((&b, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match b {
            b'%' => {
                let byte = hex_byte(tail).ok_or_else(|| {
                    let seen = &tail[..tail.len().min(2)];
                    BadPercent(format!("%{}", String::from_utf8_lossy(seen)))
                })?;
                rest = &tail[2..];
                byte
            }
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    Ok(Cow::Owned(bytes))
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| (*digits.get(at)? as char).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_read_strictly() {
        let path = |text| decode(text, Plus::Plus).map(Cow::into_owned);
        assert_eq!(path("plain"), Ok(b"plain".to_vec()));
        assert_eq!(path("a%2Fb%2fc"), Ok(b"a/b/c".to_vec()));
        assert_eq!(path("a+b"), Ok(b"a+b".to_vec()));
        assert_eq!(path("%25%00%ff"), Ok(b"%\0\xff".to_vec()));
        for (bad, seen) in [("%", "%"), ("a%2", "%2"), ("%zz", "%zz"), ("%+1", "%+1")] {
            assert_eq!(path(bad), Err(BadPercent(seen.into())));
        }
        let query = decode("a+b%2B", Plus::Space).map(Cow::into_owned);
        assert_eq!(query, Ok(b"a b+".to_vec()));
    }
}
