//! A page of a list as JSON: measured first, then made.

use crate::http::json::{json_text, json_text_len, json_value, json_value_len};
use crate::http::long::{Part, Pieces, push_text, value_parts, with_text};
use crate::http::response::{number, type_field, version_fields};
use crate::kv::{Listing, Record};
use crate::limits::{HTTP_LIST_LEN_MAX, HTTP_LONG_LEN};
use xxhash_rust::xxh3::Xxh3Default;

/// What of a listing makes a page, measured before it is made.
pub(super) struct Plan<'l> {
    items: &'l [Record],
    /// Folders of the page, where it is one of folders.
    folders: Option<&'l [Vec<u8>]>,
    only_keys: bool,
    /// The key to go on after.
    next: Option<&'l str>,
    /// Bytes of the body, its end left out.
    pub(super) len: usize,
    /// Those of them that are made at once.
    pub(super) text_len: usize,
}

const BEGIN: &[u8] = b"{\"items\":[";
const FOLDERS: &[u8] = b"],\"folders\":[";
const NEXT: &[u8] = b"],\"next\":";
const NULL: &[u8] = b"null";

impl<'l> Plan<'l> {
    /// As many items as fit the longest page, and one at least.
    pub(super) fn of(
        listing: &'l Listing,
        folders: Option<&'l [Vec<u8>]>,
        only_keys: bool,
    ) -> Plan<'l> {
        let mut plan = Plan { items: &[], folders, only_keys, next: None, len: 0, text_len: 0 };
        let mut len = BEGIN.len();
        let (mut long_len, mut n, mut rest) = (0, 0, Vec::new());
        for record in &listing.items {
            let value_len = plan.value_len(record);
            rest.clear();
            plan.write_begin(&mut rest, record);
            write_end(&mut rest, record);
            let item_len = rest.len() + value_len;
            if n > 0 && len + 1 + item_len > HTTP_LIST_LEN_MAX {
                break;
            }
            len += usize::from(n > 0) + item_len;
            long_len += if plan.is_long(record) { value_len } else { 0 };
            n += 1;
        }
        plan.items = &listing.items[..n];
        plan.next = if n < listing.items.len() {
            plan.items.last().map(|record| text(record.key()))
        } else {
            listing.next.as_deref().map(text)
        };
        if n < listing.items.len() {
            // The next page goes on with the folders behind its last key.
            let last = plan.items.last().map_or(&b""[..], Record::key);
            let is_on_page = |folder: &Vec<u8>| folder.as_slice() <= last;
            plan.folders =
                folders.map(|all| &all[..all.partition_point(|folder| is_on_page(folder))]);
        }
        len += plan.folders_len();
        plan.len = len + NEXT.len() + plan.next.map_or(NULL.len(), json_text_len);
        plan.text_len = plan.len - long_len;
        plan
    }

    /// Bytes of the folders, with what stands before them.
    fn folders_len(&self) -> usize {
        let Some(folders) = self.folders else { return 0 };
        let names: usize = folders.iter().map(|folder| json_text_len(text(folder))).sum();
        FOLDERS.len() + names + folders.len().saturating_sub(1)
    }

    /// Bytes of a value as the page has it.
    fn value_len(&self, record: &Record) -> usize {
        record.value().filter(|_| !self.only_keys).map_or(0, json_value_len)
    }

    /// Whether a value is not made at once.
    fn is_long(&self, record: &Record) -> bool {
        !self.only_keys && record.value().unwrap_or_default().len() > HTTP_LONG_LEN
    }

    /// The body but for its end.
    pub(super) fn write(&self) -> Vec<Part> {
        let capacity = if self.text_len == self.len { self.len } else { 0 };
        let mut body = vec![Part::Text(Vec::with_capacity(capacity))];
        push_text(&mut body, BEGIN);
        for (n, record) in self.items.iter().enumerate() {
            if n > 0 {
                push_text(&mut body, b",");
            }
            self.write_item(&mut body, record);
        }
        if let Some(folders) = self.folders {
            push_text(&mut body, FOLDERS);
            for (n, folder) in folders.iter().enumerate() {
                with_text(&mut body, |out| {
                    out.extend_from_slice(if n > 0 { b"," } else { b"" });
                    json_text(out, text(folder));
                });
            }
        }
        push_text(&mut body, NEXT);
        with_text(&mut body, |out| match self.next {
            Some(key) => json_text(out, key),
            None => out.extend_from_slice(NULL),
        });
        body
    }

    fn write_item(&self, body: &mut Vec<Part>, record: &Record) {
        with_text(body, |out| self.write_begin(out, record));
        if self.is_long(record) {
            value_parts(body, record);
        } else if let (Some(value), false) = (record.value(), self.only_keys) {
            with_text(body, |out| json_value(out, value));
        }
        with_text(body, |out| write_end(out, record));
    }

    /// What stands before the value.
    fn write_begin(&self, out: &mut Vec<u8>, record: &Record) {
        out.extend_from_slice(b"{\"key\":");
        json_text(out, text(record.key()));
        match record.value() {
            Some(_) if !self.only_keys => out.extend_from_slice(b",\"value\":"),
            Some(_) => {}
            None => out.extend_from_slice(b",\"deleted\":true"),
        }
    }
}

/// What stands behind it.
fn write_end(out: &mut Vec<u8>, record: &Record) {
    type_field(out, record);
    version_fields(out, record);
    out.extend_from_slice(b",\"size\":");
    number(out, record.value().unwrap_or_default().len());
    out.push(b'}');
}

/// The hash of a body.
pub(super) fn hash(body: &[Part]) -> u128 {
    let (mut hash, mut pieces, mut buffer) = (Xxh3Default::new(), Pieces::default(), Vec::new());
    while let Some(piece) = pieces.next(body, &mut buffer) {
        hash.update(piece);
    }
    hash.digest128()
}
/// A key as text; the store holds no key that is none.
fn text(key: &[u8]) -> &str {
    std::str::from_utf8(key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{HlcTime, OriginId, Stamp};
    use xxhash_rust::xxh3::xxh3_128;

    fn listing(values: &[&[u8]], next: Option<&[u8]>) -> Listing {
        let record = |(n, value): (usize, &&[u8])| {
            let stamp = Stamp { time: HlcTime(7), origin: OriginId(9) };
            Record::new(
                stamp,
                1,
                format!("k\n{n}").as_bytes(),
                Some((value, (n % 2 == 1).then_some("a/\"b\""))),
            )
        };
        let items = values.iter().enumerate().map(record).collect();
        Listing { items, next: next.map(<[u8]>::to_vec) }
    }

    /// The page of a listing; it is as long as was measured.
    fn page(listing: &Listing, folders: Option<&[Vec<u8>]>, only_keys: bool) -> String {
        let plan = Plan::of(listing, folders, only_keys);
        let body = plan.write();
        let (mut whole, mut pieces, mut buffer) = (Vec::new(), Pieces::default(), Vec::new());
        while let Some(piece) = pieces.next(&body, &mut buffer) {
            whole.extend_from_slice(piece);
        }
        assert_eq!(whole.len(), plan.len);
        assert_eq!(hash(&body), xxh3_128(&whole));
        let at_once = |part: &Part| if let Part::Text(text) = part { text.len() } else { 0 };
        assert!(body.iter().map(at_once).sum::<usize>() <= plan.text_len + 100);
        // The end is the token's.
        whole.push(b'}');
        String::from_utf8(whole).expect("text")
    }

    #[test]
    fn a_page_is_as_long_as_was_measured() {
        let long = [0; HTTP_LONG_LEN + 1];
        let not_text = [0xff; HTTP_LONG_LEN + 2];
        for next in [None, Some(&b"k\"3"[..])] {
            let all: [&[u8]; 5] = [b"a", b"\xff", &long, b"\n", &not_text];
            for values in [&all[..0], &all[..1], &all] {
                for only_keys in [false, true] {
                    let page = page(&listing(values, next), None, only_keys);
                    let json: serde_json::Value = serde_json::from_str(&page).expect("JSON");
                    assert_eq!(json["items"].as_array().map(Vec::len), Some(values.len()));
                    assert_eq!(json["items"][0]["value"].is_null(), only_keys || values.is_empty());
                    assert_eq!(json["next"].is_null(), next.is_none());
                }
            }
        }
    }

    #[test]
    fn a_page_ends_by_what_is_written_of_its_values() {
        // Each is six times longer in JSON: the page had nine megabytes instead of four.
        let value = [0; 30_000];
        let page = page(&listing(&[&value[..]; 60], None), None, false);
        assert!(page.len() <= HTTP_LIST_LEN_MAX, "{}", page.len());
        assert!(page.len() > HTTP_LIST_LEN_MAX - 6 * value.len() - 100, "{}", page.len());
        assert!(page.ends_with(",\"next\":\"k\\n22\"}"));
    }

    #[test]
    fn folders_stand_beside_the_keys_of_their_page() {
        let folders = [&b"a\"/"[..], b"k\n1/", b"z/"].map(<[u8]>::to_vec);
        let whole = page(&listing(&[b"1", b"2"], None), Some(&folders), true);
        let whole: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
        assert_eq!(whole["folders"], serde_json::json!(["a\"/", "k\n1/", "z/"]));
        let none = page(&listing(&[], None), Some(&[]), false);
        assert_eq!(none, "{\"items\":[],\"folders\":[],\"next\":null}");
        // Where the page ends early, folders behind its last key are told by the next one.
        let value = [0; 30_000];
        let cut = page(&listing(&[&value[..]; 60], Some(b"z/")), Some(&folders), false);
        let cut: serde_json::Value = serde_json::from_str(&cut).expect("JSON");
        assert_eq!(cut["next"], "k\n22");
        assert_eq!(cut["folders"], serde_json::json!(["a\"/", "k\n1/"]));
    }
}
