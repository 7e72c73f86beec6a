//! `/v1/kv/{key}`: one key, and the deletion of many.

use super::answers;
use super::asked::{self, NO_SESSIONS, Query};
use super::blocking;
use super::concern::Wait;
use super::index::{self, State};
use super::listing;
use crate::http::failure::Failure;
use crate::http::long::{Part, push_text};
use crate::http::memory::Held;
use crate::http::pending::Parked;
use crate::http::request::{Method, Poll};
use crate::http::response::Response;
use crate::http::routes::clear::Deleted;
use crate::http::routes::context::{Api, Call, Outcome};
use crate::http::routes::precondition::Precondition;
use crate::kv::{Dot, HlcTime, Record, Target, WriteError, Written};
use crate::limits::{CONSUL_DELETES_MAX, HTTP_LONG_LEN, LIST_ITEMS_MAX};

/// Answers any method of `/v1/kv`, the path behind it still encoded.
pub(in crate::http::routes) fn answer(
    api: &Api,
    call: Call<'_>,
    path: &str,
) -> Result<Outcome, Failure> {
    let query = Query::of(call.query)?;
    let key = asked::key(path)?;
    let is_of_many = match call.request.method {
        Method::Put => false,
        Method::Delete => query.is_on("recurse"),
        _ => query.is_on("recurse") || query.is_on("keys"),
    };
    if key.is_empty() && !is_of_many {
        return Err(Failure::new(400, "Missing key name"));
    }
    match (call.request.method, is_of_many) {
        (Method::Put, _) => put(api, call, query, &key),
        (Method::Delete, false) => delete(api, call, query, &key),
        (Method::Delete, true) => delete_all(api, call, query, &key),
        (_, false) => get(api, call, query, &key),
        (_, true) => listing::answer(api, call, query, &key),
    }
}

fn get(api: &Api, mut call: Call<'_>, query: Query<'_>, key: &str) -> Result<Outcome, Failure> {
    // A bad one is told whatever the node's state.
    query.wait(api.shared.config.consul_wait_max)?;
    api.check_complete()?;
    let entry = api.store().shown(call.now, key.as_bytes());
    let (state, target) = (State::of_entry(entry.as_ref()), Target::Key(key.as_bytes().into()));
    let index = match blocking::turn(api, &mut call, query, target, state)? {
        Ok(index) => index,
        Err(outcome) => return Ok(outcome),
    };
    let Some((record, value)) = entry.as_ref().and_then(|record| Some((record, record.value()?)))
    else {
        return Ok(answers::nothing(api, call, index));
    };
    if query.is_on("raw") {
        return Ok(raw(api, call, record, value, index));
    }
    let modified = index::of_time(record.stamp().time);
    if value.len() <= HTTP_LONG_LEN {
        call.body.push(b'[');
        answers::entry_begin(call.body, record);
        answers::value(call.body, value);
        answers::end(call.body, modified);
        call.body.push(b']');
        return Ok(answers::json(api, call, index));
    }
    let mut begin = b"[".to_vec();
    answers::entry_begin(&mut begin, record);
    begin.push(b'"');
    let mut end = b"\"".to_vec();
    answers::end(&mut end, modified);
    end.push(b']');
    let len = begin.len() + value.len().div_ceil(3) * 4 + end.len();
    let mut body = vec![Part::Text(begin), Part::Base64(record.clone())];
    push_text(&mut body, &end);
    let held = Held::new(&api.shared.budget);
    Ok(api.long(call, (body, len), held, |response| {
        answers::read_headers(api, response.json(), index)
    }))
}

/// The bytes alone.
fn raw(api: &Api, call: Call<'_>, record: &Record, value: &[u8], index: u64) -> Outcome {
    if value.len() > HTTP_LONG_LEN {
        let body = (vec![Part::Raw(record.clone())], value.len());
        let held = Held::new(&api.shared.budget);
        return api.long(call, body, held, |response| raw_head(api, response, index));
    }
    let response = Response::new(call.out, call.now.wall, 200, value.len());
    raw_head(api, response, index).end(call.request.form(), value);
    Outcome::Answered(200)
}

fn raw_head<'r>(api: &Api, response: Response<'r>, index: u64) -> Response<'r> {
    let response = response
        .header("Content-Type", answers::TEXT)
        .header("X-Content-Type-Options", "nosniff")
        .header("Content-Security-Policy", "sandbox");
    answers::read_headers(api, response, index)
}

/// What a write asks for beside its value.
struct Asked {
    cas: Option<u64>,
}

impl Asked {
    fn of(call: &Call<'_>, query: Query<'_>) -> Result<Asked, Failure> {
        let cas = query.number("cas")?;
        let mut sessions = ["acquire", "release"].into_iter().filter_map(|name| {
            let text = query.text(name).transpose()?;
            Some(text.map(|_| name))
        });
        if let Some(name) = sessions.next().transpose()? {
            if cas.is_some() || sessions.next().is_some() {
                let message = "Conflicting flags: cas, acquire and release exclude each other";
                return Err(Failure::new(400, message));
            }
            return Err(Failure::new(501, format_args!("{name}: {NO_SESSIONS}")));
        }
        if !Precondition::of(call.request)?.is_empty() {
            let message = "If-Match and If-None-Match are for /kv; here a write has ?cas=INDEX";
            return Err(Failure::new(400, message));
        }
        Ok(Asked { cas })
    }

    /// A condition is about what the cluster holds: a node that lacks it must not judge.
    fn check_complete(&self, api: &Api) -> Result<(), Failure> {
        if self.cas.is_some() { api.check_complete() } else { Ok(()) }
    }
}

/// Whether a key may be set whose client has seen it at this index, 0 for absent.
pub(super) fn is_at(cas: u64, current: Option<&Record>) -> bool {
    match current.filter(|record| !record.is_tombstone()) {
        Some(record) => cas != 0 && index::of_time(record.stamp().time) == cas,
        None => cas == 0,
    }
}

/// Whether it may be deleted: what is absent always may.
pub(super) fn is_gone_or_at(cas: u64, current: Option<&Record>) -> bool {
    current.is_none_or(Record::is_tombstone) || is_at(cas, current)
}

fn put(api: &Api, call: Call<'_>, query: Query<'_>, key: &str) -> Result<Outcome, Failure> {
    let asked = Asked::of(&call, query)?;
    let flags = query.number("flags")?.unwrap_or(0);
    let (value, len_max) = (call.request.body, api.shared.config.value_len_max);
    if value.len() > len_max {
        let len = value.len();
        let message = format_args!(
            "Request body({len} bytes) too large, max size: {len_max} bytes (--max-value-bytes)"
        );
        return Err(Failure::new(413, message));
    }
    asked.check_complete(api)?;
    let wait = Wait::begin(api)?;
    let _writing = api.shared.shutdown.begin_write()?;
    let is_met = |entry: Option<&Record>| asked.cas.is_none_or(|cas| is_at(cas, entry));
    let content_type = answers::content_type(flags);
    let written =
        api.store().put_if(call.now, key.as_bytes(), value, content_type.as_deref(), is_met);
    written_or_not(api, call, wait, written)
}

fn delete(api: &Api, call: Call<'_>, query: Query<'_>, key: &str) -> Result<Outcome, Failure> {
    let asked = Asked::of(&call, query)?;
    asked.check_complete(api)?;
    let wait = Wait::begin(api)?;
    let _writing = api.shared.shutdown.begin_write()?;
    let is_met = |entry: Option<&Record>| asked.cas.is_none_or(|cas| is_gone_or_at(cas, entry));
    let written = api.store().delete_if(call.now, key.as_bytes(), is_met);
    written_or_not(api, call, wait, written)
}

fn written_or_not(
    api: &Api,
    call: Call<'_>,
    wait: Wait,
    written: Result<Written, WriteError>,
) -> Result<Outcome, Failure> {
    match written {
        Ok(written) => {
            api.shared.bridge.written();
            Ok(wait.answer(api, call, Some(written.dot), answers::TRUE))
        }
        Err(WriteError::Unmet) => Ok(answers::done(api, call, false)),
        Err(error) => Err(refused(api, error)),
    }
}

/// Why nothing was written.
pub(super) fn refused(api: &Api, error: WriteError) -> Failure {
    let (status, hint) = match error {
        WriteError::StoreFull { .. } => (507, ""),
        WriteError::ValueLen(_) => (413, "; it is too large"),
        WriteError::StampExhausted => (409, ""),
        _ => (400, ""),
    };
    Failure::new(status, format_args!("{}{hint}", api.write_error(error)))
}

/// Deletes all that is under a prefix when it is asked first, a part each time that it is asked:
/// no lock is held from one key to the next, and other requests have their turn between two parts.
fn delete_all(
    api: &Api,
    mut call: Call<'_>,
    query: Query<'_>,
    prefix: &str,
) -> Result<Outcome, Failure> {
    if Asked::of(&call, query)?.cas.is_some() {
        let message = "Conflicting flags: recurse and cas exclude each other";
        return Err(Failure::new(400, message));
    }
    // What is not here yet would stay.
    api.check_complete()?;
    if !call.request.may_take_time {
        return Ok(call.again());
    }
    let wait = Wait::begin(api)?;
    let _writing = api.shared.shutdown.begin_write()?;
    let until = match call.request.poll {
        Poll::Known(time) => HlcTime(time),
        _ => api.store().stats().hlc,
    };
    let is_all = delete_part(api, &call, prefix.as_bytes(), until);
    api.shared.bridge.written();
    if is_all? {
        // Who holds the last of this node's writes holds those before.
        let (origin, seq) = (api.store().origin(), api.store().last_seq());
        let last = (seq > 0).then_some(Dot { origin, seq });
        return Ok(wait.answer(api, call, last, answers::TRUE));
    }
    api.park(&mut call, Parked::Rest(until.0));
    Ok(Outcome::Parked)
}

/// Deletes some of what is under a prefix and not later than `until`; true when nothing is left.
fn delete_part(api: &Api, call: &Call<'_>, prefix: &[u8], until: HlcTime) -> Result<bool, Failure> {
    let (store, mut after, mut deleted) = (api.store(), None::<Vec<u8>>, Deleted::default());
    loop {
        let page = store.list(call.now, prefix, after.as_deref(), LIST_ITEMS_MAX);
        // A clock far ahead may have stamped what was there before; this node's never follows it.
        let now = store.stats().hlc;
        let is_old = |record: &Record| {
            let time = record.stamp().time;
            time <= until || time > now
        };
        let taken = deleted.take(store, call.now, &page.items, is_old);
        taken.map_err(|(_, error)| refused(api, error))?;
        match page.next {
            None => return Ok(true),
            Some(_) if deleted.n >= CONSUL_DELETES_MAX => return Ok(false),
            Some(next) => after = Some(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{OriginId, Stamp};

    #[test]
    fn a_condition_names_the_version_or_that_there_is_none() {
        let stamp = Stamp { time: HlcTime::from_millis(1_700_000_000_000), origin: OriginId(1) };
        let live = Record::new(stamp, 1, b"k", Some((b"v", None)));
        let gone = Record::new(stamp, 1, b"k", None);
        let index = index::of_time(stamp.time);
        for (cas, current, may_set, may_delete) in [
            (0, None, true, true),
            (0, Some(&gone), true, true),
            (0, Some(&live), false, false),
            (index, Some(&live), true, true),
            (index + 1, Some(&live), false, false),
            (index, Some(&gone), false, true),
            (index, None, false, true),
        ] {
            assert_eq!(is_at(cas, current), may_set, "{cas} {current:?}");
            assert_eq!(is_gone_or_at(cas, current), may_delete, "{cas} {current:?}");
        }
    }
}
