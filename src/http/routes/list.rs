//! `GET /kv/`: the keys in order, a page at a time, or what a reader lacks of them.

use super::context::{Api, Call, Outcome};
use super::listing::{Plan, hash};
use super::precondition::{Precondition, Verdict};
use super::wanted::{Form, Wanted};
use super::watch::{self, Since};
use crate::http::failure::{Failure, error_body};
use crate::http::json::json_text;
use crate::http::long::{Part, Pieces, push_text};
use crate::http::memory::Held;
use crate::http::response::{Response, number};
use crate::http::watch::token;
use crate::kv::{Asked, Listing, Store, Target, Told};
use crate::limits::{HTTP_COMPRESSED_LEN_MIN, HTTP_LIST_LEN_MAX};
use crate::time::Now;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use std::time::Duration;

/// Bytes of a page's end, and what gzip may add to what it cannot compress.
const PACKED_MORE: usize = 64 << 10;

/// Answers with one page. A page ends early when it grows large; then `next` says where to go on.
/// Its tag is made of all it says but the token, so that the same page has the same tag on every
/// node; one that is compressed has another, as its bytes are others.
///
/// With `delimiter` keys behind it are told as folders, and with `count` only how many there are.
///
/// With `since` the page has what a client lacks that has seen so much, deletes included. With
/// `watch` the answer is a stream of it.
///
/// With `min_token` it waits until the node has caught up with what a client was told elsewhere.
pub(super) fn answer(api: &Api, mut call: Call<'_>) -> Result<Outcome, Failure> {
    let wanted = Wanted::of(call.query)?;
    let Wanted { only_keys, since, limit, mut wait, .. } = wanted;
    if since.is_some() {
        wait = watch::while_known(wait, api.store());
    }
    let prefix = wanted.prefix.as_bytes();
    let after = Some(wanted.after.as_bytes()).filter(|after| !after.is_empty());
    if let Some(least) = &wanted.least {
        api.check_complete()?;
        let target = Target::Prefix(prefix.into());
        if let Some(outcome) = least.await_it(api, &mut call, target, wait)? {
            return Ok(outcome);
        }
    }
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
            page.since(api, call, since, wait)
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
        let is_packed = page.is_to_be_packed(&call);
        let tag = format!("list-{:032x}", page.hash);
        // As precondition has it, what a coding adds to the tag is no other page.
        let sent_tag = if is_packed { format!("{tag}-gzip") } else { tag.clone() };
        match precondition.check_tag(Some(&tag)) {
            Verdict::Met => {
                let page = if is_packed { page.pack(api)? } else { page };
                Ok(page.answer(api, call, |response| response.tag(&sent_tag)))
            }
            Verdict::Unchanged => {
                Response::bodiless(call.out, call.now.wall, 304)
                    .tag(&sent_tag)
                    .header("Vary", VARY)
                    .end_bodiless();
                Ok(Outcome::Answered(304))
            }
            Verdict::Unmet => {
                call.body.clear();
                call.body.extend_from_slice(&error_body("the list is another one by now"));
                Response::new(call.out, call.now.wall, 412, call.body.len())
                    .json()
                    .tag(&sent_tag)
                    .header("Vary", VARY)
                    .end(call.request.form(), call.body);
                Ok(Outcome::Answered(412))
            }
        }
    }

    /// What a client lacks that has seen so much; when that is nothing, it waits, for a token that
    /// is younger.
    fn since(
        &self,
        api: &Api,
        mut call: Call<'_>,
        since: Since,
        wait: Duration,
    ) -> Result<Outcome, Failure> {
        api.check_complete()?;
        let coverage = watch::coverage(api)?;
        let asked = Asked { prefix: self.prefix, after: self.after, limit: self.limit };
        let Told { page, is_reset, seen } =
            api.store().tell(call.now, asked, since.seen(), &coverage);
        if page.items.is_empty() && !is_reset && self.after.is_none() {
            let target = Target::Prefix(self.prefix.into());
            if let Some(outcome) = watch::go_on(api, &mut call, target, wait)? {
                return Ok(outcome);
            }
            Response::bodiless(call.out, call.now.wall, 304)
                .header("Watch-Token", &token::text(&seen))
                .end_bodiless();
            return Ok(Outcome::Answered(304));
        }
        let plan = Plan::of(&page, None, self.only_keys);
        let page = Made::of(api, &plan, &token::text(&seen), is_reset)?;
        let page = if page.is_to_be_packed(&call) { page.pack(api)? } else { page };
        Ok(page.answer(api, call, |response| response))
    }
}

/// A page as it goes out.
struct Made {
    parts: Vec<Part>,
    len: usize,
    /// Of all but the token.
    hash: u128,
    is_packed: bool,
    held: Held,
}

/// What a page's form depends on, for caches.
const VARY: &str = "Accept-Encoding";

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
        let held = held(api, plan.text_len + end.len())?;
        let mut parts = plan.write();
        let hash = hash(&parts);
        push_text(&mut parts, &end);
        Ok(Made { parts, len: plan.len + end.len(), hash, is_packed: false, held })
    }

    /// Whether the client takes it compressed, and it is worth it. One of more than the usual
    /// length has one value that is longer than all: making that whole would take too much.
    fn is_to_be_packed(&self, call: &Call<'_>) -> bool {
        call.request.takes_gzip
            && (HTTP_COMPRESSED_LEN_MIN..=HTTP_LIST_LEN_MAX + PACKED_MORE).contains(&self.len)
    }

    /// The page compressed, as a whole: so its length is known, also to `HEAD`.
    ///
    /// # Errors
    /// 503 when too many bytes are held already.
    fn pack(self, api: &Api) -> Result<Made, Failure> {
        // What cannot be compressed comes out a little longer, and while it grows it may take twice
        // as much.
        let room = held(api, 2 * (self.len + PACKED_MORE))?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let (mut pieces, mut buffer) = (Pieces::default(), Vec::new());
        while let Some(piece) = pieces.next(&self.parts, &mut buffer) {
            // Memory takes all that is written.
            let _ = packed.write_all(piece);
        }
        let mut packed = packed.finish().unwrap_or_default();
        packed.shrink_to_fit();
        drop((self.held, room));
        let (len, held) = (packed.len(), held(api, packed.len())?);
        Ok(Made { parts: vec![Part::Text(packed)], len, is_packed: true, held, ..self })
    }

    fn answer(
        self,
        api: &Api,
        call: Call<'_>,
        begin: impl FnOnce(Response<'_>) -> Response<'_>,
    ) -> Outcome {
        let is_packed = self.is_packed;
        api.long(call, (self.parts, self.len), self.held, |response| {
            let response = begin(response.json()).header("Vary", VARY);
            if is_packed { response.header("Content-Encoding", "gzip") } else { response }
        })
    }
}

/// A share of the budget for so many bytes.
///
/// # Errors
/// 503 when too many are held already.
fn held(api: &Api, len: usize) -> Result<Held, Failure> {
    let mut held = Held::new(&api.shared.budget);
    api.hold(&mut held, len)?;
    Ok(held)
}
