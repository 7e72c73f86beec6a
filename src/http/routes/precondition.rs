//! `If-Match` and `If-None-Match`.
//!
//! A condition is compared with what **this node** holds: it does not see a write of another node
//! that has not arrived yet. So conditions make lost updates rarer, not impossible. They are no
//! lock across the cluster.

use crate::http::failure::Failure;
use crate::http::request::Request;
use crate::kv::Record;

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
        if self.is_empty() {
            return Verdict::Met;
        }
        let current = current.filter(|record| !record.is_tombstone());
        self.check_tag(current.map(|record| record.stamp().to_string()).as_deref())
    }

    /// What they come to when this is the tag of what is there.
    pub(super) fn check_tag(self, current: Option<&str>) -> Verdict {
        if self.if_match.is_some_and(|list| !names(list, current)) {
            return Verdict::Unmet;
        }
        if self.if_none_match.is_some_and(|list| names(list, current)) {
            return Verdict::Unchanged;
        }
        Verdict::Met
    }
}

/// Whether `list` names the tag.
///
/// A weak tag counts like a strong one, also for `If-Match`: our tags change with every write, and
/// are weak only after a proxy has compressed the answer.
fn names(list: &str, current: Option<&str>) -> bool {
    let Some(current) = current else { return false };
    let is_current = |tag: &str| tag.strip_prefix(current).is_some_and(is_coding);
    is_any(list) || Tags(list).flatten().any(is_current)
}

/// Whether this is what a proxy adds to a tag when it compresses the answer: nothing, or the name
/// of the coding behind a hyphen (Apache, Caddy) or two (Jetty).
fn is_coding(suffix: &str) -> bool {
    let coding = suffix.trim_start_matches('-');
    suffix.is_empty() || (coding != suffix && ["gzip", "br", "zstd", "deflate"].contains(&coding))
}

fn is_any(value: &str) -> bool {
    value.trim() == "*"
}

fn is_list(value: &str) -> bool {
    is_any(value) || (Tags(value).next().is_some() && Tags(value).all(|tag| tag.is_ok()))
}

/// The tags of a list, what is between their quotes. Elements may be empty: lists are put together
/// by proxies.
struct Tags<'a>(&'a str);

/// Something else than a tag.
struct NoTag;

impl<'a> Iterator for Tags<'a> {
    type Item = Result<&'a str, NoTag>;

    fn next(&mut self) -> Option<Result<&'a str, NoTag>> {
        let rest = std::mem::take(&mut self.0).trim_start_matches([' ', ',']);
        if rest.is_empty() {
            return None;
        }
        let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"');
        let Some((tag, after)) = quoted.and_then(|quoted| quoted.split_once('"')) else {
            return Some(Err(NoTag));
        };
        self.0 = after.trim_start_matches(' ');
        let is_end = self.0.is_empty() || self.0.starts_with(',');
        Some(if is_end { Ok(tag) } else { Err(NoTag) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{Method, Trust};
    use crate::kv::{HlcTime, OriginId, Stamp};

    fn request<'a>(if_match: Option<&'a str>, if_none_match: Option<&'a str>) -> Request<'a> {
        Request {
            method: Method::Get,
            target: "/kv/k",
            trust: Trust::Anybody,
            content_type: None,
            if_none_match,
            if_match,
            wants_events: false,
            takes_gzip: false,
            last_event_id: None,
            poll: crate::http::request::Poll::New,
            has_length: false,
            body: b"",
            may_take_time: false,
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
        let coded = |suffix| format!("{}{suffix}\"", &same[..same.len() - 1]);
        let both = format!("{other}, {same}");
        check(None, None, [Met, Met, Met]);
        check(Some(same), None, [Met, Unmet, Unmet]);
        check(Some(&both), None, [Met, Unmet, Unmet]);
        check(Some(other), None, [Unmet, Unmet, Unmet]);
        // As nginx and haproxy, Apache, Caddy and Jetty return the tag of what they compressed.
        for coded in [weak.as_str(), &coded("-gzip"), &coded("-br"), &coded("--gzip")] {
            check(Some(coded), None, [Met, Unmet, Unmet]);
            check(None, Some(coded), [Unchanged, Met, Met]);
        }
        for foreign in [coded("gzip"), coded("-"), coded("-x"), coded("0"), coded("-gzip-br")] {
            check(Some(&foreign), None, [Unmet, Unmet, Unmet]);
        }
        let odd = format!(", ,{other},,\"a,b\" , {same},");
        check(Some(&odd), None, [Met, Unmet, Unmet]);
        check(None, Some(&odd), [Unchanged, Met, Met]);
        check(Some("*"), None, [Met, Unmet, Unmet]);
        check(None, Some(same), [Unchanged, Met, Met]);
        check(None, Some(&weak), [Unchanged, Met, Met]);
        check(None, Some(other), [Met, Met, Met]);
        check(None, Some("*"), [Unchanged, Met, Met]);
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for bad in ["", ",", "abc", "\"a", "\"a\", b", "\"a\"\"b\"", "W/", "*, \"a\"", "w/\"a\""] {
            assert_eq!(
                Precondition::of(&request(Some(bad), None)).unwrap_err().status,
                400,
                "{bad}"
            );
        }
    }
}
