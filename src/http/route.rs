//! Which route a path means, and what may be asked of it.

use super::request::Method;
use super::response::Failure;
use super::routes::percent::{self, Plus};
use crate::limits::KEY_LEN_MAX;
use std::borrow::Cow;

/// A route, with the parts of the path that vary, still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'t> {
    /// `/`
    Home,
    /// `/health`
    Health,
    /// `/live`
    Live,
    /// `/version`
    Version,
    /// `/metrics`
    Metrics,
    /// `/members`
    Members,
    /// `/keys`
    Keys,
    /// `/keys/install`
    KeysInstall,
    /// `/keys/use`
    KeysUse,
    /// `/keys/remove`
    KeysRemove,
    /// `/kv/`
    List,
    /// `/kv/{key}`
    Entry(&'t str),
    /// `/kv/{key}/{value}`
    Pair(&'t str, &'t str),
    /// None of them.
    Unknown,
}

/// Routes there are, for a table of counters.
pub const N_ROUTES: usize = 14;

/// The labels of the routes, in the order of [`Route::number`].
pub const LABELS: [&str; N_ROUTES] = [
    "/",
    "/health",
    "/live",
    "/version",
    "/metrics",
    "/members",
    "/keys",
    "/keys/install",
    "/keys/use",
    "/keys/remove",
    "/kv/",
    "/kv/{key}",
    "/kv/{key}/{value}",
    "other",
];

impl<'t> Route<'t> {
    /// The route of a path.
    #[must_use]
    pub fn of(path: &'t str) -> Route<'t> {
        match path {
            "/" => Route::Home,
            "/health" => Route::Health,
            "/live" => Route::Live,
            "/version" => Route::Version,
            "/metrics" => Route::Metrics,
            "/members" => Route::Members,
            "/keys" => Route::Keys,
            "/keys/install" => Route::KeysInstall,
            "/keys/use" => Route::KeysUse,
            "/keys/remove" => Route::KeysRemove,
            "/kv" | "/kv/" => Route::List,
            _ => match path.strip_prefix("/kv/") {
                None => Route::Unknown,
                Some(rest) => match rest.split_once('/') {
                    None => Route::Entry(rest),
                    // An empty value is put with a body; a slash too many is a slip.
                    Some((_, value)) if value.is_empty() || value.contains('/') => Route::Unknown,
                    Some((key, value)) => Route::Pair(key, value),
                },
            },
        }
    }

    /// Its place in [`LABELS`].
    #[must_use]
    pub fn number(self) -> usize {
        match self {
            Route::Home => 0,
            Route::Health => 1,
            Route::Live => 2,
            Route::Version => 3,
            Route::Metrics => 4,
            Route::Members => 5,
            Route::Keys => 6,
            Route::KeysInstall => 7,
            Route::KeysUse => 8,
            Route::KeysRemove => 9,
            Route::List => 10,
            Route::Entry(_) => 11,
            Route::Pair(..) => 12,
            Route::Unknown => 13,
        }
    }

    /// Refuses a method this route does not have, and a route that is none.
    ///
    /// # Errors
    /// 404, or 405 with `Allow`.
    pub fn check(self, method: Method, path: &str) -> Result<(), Failure> {
        use Method::{Delete, Get, Head, Post, Put};
        let (methods, allow): (&[Method], &'static str) = match self {
            Route::Unknown => return Err(not_found(path)),
            Route::Entry(_) => (&[Get, Head, Put, Delete], "GET, HEAD, PUT, DELETE"),
            Route::Pair(..) => (&[Put], "PUT"),
            Route::KeysInstall | Route::KeysUse | Route::KeysRemove => (&[Post], "POST"),
            _ => (&[Get, Head], "GET, HEAD"),
        };
        if methods.contains(&method) {
            return Ok(());
        }
        let hint = match self {
            Route::Pair(..) => "; a / in a key is written %2F",
            _ => "",
        };
        let message = format!("{path} takes {allow}, not {}{hint}", method.name());
        Err(Failure::new(405, message).with("Allow", allow))
    }
}

fn not_found(path: &str) -> Failure {
    if path.starts_with("/kv/") {
        let message = "there is /kv/{key} and, for PUT, /kv/{key}/{value}; a / in a key or value \
            is written %2F";
        return Failure::new(404, message);
    }
    Failure::new(404, format_args!("no such route: {path}; GET / lists them"))
}

/// The key that a path segment spells.
///
/// # Errors
/// 400, or 414 for a key too long.
pub fn key(segment: &str) -> Result<Cow<'_, str>, Failure> {
    let bytes = percent::decode(segment, Plus::Plus).map_err(|error| in_part("key", &error))?;
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
/// 400.
pub fn value(segment: &str) -> Result<Cow<'_, [u8]>, Failure> {
    percent::decode(segment, Plus::Plus).map_err(|error| in_part("value", &error))
}

/// The text that a query parameter spells.
///
/// # Errors
/// 400.
pub fn query_text<'t>(name: &str, text: &'t str) -> Result<Cow<'t, str>, Failure> {
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

/// The parameters of a query string, values still encoded. `name` and `name=` are not the same.
///
/// # Errors
/// 400 for one that is not `allowed`, or is given twice: a misspelt one that was ignored could
/// mean a write that is safer in its writer's mind than in fact.
pub fn query<'t, const N: usize>(
    query: Option<&'t str>,
    allowed: [&str; N],
) -> Result<[Option<Parameter<'t>>; N], Failure> {
    let mut found = [const { None }; N];
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (pair, None),
        };
        let Some(at) = allowed.iter().position(|&allowed| allowed == name) else {
            let allowed = allowed.join(", ");
            let message = format_args!("no such parameter: {name}; there are: {allowed}");
            return Err(Failure::new(400, message));
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
    /// 400.
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
    fn every_route_has_its_own_label() {
        let paths = [
            ("/", Route::Home),
            ("/keys/use", Route::KeysUse),
            ("/kv", Route::List),
            ("/kv/", Route::List),
            ("/kv/a", Route::Entry("a")),
            ("/kv/a%2Fb", Route::Entry("a%2Fb")),
            ("/kv/a/b", Route::Pair("a", "b")),
            ("/kv//b", Route::Pair("", "b")),
            ("/kv/a/", Route::Unknown),
            ("/kv/a/b/c", Route::Unknown),
            ("/kv/a//", Route::Unknown),
            ("/kvs", Route::Unknown),
            ("/health/", Route::Unknown),
        ];
        for (path, route) in paths {
            assert_eq!(Route::of(path), route, "{path}");
        }
        for label in LABELS {
            let expected = if label == "other" { Route::Unknown } else { Route::of(label) };
            assert_eq!(LABELS[expected.number()], label);
        }
    }

    #[test]
    fn a_method_that_is_not_there_is_told_which_are() {
        let check = |path, method| Route::of(path).check(method, path);
        assert_eq!(check("/kv/a", Method::Delete), Ok(()));
        let failure = check("/kv/a/b", Method::Get).unwrap_err();
        assert_eq!((failure.status, failure.header), (405, Some(("Allow", "PUT"))));
        let failure = check("/keys/use", Method::Get).unwrap_err();
        assert_eq!((failure.status, failure.header), (405, Some(("Allow", "POST"))));
        assert_eq!(check("/kv/a/b/c", Method::Put).unwrap_err().status, 404);
    }

    #[test]
    fn keys_are_read_strictly() {
        assert_eq!(key("a%2Fb").as_deref(), Ok("a/b"));
        assert_eq!(key("%F0%9F%A6%80+").as_deref(), Ok("\u{1f980}+"));
        assert_eq!(key("").unwrap_err().status, 400);
        assert_eq!(key("%FF").unwrap_err().status, 400);
        assert!(key("x%").unwrap_err().message.starts_with("key: \"%\""));
        assert!(key(&"k".repeat(512)).is_ok());
        assert_eq!(key(&"k".repeat(513)).unwrap_err().status, 414);
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let found = query(Some("b=1&a&"), ["a", "b", "c"]);
        assert_eq!(found, Ok([Some(Parameter(None)), Some(Parameter(Some("1"))), None]));
        assert_eq!(query(None, ["a"]), Ok([None]));
        assert_eq!(query(Some("x"), ["a"]).unwrap_err().status, 400);
        assert_eq!(query(Some("a&a"), ["a"]).unwrap_err().status, 400);
        assert_eq!(Parameter(Some("false")).switch("raw"), Ok(false));
        assert_eq!(Parameter(Some("x")).switch("raw").unwrap_err().status, 400);
    }
}
