//! What the variable parts of a target spell: keys and values in a path, parameters in a query.

use crate::http::failure::Failure;
use crate::http::percent::{self, Plus};
use crate::http::route::Spelt;
use crate::limits::{KEY_LEN_MAX, TTL_SECONDS_MAX};
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The key that a path segment or a parameter spells.
///
/// # Errors
/// 400 with what is wrong, or 414 for a key too long.
pub fn key(spelt: Spelt<'_>) -> Result<Cow<'_, str>, Failure> {
    let bytes = match spelt {
        Spelt::Path(segment) => percent::decode(segment, Plus::Plus),
        Spelt::Query(text) => percent::decode(text, Plus::Space),
    };
    let bytes = bytes.map_err(|error| in_part("key", &error))?;
    let key = utf8("key", bytes)?;
    if key.is_empty() {
        return Err(Failure::new(400, format_args!("a key has 1 to {KEY_LEN_MAX} bytes, not 0")));
    }
    if key.len() > KEY_LEN_MAX {
        let len = key.len();
        let message = format_args!("a key has 1 to {KEY_LEN_MAX} bytes, not {len}");
        return Err(Failure::new(414, message));
    }
    Ok(key)
}

/// The value that a path segment spells: any bytes.
///
/// # Errors
/// 400 with what is wrong.
pub fn value(segment: &str) -> Result<Cow<'_, [u8]>, Failure> {
    percent::decode(segment, Plus::Plus).map_err(|error| in_part("value", &error))
}

/// The text that a query parameter spells.
///
/// # Errors
/// 400 with what is wrong.
pub fn text<'t>(name: &str, text: &'t str) -> Result<Cow<'t, str>, Failure> {
    let bytes = percent::decode(text, Plus::Space).map_err(|error| in_part(name, &error))?;
    utf8(name, bytes)
}

fn in_part(part: &str, error: &percent::BadPercent) -> Failure {
    Failure::new(400, format_args!("{part}: {error}"))
}

fn utf8<'t>(part: &str, bytes: Cow<'t, [u8]>) -> Result<Cow<'t, str>, Failure> {
    let text = match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed),
        Cow::Owned(bytes) => {
            String::from_utf8(bytes).map(Cow::Owned).map_err(|error| error.utf8_error())
        }
    };
    text.map_err(|error| Failure::new(400, format_args!("{part}: not UTF-8: {error}")))
}

/// The time that a query parameter gives: one number and one unit.
///
/// # Errors
/// 400 with what is allowed.
pub fn time(
    name: &str,
    text: &str,
    allowed: RangeInclusive<Duration>,
) -> Result<Duration, Failure> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let is_plain = unit.len() < text.len() && unit.bytes().all(|b| b.is_ascii_alphabetic());
    match humantime::parse_duration(text) {
        Ok(time) if is_plain && allowed.contains(&time) => Ok(time),
        _ => {
            let (min, max) = (allowed.start().as_millis(), allowed.end().as_secs());
            let message =
                format_args!("{name}={text}: a time from {min}ms to {max}s, such as 500ms or 2s");
            Err(Failure::new(400, message))
        }
    }
}

/// The seconds that a key lasts: numbers with their units, as `30s`, `1m30s` or `12h`.
///
/// # Errors
/// 400 with what is allowed.
pub fn ttl(text: &str) -> Result<u32, Failure> {
    let wrong = |why: String| {
        let message = format_args!("ttl={text}: {why}, such as 30s, 5m, 1m30s or 12h");
        Err(Failure::new(400, message))
    };
    let Some(millis) = go_millis(text) else { return wrong("a time with its unit".to_owned()) };
    match u32::try_from(millis / 1_000) {
        Ok(seconds) if millis % 1_000 == 0 && (1..=TTL_SECONDS_MAX).contains(&seconds) => {
            Ok(seconds)
        }
        Ok(0) => wrong("less than a second; 1s to ten years".to_owned()),
        Ok(seconds) if seconds <= TTL_SECONDS_MAX => wrong("whole seconds only".to_owned()),
        _ => wrong(format!("more than ten years, which are {TTL_SECONDS_MAX}s")),
    }
}

/// Milliseconds of a time as Go writes it, in whole numbers: each with its unit, one after the
/// other. Days are taken, too.
fn go_millis(text: &str) -> Option<u64> {
    let (mut sum, mut rest) = (0u64, text);
    loop {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(unit_at);
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        rest = after;
        if rest.is_empty() {
            return Some(sum);
        }
    }
}

/// The parameters of a query string, values still encoded. `name` and `name=` are not the same.
///
/// # Errors
/// 400 for one that is not `allowed`, or is given twice: a misspelt one that was ignored could
/// mean a write that is safer in its writer's mind than in fact.
pub fn parameters<'t, const N: usize>(
    query: Option<&'t str>,
    allowed: [&str; N],
) -> Result<[Option<Parameter<'t>>; N], Failure> {
    read(query, false, allowed)
}

/// The same beside a key, which may be one of the parameters.
///
/// # Errors
/// As [`parameters`].
pub(in crate::http) fn parameters_beside<'t, const N: usize>(
    key: Spelt<'t>,
    query: Option<&'t str>,
    allowed: [&str; N],
) -> Result<[Option<Parameter<'t>>; N], Failure> {
    read(query, matches!(key, Spelt::Query(_)), allowed)
}

fn read<'t, const N: usize>(
    query: Option<&'t str>,
    has_key: bool,
    allowed: [&str; N],
) -> Result<[Option<Parameter<'t>>; N], Failure> {
    let (mut found, mut is_key_seen) = ([const { None }; N], false);
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        };
        if has_key && name == "key" {
            if std::mem::replace(&mut is_key_seen, true) {
                return Err(Failure::new(400, "the parameter key is given twice"));
            }
            continue;
        }
        let Some(at) = allowed.iter().position(|&allowed| allowed == name) else {
            let allowed = match &allowed[..] {
                [] => "there are none here".to_owned(),
                allowed => format!("there are: {}", allowed.join(", ")),
            };
            return Err(Failure::new(400, format_args!("no such parameter: {name}; {allowed}")));
        };
        if found[at].replace(Parameter(value)).is_some() {
            return Err(Failure::new(400, format_args!("the parameter {name} is given twice")));
        }
    }
    Ok(found)
}

/// What stands behind a parameter's `=`, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'t>(pub Option<&'t str>);

impl<'t> Parameter<'t> {
    /// Its text; empty without `=`.
    #[must_use]
    pub fn text(self) -> &'t str {
        self.0.unwrap_or_default()
    }

    /// Whether a switch is on: `name`, `name=`, `name=1`, `name=true`.
    ///
    /// # Errors
    /// 400 with what is allowed.
    pub fn switch(self, name: &str) -> Result<bool, Failure> {
        match self.text() {
            "" | "1" | "true" => Ok(true),
            "0" | "false" => Ok(false),
            other => {
                let message = format_args!("{name}={other}: {name}, {name}=true or {name}=false");
                Err(Failure::new(400, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_strictly() {
        fn key(segment: &str) -> Result<Cow<'_, str>, Failure> {
            super::key(Spelt::Path(segment))
        }
        assert_eq!(key("a%2Fb").as_deref(), Ok("a/b"));
        assert_eq!(key("%F0%9F%A6%80+").as_deref(), Ok("\u{1f980}+"));
        assert_eq!(key("").unwrap_err().status, 400);
        assert_eq!(key("%FF").unwrap_err().status, 400);
        assert!(key("x%").unwrap_err().message.starts_with("key: \"%\""));
        assert!(key(&"k".repeat(512)).is_ok());
        assert_eq!(key(&"k".repeat(513)).unwrap_err().status, 414);
        assert_eq!(super::key(Spelt::Query("a/b+c%2B..")).as_deref(), Ok("a/b c+.."));
        assert_eq!(super::key(Spelt::Query("")).unwrap_err().status, 400);
    }

    #[test]
    fn how_long_a_key_lasts_is_read_strictly() {
        let good = [("30s", 30), ("5m", 300), ("12h", 43_200), ("1m30s", 90), ("1000ms", 1)];
        for (text, seconds) in good {
            assert_eq!(ttl(text), Ok(seconds), "{text}");
        }
        assert_eq!(ttl("3653d"), Ok(TTL_SECONDS_MAX));
        let bad = [
            ("", "unit"),
            ("30", "unit"),
            ("s", "unit"),
            ("-1s", "unit"),
            ("1.5s", "unit"),
            ("1y", "unit"),
            ("1 s", "unit"),
            ("30s5", "unit"),
            ("0s", "less than a second"),
            ("500ms", "less than a second"),
            ("1500ms", "whole seconds"),
            ("3654d", "ten years"),
            ("18446744073709551615h", "unit"),
            ("99999999999999999999s", "unit"),
        ];
        for (text, why) in bad {
            let failure = ttl(text).unwrap_err();
            assert_eq!(failure.status, 400, "{text}");
            assert!(failure.message.contains(why), "{text}: {}", failure.message);
        }
    }

    #[test]
    fn a_key_may_be_one_of_the_parameters() {
        let beside = |key, query| parameters_beside(key, Some(query), ["raw"]);
        let raw = Ok([Some(Parameter(None))]);
        assert_eq!(beside(Spelt::Query("a"), "key=a&raw"), raw);
        assert_eq!(beside(Spelt::Path("a"), "raw"), raw);
        let bad = [
            (Spelt::Query("a"), "key=a&key=a"),
            (Spelt::Query("a"), "key=a&w=1"),
            (Spelt::Path("a"), "key=a"),
        ];
        for (key, query) in bad {
            assert_eq!(beside(key, query).unwrap_err().status, 400, "{query}");
        }
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let found = parameters(Some("b=1&a&"), ["a", "b", "c"]);
        assert_eq!(found, Ok([Some(Parameter(None)), Some(Parameter(Some("1"))), None]));
        assert_eq!(parameters(None, ["a"]), Ok([None]));
        assert_eq!(parameters(Some("x"), ["a"]).unwrap_err().status, 400);
        assert_eq!(parameters(Some("a&a"), ["a"]).unwrap_err().status, 400);
        assert_eq!(Parameter(Some("false")).switch("raw"), Ok(false));
        assert_eq!(Parameter(Some("x")).switch("raw").unwrap_err().status, 400);
    }
}
