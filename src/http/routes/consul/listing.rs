//! `?recurse` and `?keys`: all that is under a prefix, whole. The protocol knows no pages.

use super::answers;
use super::asked::Query;
use super::blocking;
use super::index::{self, OfList};
use crate::http::failure::Failure;
use crate::http::json::json_text;
use crate::http::long::{Part, push_text, with_text};
use crate::http::memory::Held;
use crate::http::routes::context::{Api, Call, Outcome};
use crate::kv::{Record, Target};
use crate::limits::{CONSUL_KEYS_MAX, CONSUL_LIST_LEN_MAX, LIST_ITEMS_MAX};

/// Bytes of a value from which on it is not copied, but made when the client takes it.
const COPIED_LEN_MAX: usize = 4 << 10;
/// More than an entry has beside its key and its value.
const ENTRY_LEN: usize = 128;

/// Answers with all of it, or that there is nothing, or when it changes.
pub(super) fn answer(
    api: &Api,
    mut call: Call<'_>,
    query: Query<'_>,
    prefix: &str,
) -> Result<Outcome, Failure> {
    query.wait(api.shared.config.consul_wait_max)?;
    let separator = match query.text("separator")? {
        None => query.text("seperator")?,
        separator => separator,
    };
    api.check_complete()?;
    if !call.request.may_take_time {
        return Ok(call.again());
    }
    let only_keys = query.is_on("keys");
    let mut found = Found::new(api, prefix.len(), only_keys.then(|| separator.unwrap_or_default()));
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = api.store().list(call.now, prefix.as_bytes(), after.as_deref(), LIST_ITEMS_MAX);
        page.items.iter().for_each(|record| found.add(record));
        found.check(api)?;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let target = Target::Prefix(prefix.as_bytes().into());
    let index = match blocking::turn(api, &mut call, query, target, found.list.state())? {
        Ok(index) => index,
        Err(outcome) => return Ok(outcome),
    };
    if found.len == 0 {
        if only_keys && prefix.is_empty() {
            call.body.extend_from_slice(b"[]");
            return Ok(answers::json(api, call, index));
        }
        return Ok(answers::nothing(api, call, index));
    }
    let (body, held) = found.body(api)?;
    let len = body.iter().map(Part::len).sum();
    Ok(api.long(call, (body, len), held, |response| {
        answers::read_headers(api, response.json(), index)
    }))
}

/// What is under a prefix, as it is found.
struct Found<'q> {
    prefix_len: usize,
    /// Where keys are cut, when keys are all that is asked for; empty for nowhere.
    separator: Option<std::borrow::Cow<'q, str>>,
    list: OfList,
    /// Keys as JSON, a comma before each.
    keys: Vec<u8>,
    last: String,
    records: Vec<Record>,
    /// Keys looked at.
    n: usize,
    /// Bytes of the answer, or a little more.
    len: usize,
    held: Held,
}

impl<'q> Found<'q> {
    fn new(api: &Api, prefix_len: usize, separator: Option<std::borrow::Cow<'q, str>>) -> Self {
        let held = Held::new(&api.shared.budget);
        let (keys, records, last) = (Vec::new(), Vec::new(), String::new());
        let list = OfList::default();
        Found { prefix_len, separator, list, keys, last, records, n: 0, len: 0, held }
    }

    fn add(&mut self, record: &Record) {
        self.list.add(record);
        self.n += 1;
        match &self.separator {
            None => {
                let value = record.value().unwrap_or_default();
                self.len += ENTRY_LEN + record.key().len() + answers::value_len(value);
                self.records.push(record.clone());
            }
            Some(separator) => {
                let key = std::str::from_utf8(record.key()).unwrap_or_default();
                let cut = cut(key, self.prefix_len, separator);
                if self.len == 0 || self.last != cut {
                    cut.clone_into(&mut self.last);
                    self.keys.push(b',');
                    json_text(&mut self.keys, cut);
                    self.len = self.keys.len() + 1;
                }
            }
        }
    }

    /// Whether one answer may say it all.
    ///
    /// # Errors
    /// 500 when it is longer or takes longer than one answer may, 503 when too many bytes are held
    /// already.
    fn check(&mut self, api: &Api) -> Result<(), Failure> {
        let too_much = |what: &dyn std::fmt::Display| {
            Err(Failure::new(500, format_args!("{what}; ask for a longer prefix")))
        };
        if self.len > CONSUL_LIST_LEN_MAX {
            return too_much(&format_args!(
                "the answer is larger than {CONSUL_LIST_LEN_MAX} bytes"
            ));
        }
        if self.n > CONSUL_KEYS_MAX {
            return too_much(&format_args!("there are more than {CONSUL_KEYS_MAX} keys"));
        }
        let len = self.keys.len() + self.records.len() * size_of::<Record>();
        api.hold(&mut self.held, len)
    }

    fn body(mut self, api: &Api) -> Result<(Vec<Part>, Held), Failure> {
        if self.separator.is_some() {
            if let Some(first) = self.keys.first_mut() {
                *first = b'[';
            }
            self.keys.push(b']');
            return Ok((vec![Part::Text(self.keys)], self.held));
        }
        let copied = |record: &Record| {
            let len = record.value().unwrap_or_default().len();
            ENTRY_LEN + record.key().len() + if len > COPIED_LEN_MAX { 0 } else { len * 4 / 3 + 4 }
        };
        api.hold(&mut self.held, self.records.iter().map(copied).sum())?;
        let mut body = Vec::new();
        for (n, record) in self.records.iter().enumerate() {
            push_text(&mut body, if n == 0 { b"[" } else { b"," });
            let value = record.value().unwrap_or_default();
            with_text(&mut body, |out| answers::entry_begin(out, record));
            if value.len() > COPIED_LEN_MAX {
                push_text(&mut body, b"\"");
                body.push(Part::Base64(record.clone()));
                push_text(&mut body, b"\"");
            } else {
                with_text(&mut body, |out| answers::value(out, value));
            }
            let modified = index::of_time(record.stamp().time);
            with_text(&mut body, |out| answers::end(out, modified));
        }
        push_text(&mut body, b"]");
        Ok((body, self.held))
    }
}

/// A key up to its first separator behind the prefix.
fn cut<'k>(key: &'k str, prefix_len: usize, separator: &str) -> &'k str {
    let rest = key.get(prefix_len..).unwrap_or_default();
    match rest.find(separator) {
        Some(at) if !separator.is_empty() => &key[..prefix_len + at + separator.len()],
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_are_cut_at_the_first_separator_behind_the_prefix() {
        let cut = |key, prefix: &str, separator| super::cut(key, prefix.len(), separator);
        assert_eq!(cut("a/b/c", "a/", "/"), "a/b/");
        assert_eq!(cut("a/x", "a/", "/"), "a/x");
        assert_eq!(cut("a/x", "a", "/"), "a/");
        assert_eq!(cut("a/b::c::d", "a/", "::"), "a/b::");
        assert_eq!(cut("a/b/c", "a/b/", ""), "a/b/c");
        assert_eq!(cut("\u{fc}/\u{fc}/x", "\u{fc}/", "\u{fc}"), "\u{fc}/\u{fc}");
        assert_eq!(cut("a", "a", "/"), "a");
    }
}
