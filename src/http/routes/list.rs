//! `GET /kv/`: the keys in order, a page at a time, or what a reader lacks of them.

use super::context::{Api, Call, Outcome};
use super::listing::{Plan, hash};
use super::precondition::{Precondition, Verdict};
use super::wanted::{Form, Wanted};
use super::watch::{self, Since};
use crate::http::counters::Reason;
use crate::http::failure::{Failure, error_body};
use crate::http::json::json_text;
use crate::http::long::{Part, push_text};
use crate::http::memory::Held;
use crate::http::response::{Response, number};
use crate::http::watch::target::Target;
use crate::http::watch::token;
use crate::kv::{Coverage, Listing, Seen, Store};
use crate::time::Now;
use std::time::Duration;

/// Answers with one page. A page ends early when it grows large; then `next` says where to go on.
/// Its tag is made of all it says but the token, so that the same page has the same tag on every
/// node.
///
/// With `delimiter` keys behind it are told as folders, and with `count` only how many there are.
///
/// With `since` the page has what a client lacks that has seen so much, deletes included. With
/// `watch` the answer is a stream of it.
pub(super) fn answer(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    let wanted = Wanted::of(call.query)?;
    let Wanted { only_keys, since, limit, .. } = wanted;
    let prefix = wanted.prefix.as_bytes();
    let after = Some(wanted.after.as_bytes()).filter(|after| !after.is_empty());
    let page = Page { prefix, after, limit, only_keys };
    match (&wanted.form, since) {
        (Form::Stream(is_exact), since) => {
            let since = watch::token_of(call.request, since).map(Since::read).transpose()?;
            let target = if *is_exact { Target::Key } else { Target::Prefix };
            watch::stream(api, call, target(prefix.into()), since, only_keys)
        }
        (Form::Count, _) => count(api, call, prefix),
        (Form::Folders(delimiter), _) => page.folders(api, call, delimiter.as_bytes()),
        (Form::Page, None) => page.all(api, call),
        (Form::Page, Some(since)) => {
            let since = Since::read(since.text())?;
            page.since(api, call, since, wanted.wait)
        }
    }
}

/// How many keys there are. The workers for `/kv/` may take their time.
fn count(api: &Api, call: Call<'_>, prefix: &[u8]) -> Result<Outcome, Failure> {
    api.check_complete()?;
    call.body.extend_from_slice(b"{\"count\":");
    let n = api.store().count(call.now, prefix);
    number(call.body, usize::try_from(n).unwrap_or(usize::MAX));
    call.body.push(b'}');
    Ok(call.json(200, None))
}

/// The page that is asked for.
struct Page<'a> {
    prefix: &'a [u8],
    after: Option<&'a [u8]>,
    limit: usize,
    only_keys: bool,
}

impl Page<'_> {
    /// What is there now.
    fn all(&self, api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
        self.found(api, call, |store, now| {
            (store.list(now, self.prefix, self.after, self.limit), None)
        })
    }

    /// The same, keys behind a delimiter as folders.
    fn folders(&self, api: &Api, call: Call<'_>, delimiter: &[u8]) -> Result<Outcome, Failure> {
        self.found(api, call, |store, now| {
            let page = store.list_folders(now, self.prefix, delimiter, self.after, self.limit);
            let (listing, folders) = page.split();
            (listing, Some(folders))
        })
    }

    /// What is found now, unless the client has it already.
    fn found(
        &self,
        api: &Api,
        call: Call<'_>,
        find: impl FnOnce(&Store, Now) -> (Listing, Option<Vec<Vec<u8>>>),
    ) -> Result<Outcome, Failure> {
        let precondition = Precondition::of(call.request)?;
        api.check_complete()?;
        // Before the store is read: the token must not say more than what is read has.
        let token = api.shared.hub.latest().map_or("t0".to_owned(), |c| token::text(&c.seen));
        let (listing, folders) = find(api.store(), call.now);
        let plan = Plan::of(&listing, folders.as_deref(), self.only_keys);
        let page = Made::of(api, &plan, &token, false)?;
        let tag = format!("list-{:032x}", page.hash);
        match precondition.check_tag(Some(&tag)) {
            Verdict::Met => Ok(page.answer(api, call, |response| response.json().tag(&tag))),
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

    /// What a client lacks that has seen so much; when that is nothing, it waits.
    fn since(
        &self,
        api: &Api,
        mut call: Call<'_>,
        since: Since,
        wait: Duration,
    ) -> Result<Outcome, Failure> {
        api.check_complete()?;
        let coverage = watch::coverage(api)?;
        let mut told = Seen::default();
        let (page, is_reset) = match since.at(&coverage) {
            Since::Anew(_) => {
                (api.store().list(call.now, self.prefix, self.after, self.limit), true)
            }
            Since::Seen(seen) => match self.unseen(api.store(), call.now, &coverage, &seen) {
                Some(page) => {
                    told = seen;
                    (page, false)
                }
                None => (api.store().list(call.now, self.prefix, self.after, self.limit), true),
            },
        };
        if page.items.is_empty() && !is_reset && self.after.is_none() {
            let target = Target::Prefix(self.prefix.into());
            if let Some(outcome) = watch::go_on(api, &mut call, target, wait)? {
                return Ok(outcome);
            }
            told.merge(&coverage.seen);
            Response::bodiless(call.out, call.now.wall, 304)
                .header("Watch-Token", &token::text(&told))
                .end_bodiless();
            return Ok(Outcome::Answered(304));
        }
        told.merge(&coverage.seen);
        let plan = Plan::of(&page, None, self.only_keys);
        let page = Made::of(api, &plan, &token::text(&told), is_reset)?;
        Ok(page.answer(api, call, |response| response.json()))
    }

    /// What such a reader lacks; `None` when something was taken out of the store meanwhile that it
    /// may lack, and would not be told.
    fn unseen(&self, store: &Store, now: Now, coverage: &Coverage, seen: &Seen) -> Option<Listing> {
        let page = self.lacking(store, now, coverage, seen)?;
        (store.removed_total() == coverage.removed_total).then_some(page)
    }

    fn lacking(
        &self,
        store: &Store,
        now: Now,
        coverage: &Coverage,
        seen: &Seen,
    ) -> Option<Listing> {
        let Some(keys) = store.keys_unseen(seen, coverage) else {
            return Some(store.list_unseen(now, self.prefix, self.after, self.limit, seen));
        };
        let is_on_page =
            |key: &[u8]| key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after);
        let on_page = keys.iter().filter(|key| is_on_page(key));
        let found: Option<Vec<_>> = on_page.map(|key| store.shown(now, key)).collect();
        let mut items = found?;
        items.retain(|record| !seen.covers(record));
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let next = items.last().filter(|_| has_more).map(|last| last.key().to_vec());
        Some(Listing { items, next })
    }
}

/// A page as it goes out.
struct Made {
    parts: Vec<Part>,
    len: usize,
    /// Of all but the token.
    hash: u128,
    held: Held,
}

impl Made {
    /// Makes a page, with the token that a client goes on from.
    ///
    /// # Errors
    /// 503 when too many bytes are held already.
    fn of(api: &Api, plan: &Plan<'_>, token: &str, is_reset: bool) -> Result<Made, Failure> {
        let mut end = Vec::new();
        if is_reset {
            end.extend_from_slice(b",\"reset\":true");
        }
        end.extend_from_slice(b",\"token\":");
        json_text(&mut end, token);
        end.push(b'}');
        let mut held = Held::new(&api.shared.budget);
        if held.grow_to(plan.text_len + end.len()).is_err() {
            api.shared.counters.refused(Reason::Memory);
            return Err(Failure::busy("too many bytes are held for other clients; try again"));
        }
        let mut parts = plan.write();
        let hash = hash(&parts);
        push_text(&mut parts, &end);
        Ok(Made { parts, len: plan.len + end.len(), hash, held })
    }

    fn answer(
        self,
        api: &Api,
        call: Call<'_>,
        begin: impl FnOnce(Response<'_>) -> Response<'_>,
    ) -> Outcome {
        api.long(call, (self.parts, self.len), self.held, begin)
    }
}
