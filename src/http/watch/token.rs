//! Resume tokens: what a reader has seen, as text.
//!
//! ```text
//! t1.BASE64URL    varint: origins; for each, 8 bytes of its number and a varint: seen through;
//!                 where keys expire, or more follows, a varint: the moment up to which expiries
//!                 were seen; where more was seen before, varint, and numbers as above
//! t2.BASE64URL    8 bytes: the sum of the runs that are over and of which all was seen; then as t1
//! t0              the reader begins anew: after a reset, or too many origins for a token
//! ```
//!
//! A token names no node, so every node of the cluster can go on where another one stopped. Where
//! it need not, it names no set of runs: then it can be read anywhere, however long after.

use crate::kv::{OriginId, Seen, Token};
use crate::limits::TOKEN_ORIGINS_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Why a reader begins anew: its token is `t0`.
pub(in crate::http) const NONE: &str =
    "the token says so: it is of a reset, or more runs have written than a token can name";
/// Why a reader begins anew: what it lacks cannot be told any more, or what it has seen is no more.
pub(in crate::http) const OLD: &str =
    "deletes that this token does not know are forgotten, or writes that it knows lost";

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no token of this store: take it as it was given, from a sync event or a list")]
pub struct BadToken;

/// What has been seen, as text.
pub(in crate::http) fn text(seen: &Seen) -> String {
    seen.token(TOKEN_ORIGINS_MAX).map_or_else(|| "t0".to_owned(), |token| write(&token))
}

fn write(Token { seen, ended }: &Token) -> String {
    let mut bytes = ended.map_or(Vec::new(), |sum| sum.to_be_bytes().to_vec());
    numbers(&mut bytes, seen.named());
    let is_ahead = seen.iter_ahead().next().is_some();
    if seen.expired_through() > 0 || is_ahead {
        varint(&mut bytes, seen.expired_through());
    }
    if is_ahead {
        numbers(&mut bytes, seen.iter_ahead());
    }
    let form = if ended.is_some() { "t2" } else { "t1" };
    format!("{form}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// What a token says to have been seen; `None` for one that says to begin anew.
///
/// # Errors
/// [`BadToken`].
pub fn read(token: &str) -> Result<Option<Token>, BadToken> {
    if token == "t0" {
        return Ok(None);
    }
    let (form, text) = token.split_once('.').ok_or(BadToken)?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadToken)?;
    let (ended, rest) = match form {
        "t1" => (None, &bytes[..]),
        "t2" => {
            let (sum, rest) = bytes.split_first_chunk().ok_or(BadToken)?;
            (Some(u64::from_be_bytes(*sum)), rest)
        }
        _ => return Err(BadToken),
    };
    Ok(Some(Token { seen: read_seen(rest)?, ended }))
}

fn read_seen(mut rest: &[u8]) -> Result<Seen, BadToken> {
    let mut seen = Seen::default();
    let named = read_numbers(&mut rest)?;
    let n_named = named.len();
    for (origin, through) in named {
        seen.add(origin, through);
    }
    if rest.is_empty() {
        return Ok(seen);
    }
    seen.set_expired_through(read_varint(&mut rest)?);
    if rest.is_empty() {
        return if seen.expired_through() > 0 { Ok(seen) } else { Err(BadToken) };
    }
    let ahead = read_numbers(&mut rest)?;
    // There is one spelling only.
    if ahead.is_empty() || !rest.is_empty() || n_named + ahead.len() > TOKEN_ORIGINS_MAX {
        return Err(BadToken);
    }
    for (origin, highest) in ahead {
        if highest <= seen.through(origin) {
            return Err(BadToken);
        }
        seen.add_ahead(origin, highest);
    }
    Ok(seen)
}

fn numbers(out: &mut Vec<u8>, all: impl Iterator<Item = (OriginId, u64)> + Clone) {
    varint(out, all.clone().count() as u64);
    for (OriginId(origin), number) in all {
        out.extend_from_slice(&origin.to_be_bytes());
        varint(out, number);
    }
}

fn read_numbers(rest: &mut &[u8]) -> Result<Vec<(OriginId, u64)>, BadToken> {
    let n = read_varint(rest)?;
    if n > TOKEN_ORIGINS_MAX as u64 {
        return Err(BadToken);
    }
    let (mut all, mut last) = (Vec::new(), 0);
    for _ in 0..n {
        let (origin, after) = rest.split_first_chunk::<8>().ok_or(BadToken)?;
        *rest = after;
        let (origin, number) = (u64::from_be_bytes(*origin), read_varint(rest)?);
        // In order and each once.
        if origin <= last || number == 0 {
            return Err(BadToken);
        }
        last = origin;
        all.push((OriginId(origin), number));
    }
    Ok(all)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(rest: &mut &[u8]) -> Result<u64, BadToken> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(BadToken)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(BadToken);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return if byte == 0 && shift > 0 { Err(BadToken) } else { Ok(value) };
        }
    }
    Err(BadToken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Ended, EndedRun};
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn what_is_no_token_is_told_apart() {
        for bad in [
            "",
            "t1",
            "t1.",
            "t2.AA",
            "t3.AA",
            "t1.AQ",
            "t1.AAA",
            "t1.AAEB",
            "t1.!",
            "t0.",
            "t1.gAA",
            "t1.AA==",
            "t2.AAAAAAAAAAc",
            "t2.AAAAAAAAAAcAAA",
        ] {
            assert_eq!(read(bad), Err(BadToken), "{bad}");
        }
        assert_eq!(read("t0"), Ok(None));
        assert_eq!(read("t1.AA"), Ok(Some(Token::default())));
        let of_ended = Token { ended: Some(7), ..Token::default() };
        assert_eq!(read("t2.AAAAAAAAAAcA"), Ok(Some(of_ended)));
    }

    #[test]
    fn too_many_origins_begin_anew() {
        let mut seen = Seen::default();
        for origin in 1..=TOKEN_ORIGINS_MAX as u64 {
            seen.add(OriginId(origin << 50), u64::MAX);
        }
        let longest = text(&seen);
        assert_eq!(read(&longest), Ok(seen.token(TOKEN_ORIGINS_MAX)));
        assert!(longest.len() < crate::limits::HTTP_TARGET_LEN_MAX - 1024, "{}", longest.len());
        seen.add(OriginId(7), 1);
        assert_eq!(text(&seen), "t0");
    }

    #[test]
    fn runs_that_are_over_take_no_room() {
        let run = |origin| EndedRun { origin: OriginId(origin), last: 9, forgotten: 0 };
        let ended: Ended = (1..=5_000).map(run).collect();
        let (sum, mut seen) = (ended.sum(), Seen::of_ended(Arc::new(ended)));
        seen.add(OriginId(7_000), 3);
        let text = text(&seen);
        assert!(text.len() < 40, "{text}");
        let token = read(&text).ok().flatten().expect("a token");
        assert_eq!(
            (token.ended, token.seen.named().collect()),
            (Some(sum), vec![(OriginId(7_000), 3)])
        );
    }

    proptest! {
        #[test]
        fn tokens_come_back(
            pairs: Vec<(u64, u64)>,
            ahead: Vec<(u64, u64)>,
            moment: u64,
        ) {
            let mut seen = Seen::default();
            seen.set_expired_through(moment);
            let half = TOKEN_ORIGINS_MAX / 2;
            pairs.iter().filter(|(origin, _)| *origin > 0).take(half)
                .for_each(|(origin, through)| seen.add(OriginId(*origin), *through));
            let known = pairs.iter().map(|(origin, through)| (*origin, through.saturating_add(9)));
            ahead.iter().copied().chain(known).filter(|(origin, _)| *origin > 0).take(half)
                .for_each(|(origin, highest)| seen.add_ahead(OriginId(origin), highest));
            prop_assert_eq!(read(&text(&seen)), Ok(Some(Token { seen, ended: None })));
        }

        #[test]
        fn no_text_panics(bytes: Vec<u8>, form in "t[12]") {
            let text = format!("{form}.{}", URL_SAFE_NO_PAD.encode(&bytes));
            if let Ok(Some(token)) = read(&text) {
                prop_assert_eq!(write(&token), text);
            }
        }
    }
}
