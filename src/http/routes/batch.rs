//! `POST /kv/`: several reads and writes, one step on this node.
//!
//! ```text
//! {"ops":[{"put":"k","value":"v","type":"text/plain","ttl":"30s","if_version":".."},
//!         {"delete":"k2"}, {"get":"k3"}, {"check":"k4","if_version":""}]}
//! ```
//!
//! Everything is done, or nothing is and the answer says which part was in the way. A value is
//! `value`, a text, or `base64`. `if_version` is the version that the key must be at on this node;
//! an empty one means that it must be absent.

use super::concern;
use super::context::{Api, Call, Outcome};
use super::precondition::Precondition;
use super::query;
use crate::http::failure::{Failure, error_body};
use crate::http::json::{json_text, json_text_len, json_value, json_value_len};
use crate::http::object::Object;
use crate::http::pending::Waiter;
use crate::http::response::{
    EXPIRED, Response, expires_field, number, type_field, version_field, version_fields,
};
use crate::kv::{Act, BatchError, Done, Op, Record, Stamp, WriteError};
use crate::limits::{
    BATCH_OPS_MAX, CONTENT_TYPE_LEN_MAX, HTTP_LIST_LEN_MAX, HTTP_LONG_LEN, KEY_LEN_MAX,
};
use crate::time::Now;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

/// Bytes of what the answer says of an operation, at most, beside its key, its value and its type.
const TOLD_LEN_MAX: usize = 224;

/// What a client sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    ops: Vec<Object<Part>>,
}

/// One operation; exactly one of the first four names it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    put: Option<String>,
    delete: Option<String>,
    get: Option<String>,
    check: Option<String>,
    value: Option<String>,
    base64: Option<String>,
    #[serde(rename = "type")]
    content_type: Option<String>,
    ttl: Option<String>,
    #[serde(default, deserialize_with = "given")]
    if_version: Option<Option<String>>,
}

/// A field that is there, though it may be null.
fn given<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(field).map(Some)
}

/// An operation that has been understood.
pub(super) struct Asked {
    pub(super) key: String,
    pub(super) act: Asks,
    expected: Option<Expected>,
}

pub(super) enum Asks {
    /// The seconds that it lasts, too, if it does not stay.
    Put(Vec<u8>, Option<String>, Option<u32>),
    Delete,
    Get,
    Check,
}

/// What a key must be at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Absent,
    Version(Stamp),
    /// A version that has expired: nothing is at it any more.
    Expired,
}

impl Expected {
    fn is_met(self, current: Option<&Record>) -> bool {
        let current = current.filter(|record| !record.is_tombstone()).map(Record::stamp);
        match self {
            Expected::Absent => current.is_none(),
            Expected::Version(version) => current == Some(version),
            Expected::Expired => false,
        }
    }
}

/// Does all operations of a body, or none.
pub(super) fn answer(api: &Api, mut call: Call<'_>) -> Result<Outcome, Failure> {
    let [w, timeout] = query::parameters(call.query, ["w", "timeout"])?;
    let wait = concern::wait(w, timeout)?;
    if !Precondition::of(call.request)?.is_empty() {
        let message = "If-Match and If-None-Match are for one key; an operation has if_version";
        return Err(Failure::new(400, message));
    }
    let asked = read(call.request.body, api.shared.config.value_len_max)?;
    if asked.iter().any(|asked| !asked.is_plain_write()) {
        api.check_complete()?;
    }
    if asked.iter().any(Asked::lasts) {
        api.check_ttl()?;
    }
    let read = Read::of(api, call.now, &asked)?;
    if read.takes_time() && !call.request.may_take_time {
        return Ok(call.again());
    }
    let slot = wait.map(|wait| Ok((api.slot(Waiter::Write)?, wait))).transpose()?;
    let is_write = asked.iter().any(Asked::is_write);
    if is_write {
        api.reserve(&mut call, read.written + asked.iter().map(Asked::told_len).sum::<usize>())?;
    }
    let writing = is_write.then(|| api.shared.shutdown.begin_write()).transpose()?;
    let ops: Vec<_> = asked.iter().map(Asked::op).collect();
    let done = api.store().batch(call.now, &ops);
    drop(writing);
    let done = match done {
        Ok(done) => done,
        Err(error) => return Ok(refused(api, call, &asked, error)),
    };
    let last = done.iter().filter_map(|done| match done {
        Done::Written(written) => Some(*written),
        Done::Found(_) => None,
    });
    let last = last.max_by_key(|written| written.dot.seq);
    if last.is_some() {
        api.shared.bridge.written();
    }
    write(call.body, &asked, &done);
    let (Some((slot, wait)), Some(last)) = (slot, last) else {
        return Ok(call.json(200, None));
    };
    // Who holds the last of our writes holds those before.
    let body = call.body.clone();
    Ok(wait.await_holders(api, slot, call, last.dot, move |reply, response| {
        match wait.held(reply, last.stamp) {
            Ok(()) => response.entry(200, last.stamp, &body),
            Err(short) => response.entry(504, last.stamp, &short),
        }
    }))
}

/// How long the values are that it reads.
struct Read {
    len: usize,
    /// As they are written down.
    written: usize,
}

impl Read {
    /// # Errors
    /// 413, when they are longer than a page of a list may be: the answer is made whole.
    fn of(api: &Api, now: Now, asked: &[Asked]) -> Result<Read, Failure> {
        let is_read = |asked: &&Asked| matches!(asked.act, Asks::Get);
        let read = asked.iter().filter(is_read);
        let read = read.filter_map(|asked| api.store().get(now, asked.key.as_bytes()));
        let (mut records, mut len) = (Vec::new(), 0);
        for record in read {
            len += record.value().unwrap_or_default().len();
            records.push(record);
            if len > HTTP_LIST_LEN_MAX {
                return Err(too_long());
            }
        }
        let values = records.iter().map(|record| record.value().unwrap_or_default());
        let written = values.map(json_value_len).sum::<usize>();
        if written > HTTP_LIST_LEN_MAX {
            return Err(too_long());
        }
        Ok(Read { len, written })
    }

    fn takes_time(&self) -> bool {
        self.len > HTTP_LONG_LEN
    }
}

fn too_long() -> Failure {
    let message = format_args!(
        "the values that it reads are longer than {HTTP_LIST_LEN_MAX} bytes together, as they are \
         written; nothing has changed"
    );
    Failure::new(413, message)
}

impl Asked {
    /// The operation that a text spells.
    ///
    /// # Errors
    /// The status and the text to refuse it with.
    pub(super) fn of_line(line: &[u8], value_len_max: usize) -> Result<Asked, Wrong> {
        let part = serde_json::from_slice::<Object<Part>>(line);
        // Which line it is knows the caller.
        let why =
            |error: serde_json::Error| error.to_string().replace("at line 1 column", "at column");
        part.map_err(|error| (400, why(error)))?.0.read(value_len_max)
    }

    fn is_write(&self) -> bool {
        matches!(self.act, Asks::Put(..) | Asks::Delete)
    }

    /// Bytes of what is told of it at most, but for a value that is read.
    fn told_len(&self) -> usize {
        let type_len = if matches!(self.act, Asks::Get) { 6 * CONTENT_TYPE_LEN_MAX } else { 0 };
        json_text_len(&self.key) + type_len + TOLD_LEN_MAX
    }

    /// Whether it writes without a condition.
    pub(super) fn is_plain_write(&self) -> bool {
        self.is_write() && self.expected.is_none()
    }

    /// Whether it writes what expires.
    pub(super) fn lasts(&self) -> bool {
        matches!(self.act, Asks::Put(.., Some(_)))
    }

    /// Whether it could be written, as far as is known without the store.
    ///
    /// # Errors
    /// A [`WriteError`] that says what is wrong.
    pub(super) fn check(&self) -> Result<(), WriteError> {
        self.op().act.check()
    }

    fn op(&self) -> Op<'_, impl Fn(Option<&Record>) -> bool> {
        let expected = self.expected;
        Op {
            key: self.key.as_bytes(),
            act: match &self.act {
                Asks::Put(value, content_type, None) => Act::Put(value, content_type.as_deref()),
                Asks::Put(value, content_type, Some(ttl)) => {
                    Act::PutLasting(value, content_type.as_deref(), *ttl)
                }
                Asks::Delete => Act::Delete,
                Asks::Get | Asks::Check => Act::Look,
            },
            condition: move |current: Option<&Record>| {
                expected.is_none_or(|expected| expected.is_met(current))
            },
        }
    }
}

fn read(body: &[u8], value_len_max: usize) -> Result<Vec<Asked>, Failure> {
    let Object(body): Object<Body> = serde_json::from_slice(body).map_err(|error| {
        let form = "{\"ops\":[{\"put\":\"k\",\"value\":\"v\"},{\"delete\":\"k\"},{\"get\":\"k\"}]}";
        Failure::new(400, format_args!("the body is not {form}: {error}"))
    })?;
    if body.ops.len() > BATCH_OPS_MAX {
        let n = body.ops.len();
        let message = format_args!("there are {n} ops, at most {BATCH_OPS_MAX}");
        return Err(Failure::new(413, message));
    }
    let parts = body.ops.into_iter().enumerate();
    parts
        .map(|(index, Object(part))| {
            part.read(value_len_max)
                .map_err(|(status, why)| Failure::new(status, format_args!("op {index}: {why}")))
        })
        .collect()
}

/// A status, and what is wrong.
pub(super) type Wrong = (u16, String);

impl Part {
    fn read(self, value_len_max: usize) -> Result<Asked, Wrong> {
        let wrong = |why: &str| Err((400, why.to_owned()));
        let value = match (self.value, self.base64) {
            (Some(_), Some(_)) => return wrong("value and base64 exclude each other"),
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(text)) => match STANDARD.decode(text) {
                Ok(bytes) => Some(bytes),
                Err(error) => return Err((400, format!("base64: {error}"))),
            },
            (None, None) => None,
        };
        let has_content = value.is_some() || self.content_type.is_some() || self.ttl.is_some();
        let ttl = self.ttl.as_deref().map(query::ttl).transpose();
        let ttl = ttl.map_err(|failure| (failure.status, failure.message))?;
        let (key, act) = match (self.put, self.delete, self.get, self.check) {
            (Some(key), None, None, None) => match value {
                Some(value) if value.len() > value_len_max => {
                    let len = value.len();
                    let why = format!(
                        "the value has {len} bytes, at most {value_len_max} (--max-value-bytes)"
                    );
                    return Err((413, why));
                }
                Some(value) => {
                    let content_type = self.content_type.filter(|text| !text.is_empty());
                    (key, Asks::Put(value, content_type, ttl))
                }
                None => return wrong("put wants value or base64"),
            },
            _ if has_content => return wrong("only put has a value, a type and a ttl"),
            (None, Some(key), None, None) => (key, Asks::Delete),
            (None, None, Some(key), None) => (key, Asks::Get),
            (None, None, None, Some(key)) if self.if_version.is_some() => (key, Asks::Check),
            (None, None, None, Some(_)) => return wrong("check wants if_version"),
            _ => return wrong("it is one of put, delete, get, check"),
        };
        if key.is_empty() || key.len() > KEY_LEN_MAX {
            let len = key.len();
            return Err((400, format!("a key has 1 to {KEY_LEN_MAX} bytes, not {len}")));
        }
        let expected = match self.if_version.as_ref().map(Option::as_deref) {
            None => None,
            // A client that means "no condition" leaves it out.
            Some(None) => return wrong("if_version is null; it is a version, or empty"),
            Some(Some("")) => Some(Expected::Absent),
            Some(Some(text)) => match text.strip_suffix(EXPIRED).unwrap_or(text).parse() {
                Ok(_) if text.ends_with(EXPIRED) => Some(Expected::Expired),
                Ok(version) => Some(Expected::Version(version)),
                Err(error) => return Err((400, format!("if_version: {error}, or empty"))),
            },
        };
        Ok(Asked { key, act, expected })
    }
}

/// Says which operation was in the way, and what its key is at.
fn refused(api: &Api, call: Call<'_>, asked: &[Asked], error: BatchError) -> Outcome {
    let (index, status) = match error {
        BatchError::Twice(index) => (index, 400),
        BatchError::Op(index, WriteError::Unmet) => (index, 412),
        BatchError::Op(index, WriteError::StoreFull { .. }) => (index, 507),
        BatchError::Op(index, WriteError::ValueLen(_)) => (index, 413),
        BatchError::Op(index, WriteError::StampExhausted) => (index, 409),
        BatchError::Op(index, _) => (index, 400),
    };
    let key = asked.get(index).map_or("", |asked| &asked.key);
    let why = match error {
        BatchError::Op(_, error) => api.write_error(error),
        BatchError::Twice(_) => error.to_string(),
    };
    call.body.extend_from_slice(&error_body(&format!("op {index}, key {key}: {why}")));
    call.body.pop();
    call.body.extend_from_slice(b",\"index\":");
    number(call.body, index);
    if let Some(current) = api.store().shown(call.now, key.as_bytes()) {
        version_fields(call.body, &current);
    }
    call.body.push(b'}');
    Response::new(call.out, call.now.wall, status, call.body.len())
        .json()
        .end(call.request.form(), call.body);
    Outcome::Answered(status)
}

fn write(out: &mut Vec<u8>, asked: &[Asked], done: &[Done]) {
    out.extend_from_slice(b"{\"results\":[");
    for (n, (asked, done)) in asked.iter().zip(done).enumerate() {
        out.extend_from_slice(if n > 0 { b",{\"key\":" } else { b"{\"key\":" });
        json_text(out, &asked.key);
        match (done, &asked.act) {
            (Done::Written(written), act) => {
                version_field(out, written.stamp);
                if let Asks::Put(.., Some(ttl)) = act {
                    expires_field(out, written.stamp.expiry(*ttl));
                }
            }
            (Done::Found(Some(record)), Asks::Get) => {
                out.extend_from_slice(b",\"value\":");
                json_value(out, record.value().unwrap_or_default());
                type_field(out, record);
                version_fields(out, record);
            }
            (Done::Found(Some(record)), _) => version_field(out, record.stamp()),
            (Done::Found(None), _) => out.extend_from_slice(b",\"absent\":true"),
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}
