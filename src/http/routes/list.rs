//! `GET /kv/`: the keys in order, a page at a time.

use super::context::{Api, Call, Outcome};
use super::precondition::{Precondition, Verdict};
use super::query::{self, Parameter};
use crate::http::failure::{Failure, error_body};
use crate::http::json::{json_text, json_value};
use crate::http::response::{Response, number, version};
use crate::kv::{Listing, Record};
use crate::limits::{HTTP_LIST_LEN_MAX, LIST_ITEMS_MAX};
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_128;

/// Answers with one page. A page ends early when it grows large; then `next` says where to go on.
/// Its tag is made of all it says, so that the same page has the same tag on every node.
pub(super) fn answer(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    let [prefix, after, limit, keys] =
        query::parameters(call.query, ["prefix", "after", "limit", "keys"])?;
    let prefix = read("prefix", prefix)?;
    let after = read("after", after)?;
    let limit = limit.map_or(Ok(LIST_ITEMS_MAX), |limit| items(limit.text()))?;
    let only_keys = keys.map_or(Ok(false), |keys| keys.switch("keys"))?;
    let after = Some(after.as_bytes()).filter(|after| !after.is_empty());
    let precondition = Precondition::of(call.request)?;
    api.check_complete()?;
    let page = api.store().list(prefix.as_bytes(), after, limit);
    write(call.body, &page, only_keys);
    let tag = format!("list-{:032x}", xxh3_128(call.body));
    match precondition.check_tag(Some(&tag)) {
        Verdict::Met => {
            Response::new(call.out, call.now.wall, 200, call.body.len())
                .json()
                .tag(&tag)
                .end(call.request.form(), call.body);
            Ok(Outcome::Answered(200))
        }
        Verdict::Unchanged => {
            Response::bodiless(call.out, call.now.wall, 304).tag(&tag).end_bodiless();
            Ok(Outcome::Answered(304))
        }
        Verdict::Unmet => {
            call.body.clear();
            call.body.extend_from_slice(&error_body("the list is another one by now"));
            Response::new(call.out, call.now.wall, 412, call.body.len())
                .json()
                .tag(&tag)
                .end(call.request.form(), call.body);
            Ok(Outcome::Answered(412))
        }
    }
}

fn read<'t>(name: &str, parameter: Option<Parameter<'t>>) -> Result<Cow<'t, str>, Failure> {
    query::text(name, parameter.map_or("", Parameter::text))
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

fn write(out: &mut Vec<u8>, page: &Listing, only_keys: bool) {
    out.extend_from_slice(b"{\"items\":[");
    let mut last: Option<&Record> = None;
    let mut is_cut = false;
    for record in &page.items {
        let len = if only_keys { 0 } else { record.value().unwrap_or_default().len() };
        if last.is_some() && out.len() + len > HTTP_LIST_LEN_MAX {
            is_cut = true;
            break;
        }
        if last.is_some() {
            out.push(b',');
        }
        write_item(out, record, only_keys);
        last = Some(record);
    }
    out.extend_from_slice(b"],\"next\":");
    let cut_at = last.filter(|_| is_cut).map(Record::key);
    match cut_at.or(page.next.as_deref()) {
        Some(key) => json_text(out, text(key)),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
}

fn write_item(out: &mut Vec<u8>, record: &Record, only_keys: bool) {
    out.extend_from_slice(b"{\"key\":");
    json_text(out, text(record.key()));
    if !only_keys {
        out.extend_from_slice(b",\"value\":");
        json_value(out, record.value().unwrap_or_default());
    }
    if let Some(content_type) = record.content_type() {
        out.extend_from_slice(b",\"type\":");
        json_text(out, content_type);
    }
    out.extend_from_slice(b",\"version\":\"");
    version(out, record.stamp());
    out.extend_from_slice(b"\",\"size\":");
    number(out, record.value().unwrap_or_default().len());
    out.push(b'}');
}

/// A key as text; the store holds no key that is none.
fn text(key: &[u8]) -> &str {
    std::str::from_utf8(key).unwrap_or_default()
}
