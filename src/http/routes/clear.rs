//! `DELETE /kv/?prefix=P`: all keys that begin with a text.
//!
//! Each key is deleted by a write of its own, as by a client that lists and deletes: there is no
//! moment at which all go at once, here or elsewhere. A key that is put behind the place where the
//! request is stays.

use super::concern;
use super::context::{Api, Call, Outcome};
use super::precondition::Precondition;
use super::query;
use super::wanted::read;
use crate::http::failure::Failure;
use crate::http::json::json_text;
use crate::http::pending::Waiter;
use crate::http::response::number;
use crate::kv::{Dot, Record, Stamp, Store, WriteError};
use crate::limits::LIST_ITEMS_MAX;
use crate::time::Now;
use std::time::Duration;

/// How long one request may go on deleting: a million keys, and no worker is held for ever.
const TIME_MAX: Duration = Duration::from_secs(5);

/// What has been deleted.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    pub(super) n: usize,
    last: Option<Stamp>,
    /// The key to go on after, when time was up.
    next: Option<Vec<u8>>,
}

impl Deleted {
    /// Deletes the keys of these records, as far as what is there then meets a condition.
    ///
    /// # Errors
    /// The first that cannot be deleted, and why.
    pub(super) fn take<'r>(
        &mut self,
        store: &Store,
        now: Now,
        records: &'r [Record],
        condition: impl Fn(&Record) -> bool,
    ) -> Result<(), (&'r Record, WriteError)> {
        for record in records {
            let is_met = |entry: Option<&Record>| entry.is_some_and(&condition);
            match store.delete_if(now, record.key(), is_met) {
                Ok(written) => {
                    self.n += 1;
                    self.last = Some(written.stamp);
                }
                // Somebody else has deleted it, or written it anew.
                Err(WriteError::Unmet) => {}
                Err(error) => return Err((record, error)),
            }
        }
        Ok(())
    }
}

/// Deletes what begins with the prefix, and tells how many keys that were.
pub(super) fn answer(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    let [prefix, after, all, w, timeout] =
        query::parameters(call.query, ["prefix", "after", "all", "w", "timeout"])?;
    let (prefix, after) = (read("prefix", prefix)?, read("after", after)?);
    let all = all.map_or(Ok(false), |all| all.switch("all"))?;
    let wait = concern::wait(w, timeout)?;
    if prefix.is_empty() != all {
        let message = "DELETE /kv/ wants prefix=P, the beginning of the keys to delete; or, to \
            delete every key, all";
        return Err(Failure::new(400, message));
    }
    if !Precondition::of(call.request)?.is_empty() {
        return Err(Failure::new(400, "If-Match and If-None-Match are for one key"));
    }
    // What this node lacks it would not delete.
    api.check_complete()?;
    let slot = wait.map(|wait| Ok((api.slot(Waiter::Write)?, wait))).transpose()?;
    let deleted = delete(api, prefix.as_bytes(), after.as_bytes())?;
    call.body.extend_from_slice(b"{\"deleted\":");
    number(call.body, deleted.n);
    call.body.extend_from_slice(b",\"next\":");
    match &deleted.next {
        Some(key) => json_text(call.body, std::str::from_utf8(key).unwrap_or_default()),
        None => call.body.extend_from_slice(b"null"),
    }
    call.body.push(b'}');
    // Who holds the last of our writes holds those before. Where nothing is left to delete, an
    // earlier request may have deleted it, and have waited in vain.
    let dot = Dot { origin: api.store().origin(), seq: api.store().last_seq() };
    let (Some((slot, wait)), true) = (slot, dot.seq > 0) else {
        return Ok(call.json(200, None));
    };
    let body = call.body.clone();
    Ok(wait.await_holders(api, slot, call, dot, move |reply, response| {
        match wait.held(reply, deleted.last) {
            Ok(()) => response.plain_json(200, &body),
            Err(short) => response.plain_json(504, &short),
        }
    }))
}

/// Deletes page after page, as long as there is time.
fn delete(api: &Api, prefix: &[u8], after: &[u8]) -> Result<Deleted, Failure> {
    let until = api.shared.bridge.now().instant + TIME_MAX;
    let mut deleted = Deleted::default();
    let mut after = Some(after.to_vec()).filter(|after| !after.is_empty());
    loop {
        let page =
            api.store().list(api.shared.bridge.now(), prefix, after.as_deref(), LIST_ITEMS_MAX);
        let writing = match api.shared.shutdown.begin_write() {
            Ok(writing) => writing,
            // What has been deleted is told of, and where to go on elsewhere.
            Err(_) if deleted.n > 0 => return Ok(deleted),
            Err(failure) => return Err(failure),
        };
        let is_there = |entry: &Record| !entry.is_tombstone();
        let now = api.shared.bridge.now();
        deleted.take(api.store(), now, &page.items, is_there).map_err(|(record, error)| {
            let (n, key) = (deleted.n, String::from_utf8_lossy(record.key()));
            Failure::new(409, format_args!("{n} keys are deleted; then the key {key}: {error}"))
        })?;
        drop(writing);
        if !page.items.is_empty() {
            api.shared.bridge.written();
        }
        deleted.next.clone_from(&page.next);
        if page.next.is_none() || api.shared.bridge.now().instant >= until {
            return Ok(deleted);
        }
        after = page.next;
    }
}
