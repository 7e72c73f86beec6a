//! `If-Match` and `If-None-Match`.
//!
//! A condition is compared with what **this node** holds: it does not see a write of another node
//! that has not arrived yet. So conditions make lost updates rarer, not impossible. They are no
//! lock across the cluster.

use crate::http::failure::Failure;
use crate::http::request::Request;
use crate::kv::{Record, Stamp};

/// The conditions of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Precondition<'a> {
    if_match: Option<&'a str>,
    if_none_match: Option<&'a str>,
}

/// What the conditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The request may go on.
    Met,
    /// The client's copy is the current one.
    Unchanged,
    /// The key is in another state.
    Unmet,
}

impl<'a> Precondition<'a> {
    /// Those of a request, checked to be lists of entity tags.
    ///
    /// # Errors
    /// 400 with what a condition looks like.
    pub(super) fn of(request: &Request<'a>) -> Result<Precondition<'a>, Failure> {
        let given = [("If-Match", request.if_match), ("If-None-Match", request.if_none_match)];
        for (name, value) in given {
            if value.is_some_and(|value| !is_list(value)) {
                let message = format_args!("{name} is * or a list of \"VERSION\"");
                return Err(Failure::new(400, message));
            }
        }
        Ok(Precondition { if_match: request.if_match, if_none_match: request.if_none_match })
    }

    /// Whether the request has no condition.
    pub(super) fn is_empty(self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// What they come to for this state of the key; a tombstone is no state to match.
    pub(super) fn check(self, current: Option<&Record>) -> Verdict {
        let current = current.filter(|record| !record.is_tombstone()).map(Record::stamp);
        if self.if_match.is_some_and(|list| !names(list, current, false)) {
            return Verdict::Unmet;
        }
        if self.if_none_match.is_some_and(|list| names(list, current, true)) {
            return Verdict::Unchanged;
        }
        Verdict::Met
    }
}

/// Whether `list` names the version. A weak tag never is the same bytes, but may well say that a
/// copy is fresh.
fn names(list: &str, current: Option<Stamp>, weak_counts: bool) -> bool {
    let Some(current) = current else { return false };
    tags(list).any(|tag| {
        let tag = match tag.strip_prefix("W/") {
            Some(strong) if weak_counts => strong,
            Some(_) => return false,
            None => tag,
        };
        let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        tag == "*" || version.is_some_and(|version| version.parse() == Ok(current))
    })
}

fn is_list(value: &str) -> bool {
    let is_tag = |tag: &str| {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"')
    };
    value.trim() == "*" || tags(value).all(is_tag)
}

/// The members of a list. Our versions hold no comma, so a tag that does is of no interest.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{Method, Trust};
    use crate::kv::{HlcTime, OriginId};

    fn request<'a>(if_match: Option<&'a str>, if_none_match: Option<&'a str>) -> Request<'a> {
        Request {
            method: Method::Get,
            target: "/kv/k",
            trust: Trust::Anybody,
            content_type: None,
            if_none_match,
            if_match,
            has_length: false,
            body: b"",
        }
    }

    fn check(if_match: Option<&str>, if_none_match: Option<&str>, expected: [Verdict; 3]) {
        let stamp = Stamp { time: HlcTime(1), origin: OriginId(2) };
        let live = Record::new(stamp, 1, b"k", Some((b"v", None)));
        let dead = Record::new(stamp, 1, b"k", None);
        let precondition = Precondition::of(&request(if_match, if_none_match)).unwrap();
        let states = [Some(&live), Some(&dead), None];
        let verdicts = states.map(|state| precondition.check(state));
        assert_eq!(verdicts, expected, "{if_match:?} {if_none_match:?}");
    }

    #[test]
    fn conditions_are_judged_by_the_version_held() {
        use Verdict::{Met, Unchanged, Unmet};
        let same = "\"0000000000000001-0000000000000002\"";
        let other = "\"0000000000000009-0000000000000002\"";
        let weak = format!("W/{same}");
        let both = format!("{other}, {same}");
        check(None, None, [Met, Met, Met]);
        check(Some(same), None, [Met, Unmet, Unmet]);
        check(Some(&both), None, [Met, Unmet, Unmet]);
        check(Some(other), None, [Unmet, Unmet, Unmet]);
        check(Some(&weak), None, [Unmet, Unmet, Unmet]);
        check(Some("*"), None, [Met, Unmet, Unmet]);
        check(None, Some(same), [Unchanged, Met, Met]);
        check(None, Some(&weak), [Unchanged, Met, Met]);
        check(None, Some(other), [Met, Met, Met]);
        check(None, Some("*"), [Unchanged, Met, Met]);
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for bad in ["", "abc", "\"a", "\"a\", b", "W/", "*, \"a\""] {
            assert_eq!(
                Precondition::of(&request(Some(bad), None)).unwrap_err().status,
                400,
                "{bad}"
            );
        }
    }
}
