//! One key: read, written, deleted.

use super::concern::{self, Wait};
use super::context::{Api, Call, Outcome};
use super::precondition::{Precondition, Verdict};
use super::query::{self, Parameter};
use super::version::Awaited;
use super::watch::{self, Least};
use crate::http::failure::{Failure, error_body};
use crate::http::json::{json_pair, json_text, json_value_len};
use crate::http::long::{Part, push_text, value_parts};
use crate::http::memory::Held;
use crate::http::pending::{Slot, Waiter};
use crate::http::response::{Response, expires_field, number, version_field};
use crate::http::route::Spelt;
use crate::kv::{Record, Target, WriteError, Written};
use crate::limits::{CONTENT_TYPE_LEN_MAX, HTTP_LONG_LEN};
use crate::time::{Now, WallMillis};

/// What a raw value is served as when nothing was kept with it.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// `GET` and `HEAD` of an entry.
pub(super) fn get(api: &Api, mut call: Call<'_>, spelt: Spelt<'_>) -> Result<Outcome, Failure> {
    let key = query::key(spelt)?;
    let names = ["raw", "newer", "min_version", "min_token", "wait"];
    let [raw, newer, least, token, wait] = query::parameters_beside(spelt, call.query, names)?;
    let is_raw = raw.map_or(Ok(false), |raw| raw.switch("raw"))?;
    let caught_up = Least::of(token)?;
    if caught_up.is_some() && (newer.is_some() || least.is_some()) {
        return Err(Failure::new(400, "min_token excludes newer and min_version"));
    }
    let awaited = if caught_up.is_some() { None } else { Awaited::of(newer, least, wait)? };
    let precondition = Precondition::of(call.request)?;
    api.check_complete()?;
    if let Some(least) = caught_up {
        let target = Target::Key(key.as_bytes().into());
        if let Some(outcome) = least.await_it(api, &mut call, target, Least::wait(wait)?)? {
            return Ok(outcome);
        }
    }
    let entry = api.store().shown(call.now, key.as_bytes());
    if let Some(Awaited { version, wait }) = awaited
        && !version.is_met(entry.as_ref())
    {
        let target = Target::Key(key.as_bytes().into());
        return match watch::go_on(api, &mut call, target, wait)? {
            Some(outcome) => Ok(outcome),
            None => version.unmet(api, call, entry.as_ref(), wait),
        };
    }
    if !precondition.is_empty() {
        match (precondition.check(entry.as_ref()), &entry) {
            (Verdict::Unmet, _) => return Err(unmet(entry.as_ref())),
            (Verdict::Unchanged, Some(record)) => {
                let response = Response::bodiless(call.out, call.now.wall, 304);
                response.of(record, call.now.wall).end_bodiless();
                return Ok(Outcome::Answered(304));
            }
            _ => {}
        }
    }
    let Some((record, value)) = entry.as_ref().and_then(|record| Some((record, record.value()?)))
    else {
        return Ok(absent(call, &key, entry.as_ref()));
    };
    if value.len() > HTTP_LONG_LEN {
        return Ok(long_value(api, call, &key, record, is_raw));
    }
    if is_raw {
        return Ok(raw_value(call, record, value));
    }
    json_pair(call.body, &key, value);
    Ok(call.json_of(200, Some(record)))
}

/// 404, with the version of the delete when one is remembered.
fn absent(call: Call<'_>, key: &str, tombstone: Option<&Record>) -> Outcome {
    call.body.extend_from_slice(&error_body(&format!("no such key: {key}")));
    call.json_of(404, tombstone)
}

/// A value that the gate sends piece by piece. To measure it as JSON takes time.
fn long_value(api: &Api, call: Call<'_>, key: &str, record: &Record, is_raw: bool) -> Outcome {
    let held = Held::new(&api.shared.budget);
    let value = record.value().unwrap_or_default();
    if is_raw {
        let body = vec![Part::Raw(record.clone())];
        let now = call.now.wall;
        let len = value.len();
        return api.long(call, (body, len), held, |response| raw_head(response, record, now));
    }
    if !call.request.may_take_time {
        return call.again();
    }
    let mut begin = b"{".to_vec();
    json_text(&mut begin, key);
    begin.push(b':');
    let len = begin.len() + json_value_len(value) + 1;
    let mut body = vec![Part::Text(begin)];
    value_parts(&mut body, record);
    push_text(&mut body, b"}");
    let now = call.now.wall;
    api.long(call, (body, len), held, |response| response.json().of(record, now))
}

/// The bytes as they were put. A value may say of itself that it is a web page, but it is not one
/// of ours: it gets no script and no origin to act in.
fn raw_value(call: Call<'_>, record: &Record, value: &[u8]) -> Outcome {
    let response = Response::new(call.out, call.now.wall, 200, value.len());
    raw_head(response, record, call.now.wall).end(call.request.form(), value);
    Outcome::Answered(200)
}

fn raw_head<'r>(response: Response<'r>, record: &Record, now: WallMillis) -> Response<'r> {
    response
        .header("Content-Type", record.content_type().unwrap_or(UNKNOWN_TYPE))
        .header("X-Content-Type-Options", "nosniff")
        .header("Content-Security-Policy", "sandbox; default-src 'none'")
        .of(record, now)
}

/// `PUT` of an entry, the value in the body.
pub(super) fn put_body(api: &Api, call: Call<'_>, spelt: Spelt<'_>) -> Result<Outcome, Failure> {
    let key = query::key(spelt)?;
    let write = Write::put_of(&call, spelt)?;
    if !call.request.has_length {
        let message = "a PUT of a key wants its value in the body, with Content-Length (0 for an \
            empty value) or chunked; or in the path, as /kv/{key}/{value}";
        return Err(Failure::new(411, message));
    }
    let content_type = call.request.content_type.unwrap_or_default();
    if content_type.len() > CONTENT_TYPE_LEN_MAX {
        let len = content_type.len();
        let message = format_args!("Content-Type has {len} bytes, at most {CONTENT_TYPE_LEN_MAX}");
        return Err(Failure::new(400, message));
    }
    let content_type = if content_type.is_empty() { None } else { Some(content_type) };
    let value = call.request.body;
    let (written, wait) = write.put(api, &call, &key, value, content_type)?;
    answer(api, call, written, wait, |out| {
        out.extend_from_slice(b"{\"key\":");
        json_text(out, &key);
        version_field(out, written.stamp);
        if let Some(ttl) = write.ttl {
            expires_field(out, written.stamp.expiry(ttl));
        }
        out.extend_from_slice(b",\"size\":");
        number(out, value.len());
        out.push(b'}');
    })
}

/// `PUT /kv/{key}/{value}`, the value in the path.
pub(super) fn put_pair(
    api: &Api,
    call: Call<'_>,
    segment: &str,
    value: &str,
) -> Result<Outcome, Failure> {
    let spelt = Spelt::Path(segment);
    let key = query::key(spelt)?;
    let value = query::value(value)?;
    let write = Write::put_of(&call, spelt)?;
    if !call.request.body.is_empty() {
        let message = "the value is given twice: in the path and in the body";
        return Err(Failure::new(400, message));
    }
    let (written, wait) = write.put(api, &call, &key, &value, None)?;
    answer(api, call, written, wait, |out| json_pair(out, &key, &value))
}

/// `DELETE`, of a key that is there or not.
pub(super) fn delete(api: &Api, call: Call<'_>, spelt: Spelt<'_>) -> Result<Outcome, Failure> {
    let key = query::key(spelt)?;
    let write = Write::of(&call, spelt)?;
    let (written, wait) = write.delete(api, &call, &key)?;
    answer(api, call, written, wait, |_| {})
}

/// What a write asks for beside its value, checked before anything changes.
struct Write<'a> {
    wait: Option<Wait>,
    /// The seconds after which it expires.
    ttl: Option<u32>,
    precondition: Precondition<'a>,
}

/// A slot and what to wait for in it.
type Waiting = (Slot, Wait);

impl<'a> Write<'a> {
    fn of(call: &Call<'a>, spelt: Spelt<'a>) -> Result<Write<'a>, Failure> {
        let [w, timeout] = query::parameters_beside(spelt, call.query, ["w", "timeout"])?;
        Write::new(call, [w, timeout], None)
    }

    /// The same of a `PUT`.
    fn put_of(call: &Call<'a>, spelt: Spelt<'a>) -> Result<Write<'a>, Failure> {
        let [w, timeout, ttl] =
            query::parameters_beside(spelt, call.query, ["w", "timeout", "ttl"])?;
        let ttl = ttl.map(|ttl| query::ttl(&query::text("ttl", ttl.text())?)).transpose()?;
        Write::new(call, [w, timeout], ttl)
    }

    fn new(
        call: &Call<'a>,
        [w, timeout]: [Option<Parameter<'a>>; 2],
        ttl: Option<u32>,
    ) -> Result<Write<'a>, Failure> {
        let wait = concern::wait(w, timeout)?;
        Ok(Write { wait, ttl, precondition: Precondition::of(call.request)? })
    }

    /// Takes a slot if the write asks for a wait: once it is written, it is too late to refuse.
    ///
    /// A condition is about what the cluster holds: a node that lacks it must not judge.
    fn begin(&self, api: &Api) -> Result<Option<Waiting>, Failure> {
        if !self.precondition.is_empty() {
            api.check_complete()?;
        }
        let Some(wait) = self.wait else { return Ok(None) };
        let slot = api.slot(Waiter::Write)?;
        Ok(Some((slot, wait)))
    }

    fn put(
        &self,
        api: &Api,
        call: &Call<'_>,
        key: &str,
        value: &[u8],
        content_type: Option<&str>,
    ) -> Result<(Written, Option<Waiting>), Failure> {
        if value.len() > api.shared.config.value_len_max {
            let (len, max) = (value.len(), api.shared.config.value_len_max);
            let message =
                format_args!("the value has {len} bytes, at most {max} (--max-value-bytes)");
            return Err(Failure::new(413, message));
        }
        if self.ttl.is_some() {
            api.check_ttl()?;
        }
        let waiting = self.begin(api)?;
        let _writing = api.shared.shutdown.begin_write()?;
        let (store, content) = (api.store(), (value, content_type));
        let is_met = |entry: Option<&Record>| self.is_met(entry);
        let written = store.put_lasting_if(call.now, key.as_bytes(), content, self.ttl, is_met);
        self.written(api, call.now, key, written).map(|written| (written, waiting))
    }

    fn delete(
        &self,
        api: &Api,
        call: &Call<'_>,
        key: &str,
    ) -> Result<(Written, Option<Waiting>), Failure> {
        let waiting = self.begin(api)?;
        let _writing = api.shared.shutdown.begin_write()?;
        let is_met = |entry: Option<&Record>| self.is_met(entry);
        let written = api.store().delete_if(call.now, key.as_bytes(), is_met);
        self.written(api, call.now, key, written).map(|written| (written, waiting))
    }

    fn is_met(&self, entry: Option<&Record>) -> bool {
        self.precondition.check(entry) == Verdict::Met
    }

    /// Wakes the node for a write, or tells why there was none.
    fn written(
        &self,
        api: &Api,
        now: Now,
        key: &str,
        written: Result<Written, WriteError>,
    ) -> Result<Written, Failure> {
        match written {
            Ok(written) => {
                api.shared.bridge.written();
                Ok(written)
            }
            Err(error) => {
                let current = api.store().shown(now, key.as_bytes());
                Err(refused(api, &error, current.as_ref()))
            }
        }
    }
}

/// 412, with what the key is at now.
fn unmet(current: Option<&Record>) -> Failure {
    let failure = match current.filter(|record| !record.is_tombstone()) {
        Some(record) => {
            let message = format_args!("the key is at version {} on this node", record.stamp());
            Failure::new(412, message)
        }
        None => Failure::new(412, "the key is absent on this node"),
    };
    failure.about(current)
}

/// Why nothing was written, and what the key is at.
fn refused(api: &Api, error: &WriteError, current: Option<&Record>) -> Failure {
    let status = match error {
        WriteError::Unmet => return unmet(current),
        WriteError::StoreFull { .. } => 507,
        WriteError::ValueLen(_) => 413,
        WriteError::StampExhausted => 409,
        WriteError::KeyLen(_)
        | WriteError::KeyNotUtf8
        | WriteError::ContentTypeLen(_)
        | WriteError::Ttl(_)
        | WriteError::ContentTypeText => 400,
    };
    Failure::new(status, api.write_error(*error)).about(current)
}

/// Answers a write at once, or when enough members hold it.
fn answer(
    api: &Api,
    call: Call<'_>,
    written: Written,
    wait: Option<Waiting>,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<Outcome, Failure> {
    body(call.body);
    let Some((slot, wait)) = wait else {
        if call.body.is_empty() {
            Response::new(call.out, call.now.wall, 200, 0).etag(written.stamp).end_bodiless();
            return Ok(Outcome::Answered(200));
        }
        return Ok(call.json(200, Some(written.stamp)));
    };
    let (body, stamp) = (call.body.clone(), written.stamp);
    Ok(wait.await_holders(api, slot, call, written.dot, move |reply, response| {
        match wait.held(reply, stamp) {
            Ok(()) if body.is_empty() => response.empty_entry(stamp),
            Ok(()) => response.entry(200, stamp, &body),
            Err(short) => response.entry(504, stamp, &short),
        }
    }))
}
