//! What a request of Consul's API spells: keys, parameters, durations.
//!
//! Parameters that are not known are passed over, as Consul does: its Go client adds `wait` to
//! writes. The first of two counts.

use crate::http::failure::Failure;
use crate::http::percent::{self, Plus};
use crate::limits::KEY_LEN_MAX;
use std::borrow::Cow;
use std::time::Duration;

/// The name that the cluster goes by as a data centre.
pub(super) const DATACENTER: &str = "dc1";

/// What sessions and locks are answered with.
pub(super) const NO_SESSIONS: &str =
    "sessions and locks need consensus; this store is eventually consistent";

/// A query string.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'t>(Option<&'t str>);

impl<'t> Query<'t> {
    /// Reads what is about any request: the data centre, namespaces, consistency.
    ///
    /// # Errors
    /// 400 or 500 for what there is not.
    pub(super) fn of(query: Option<&'t str>) -> Result<Query<'t>, Failure> {
        let query = Query(query);
        if let Some(dc) = query.text("dc")?
            && !["", DATACENTER].contains(&&*dc)
        {
            return Err(Failure::new(500, "No path to datacenter"));
        }
        for name in ["ns", "partition"] {
            if query.text(name)?.is_some_and(|text| !["", "default"].contains(&&*text)) {
                let message = format_args!(
                    "Invalid query parameter: \"{name}\" - Namespaces are a Consul Enterprise \
                     feature"
                );
                return Err(Failure::new(400, message));
            }
        }
        if query.is_on("stale") && query.is_on("consistent") {
            let message = "Cannot specify ?stale with ?consistent, conflicting semantics.";
            return Err(Failure::new(400, message));
        }
        Ok(query)
    }

    /// What stands behind a name, still encoded; `None` when the name is not there.
    fn raw(self, wanted: &str) -> Option<&'t str> {
        let mut pairs = self.0.unwrap_or_default().split('&');
        pairs.find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == wanted).then_some(value)
        })
    }

    /// The text of a parameter.
    ///
    /// # Errors
    /// 400 for one that spells no text.
    pub(super) fn text(self, name: &str) -> Result<Option<Cow<'t, str>>, Failure> {
        self.raw(name).map(|text| decoded(name, text, Plus::Space)).transpose()
    }

    /// Whether a parameter is there, whatever it says but `false` and `0`.
    pub(super) fn is_on(self, name: &str) -> bool {
        self.raw(name).is_some_and(|text| text != "0" && !text.eq_ignore_ascii_case("false"))
    }

    /// A number of 64 bits.
    ///
    /// # Errors
    /// 400 for something else.
    pub(super) fn number(self, name: &str) -> Result<Option<u64>, Failure> {
        let wrong = |text: &str| {
            Failure::new(400, format_args!("Invalid {name}: {text:?} is no number of 64 bits"))
        };
        match self.text(name)? {
            Some(text) => text.parse().map(Some).map_err(|_| wrong(&text)),
            None => Ok(None),
        }
    }

    /// What a read waits for: anything but this index, so long. `None` when it does not wait.
    ///
    /// # Errors
    /// 400 for what is neither a number nor a time.
    pub(super) fn wait(self, max: Duration) -> Result<Option<(u64, Duration)>, Failure> {
        let index = match self.text("index")? {
            // A client that has no index yet; Spring's sends -1.
            Some(text) if ["", "0", "-1"].contains(&&*text) => None,
            Some(text) => Some(text.parse().map_err(|_| Failure::new(400, "Invalid index"))?),
            None => None,
        };
        let wait = match self.text("wait")? {
            Some(text) if !text.is_empty() => {
                duration(&text).ok_or_else(|| Failure::new(400, "Invalid wait time"))?
            }
            _ => Duration::ZERO,
        };
        let wait = if wait.is_zero() { WAIT_DEFAULT } else { wait };
        Ok(index.map(|index| (index, wait.min(max))))
    }
}

/// When `wait` is not given.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);

/// A time as Go writes it: `10s`, `1m30s`, `1.5s`, `60000ms`. A negative one is none.
fn duration(text: &str) -> Option<Duration> {
    let (text, is_negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    if text.is_empty() {
        return None;
    }
    let found = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    Some(if is_negative { Duration::ZERO } else { found })
}

/// The key that a path spells behind `/v1/kv/`. `/` and `%2F` are the same; slashes are folded.
///
/// # Errors
/// 400 for what spells no text, 414 for a key too long.
pub(super) fn key(path: &str) -> Result<String, Failure> {
    let spelt = decoded("key", path, Plus::Plus)?;
    let key = folded(&spelt);
    if key.len() > KEY_LEN_MAX {
        let len = key.len();
        let message = format_args!("a key has 1 to {KEY_LEN_MAX} bytes, not {len}");
        return Err(Failure::new(414, message));
    }
    Ok(key)
}

/// The key that a text means. Runs of slashes are one, and those at the front are left out; nothing
/// else is changed.
pub(super) fn folded(spelt: &str) -> String {
    let mut key = String::with_capacity(spelt.len());
    for c in spelt.chars() {
        if c != '/' || !(key.is_empty() || key.ends_with('/')) {
            key.push(c);
        }
    }
    key
}

/// A name at the end of a path.
///
/// # Errors
/// 400 for what spells no text.
pub(super) fn name(path: &str) -> Result<Cow<'_, str>, Failure> {
    decoded("name", path, Plus::Plus)
}

fn decoded<'t>(name: &str, text: &'t str, plus: Plus) -> Result<Cow<'t, str>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::new(400, format_args!("{name}: {why}"));
    match percent::decode(text, plus).map_err(|error| wrong(&error))? {
        Cow::Borrowed(_) => Ok(Cow::Borrowed(text)),
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(error) => Err(wrong(&format_args!("not UTF-8: {error}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(55);

    #[test]
    fn keys_are_folded_and_nothing_else_is_done_to_them() {
        for (path, expected) in [
            ("a/b", "a/b"),
            ("a%2Fb%2fc", "a/b/c"),
            ("/a", "a"),
            ("%2F/a//b%2F%2F/", "a/b/"),
            ("a/../b/./", "a/../b/./"),
            ("sp%20ace/%C3%BCn%C3%AF%252F+&=%3F%23:;@%5B%5D", "sp ace/\u{fc}n\u{ef}%2F+&=?#:;@[]"),
            ("", ""),
            ("//", ""),
        ] {
            assert_eq!(key(path).as_deref(), Ok(expected), "{path}");
        }
        assert_eq!(key("%FF").unwrap_err().status, 400);
        assert_eq!(key("a%2").unwrap_err().status, 400);
        assert_eq!(key(&"k".repeat(KEY_LEN_MAX + 1)).unwrap_err().status, 414);
    }

    #[test]
    fn times_are_read_as_go_writes_them() {
        for (text, millis) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("60000ms", 60_000),
            ("1.5s", 1_500),
            ("1h", 3_600_000),
            ("0", 0),
            ("-1s", 0),
            ("1500us", 1),
        ] {
            let found = duration(text).map(|found| found.as_millis());
            assert_eq!(found, Some(millis), "{text}");
        }
        for bad in ["", "5", "s", "5 s", "1.2.3s", "5d", "1s5", "+", "-", "..s", "1e3s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(duration(&format!("{}h", "9".repeat(400))), Some(Duration::MAX));
    }

    #[test]
    fn presence_counts_unknown_names_do_not_and_the_first_wins() {
        let query = Query::of(Some("recurse&keys=True&raw=false&x=%zz&cas=5&cas=6")).unwrap();
        assert!(query.is_on("recurse") && query.is_on("keys"));
        assert!(!query.is_on("raw") && !query.is_on("stale") && query.is_on("x"));
        assert_eq!(query.number("cas"), Ok(Some(5)));
        assert_eq!(query.number("x").unwrap_err().status, 400);
        let status = |text| Query::of(Some(text)).map(|_| 0).unwrap_or_else(|f| f.status);
        assert_eq!((status("dc=dc1&ns=default&partition="), status("dc=dc2")), (0, 500));
        assert_eq!((status("ns=x"), status("stale&consistent")), (400, 400));
    }

    #[test]
    fn a_wait_has_an_index_and_an_end() {
        let wait = |text| Query::of(Some(text)).unwrap().wait(MAX);
        for none in ["", "index=0", "index=-1&wait=5s", "index=", "wait=5s"] {
            assert_eq!(wait(none), Ok(None), "{none}");
        }
        assert_eq!(wait("index=7&wait=10s"), Ok(Some((7, Duration::from_secs(10)))));
        for most in ["index=7", "index=7&wait=0s", "index=7&wait=10m", "index=7&wait="] {
            assert_eq!(wait(most), Ok(Some((7, MAX))), "{most}");
        }
        assert_eq!(wait("index=x").unwrap_err().message, "Invalid index");
        assert_eq!(wait("index=1&wait=5").unwrap_err().message, "Invalid wait time");
    }
}
