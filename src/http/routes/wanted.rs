//! What a request for `/kv/` wants: a page, a page of folders, a number, or a stream.

use super::query::{self, Parameter};
use super::watch::{self, Least};
use crate::http::failure::Failure;
use crate::limits::LIST_ITEMS_MAX;
use std::borrow::Cow;
use std::time::Duration;

/// A request for `/kv/`, understood.
#[derive(Debug)]
pub(super) struct Wanted<'t> {
    pub(super) prefix: Cow<'t, str>,
    /// Empty for none.
    pub(super) after: Cow<'t, str>,
    pub(super) limit: usize,
    pub(super) only_keys: bool,
    /// The token of what the client has seen.
    pub(super) since: Option<Parameter<'t>>,
    /// The token that the node is to have caught up with.
    pub(super) least: Option<Least>,
    pub(super) wait: Duration,
    pub(super) form: Form<'t>,
}

/// In which form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form<'t> {
    /// Keys, a page at a time.
    Page,
    /// Keys behind this delimiter are told as folders.
    Folders(Cow<'t, str>),
    /// How many keys there are.
    Count,
    /// A stream of changes; whether of the key alone that the prefix is.
    Stream(bool),
}

/// Parameters that have no meaning beside others.
const APART: [(&str, &[&str]); 3] = [
    ("watch", &["after", "limit", "delimiter", "count", "min_token"]),
    ("count", &["after", "limit", "delimiter", "since", "keys", "min_token"]),
    ("since", &["delimiter"]),
];

impl<'t> Wanted<'t> {
    /// What a query asks for.
    ///
    /// # Errors
    /// 400 for parameters that are not there, say nothing, or exclude each other.
    pub(super) fn of(query: Option<&'t str>) -> Result<Wanted<'t>, Failure> {
        const NAMES: [&str; 11] = [
            "prefix",
            "after",
            "limit",
            "keys",
            "since",
            "wait",
            "watch",
            "exact",
            "delimiter",
            "count",
            "min_token",
        ];
        let given = query::parameters(query, NAMES)?;
        let switch = |name: &str| switch(name, at(&NAMES, &given, name));
        let is_given = |name: &str| match name {
            "watch" | "count" | "keys" => switch(name),
            _ => Ok(at(&NAMES, &given, name).is_some()),
        };
        for (name, others) in APART {
            for other in others {
                if is_given(name)? && is_given(other)? {
                    let message = format_args!("{name} and {other} exclude each other");
                    return Err(Failure::new(400, message));
                }
            }
        }
        let [prefix, after, limit, _, since, wait, _, _, delimiter, _, least] = given;
        let least = Least::of(least)?;
        let wait = match (wait, since, &least) {
            (Some(_), None, None) => {
                let message =
                    "wait is for since=TOKEN and min_token=TOKEN: what the client has seen";
                return Err(Failure::new(400, message));
            }
            (wait, None, Some(_)) => Least::wait(wait)?,
            (wait, ..) => watch::wait(wait)?,
        };
        let (streams, is_exact, counts) = (switch("watch")?, switch("exact")?, switch("count")?);
        let form = match delimiter {
            _ if streams => Form::Stream(is_exact),
            _ if is_exact => {
                let message = "exact is for watch; one key is read as /kv/{key}";
                return Err(Failure::new(400, message));
            }
            _ if counts => Form::Count,
            Some(delimiter) => Form::Folders(read_delimiter(delimiter)?),
            None => Form::Page,
        };
        Ok(Wanted {
            prefix: read("prefix", prefix)?,
            after: read("after", after)?,
            limit: limit.map_or(Ok(LIST_ITEMS_MAX), |limit| items(limit.text()))?,
            only_keys: switch("keys")?,
            since,
            least,
            wait,
            form,
        })
    }
}

fn at<'t, const N: usize>(
    names: &[&str; N],
    given: &[Option<Parameter<'t>>; N],
    name: &str,
) -> Option<Parameter<'t>> {
    names.iter().position(|known| *known == name).and_then(|index| given[index])
}

fn switch(name: &str, parameter: Option<Parameter<'_>>) -> Result<bool, Failure> {
    parameter.map_or(Ok(false), |parameter| parameter.switch(name))
}

/// The text that a parameter spells; an absent one is empty.
///
/// # Errors
/// 400 with what is wrong.
pub(super) fn read<'t>(
    name: &str,
    parameter: Option<Parameter<'t>>,
) -> Result<Cow<'t, str>, Failure> {
    query::text(name, parameter.map_or("", Parameter::text))
}

fn read_delimiter(parameter: Parameter<'_>) -> Result<Cow<'_, str>, Failure> {
    let delimiter = query::text("delimiter", parameter.text())?;
    if delimiter.is_empty() {
        return Err(Failure::new(400, "delimiter is empty: a text such as / is asked for"));
    }
    Ok(delimiter)
}

/// More than the most is the most: a page may always be shorter than asked for.
fn items(text: &str) -> Result<usize, Failure> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(limit) if is_plain && limit > 0 => {
            Ok(usize::try_from(limit).unwrap_or(LIST_ITEMS_MAX).min(LIST_ITEMS_MAX))
        }
        _ => Err(Failure::new(400, format_args!("limit={text}: 1 to {LIST_ITEMS_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_excludes_each_other_is_told() {
        for (query, told) in [
            ("watch&after=a", "watch and after"),
            ("watch&count", "watch and count"),
            ("count&limit=3", "count and limit"),
            ("count&keys", "count and keys"),
            ("since=t0&delimiter=/", "since and delimiter"),
            ("wait=3s", "wait is for since"),
            ("exact", "exact is for watch"),
            ("delimiter=", "delimiter is empty"),
            ("limit=0", "limit=0"),
        ] {
            let failure = Wanted::of(Some(query)).expect_err(query);
            assert_eq!(failure.status, 400);
            assert!(failure.message.contains(told), "{query}: {}", failure.message);
        }
    }

    #[test]
    fn a_form_is_what_was_asked_for() {
        let form = |query| Wanted::of(Some(query)).expect(query).form;
        assert_eq!(form("prefix=a&after=b&limit=9&keys"), Form::Page);
        assert_eq!(form("delimiter=%2F&after=b&keys"), Form::Folders("/".into()));
        assert_eq!(form("count"), Form::Count);
        assert_eq!(form("count=false&after=b&watch=false"), Form::Page);
        assert_eq!(form("watch&exact&keys"), Form::Stream(true));
        assert_eq!(Wanted::of(None).expect("all").limit, LIST_ITEMS_MAX);
    }
}
