//! What a request that waits for changes asks for.
//!
//! ```text
//! GET /kv/{key}?newer=VERSION&wait=55s       a later version of a key
//! GET /kv/?prefix=P&since=TOKEN&wait=55s     what a client lacks
//! GET /kv/?prefix=P&watch[&since=TOKEN]      a stream of it all
//! GET /kv/..?min_token=TOKEN&wait=5s         a node that has caught up with what a client has seen
//! ```
//!
//! A route parks what it has checked; the gate waits ([`crate::http::watch`]).

use super::context::{Api, Call, Outcome};
use super::query::{self, Parameter};
use crate::http::failure::Failure;
use crate::http::pending::{Parked, Waiter};
use crate::http::request::{Method, Poll, Request};
use crate::http::watch::event::Style;
use crate::http::watch::token;
use crate::http::watch::wish::{PollWatch, PollWish, StreamWish};
use crate::kv::{Coverage, Store, Target, Token};
use crate::limits::{HTTP_POLL_EXPIRING_MAX, HTTP_POLL_MAX};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// When `?wait=` is not given: below the 60 s after which many proxies give up.
const WAIT_DEFAULT: Duration = Duration::from_secs(55);
/// How long a read waits for what was written elsewhere when `?wait=` is not given: longer than
/// writes take, but for a cut.
pub(super) const CATCH_UP: Duration = Duration::from_secs(5);
/// How often it is looked whether a node has caught up with a token.
const EVERY: Duration = Duration::from_millis(50);

/// A token that a client came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Since {
    /// It has seen so much.
    Seen(Token),
    /// It has to begin anew, for this reason.
    Anew(&'static str),
}

impl Since {
    /// What a token says.
    ///
    /// # Errors
    /// 400 for a text that is none.
    pub(super) fn read(text: &str) -> Result<Since, Failure> {
        match token::read(text) {
            Ok(Some(token)) => Ok(Since::Seen(token)),
            Ok(None) => Ok(Since::Anew(token::NONE)),
            Err(error) => Err(Failure::new(400, format_args!("since: {error}"))),
        }
    }

    /// What has been seen; `None` for who begins anew.
    pub(super) fn seen(&self) -> Option<&Token> {
        match self {
            Since::Seen(token) => Some(token),
            Since::Anew(_) => None,
        }
    }
}

/// How long a request wants to wait.
///
/// # Errors
/// 400 with what is allowed.
pub(super) fn wait(parameter: Option<Parameter<'_>>) -> Result<Duration, Failure> {
    let Some(parameter) = parameter else { return Ok(WAIT_DEFAULT) };
    query::time("wait", parameter.text(), Duration::ZERO..=HTTP_POLL_MAX)
}

/// The part of such a wait after which a token that has come with it is still good: where keys
/// expire they may be forgotten later on, and the client would have to begin anew.
pub(super) fn while_known(wait: Duration, store: &Store) -> Duration {
    if store.swept() > 0 { wait.min(HTTP_POLL_EXPIRING_MAX) } else { wait }
}

/// What the node held when it was asked last: before this request's first look at the store.
///
/// # Errors
/// 503 when it has not said so yet.
pub(super) fn coverage(api: &Api) -> Result<Arc<Coverage>, Failure> {
    let silent = || Failure::busy("the node has not said what it holds; try again");
    api.shared.hub.latest().ok_or_else(silent)
}

/// There is nothing yet: a long poll goes on waiting, or begins to. `None` when its time is up.
///
/// # Errors
/// 503 when too many wait already.
pub(super) fn go_on(
    api: &Api,
    call: &mut Call<'_>,
    target: Target,
    wait: Duration,
) -> Result<Option<Outcome>, Failure> {
    park(api, call, target, wait, Duration::MAX)
}

/// The same, and it is asked again after `every` at the latest.
fn park(
    api: &Api,
    call: &mut Call<'_>,
    target: Target,
    wait: Duration,
    every: Duration,
) -> Result<Option<Outcome>, Failure> {
    let parked = match call.request.poll {
        Poll::New if wait.is_zero() => return Ok(None),
        Poll::New => {
            let slot = api.slot(Waiter::Watch)?;
            let watch = PollWatch::Keys(api.shared.hub.watch(target));
            Parked::Poll(PollWish { watch, wait, first: Poll::Watched, every, hold: None }, slot)
        }
        Poll::Watched | Poll::Known(_) => Parked::Nothing,
        Poll::Over => return Ok(None),
    };
    api.park(call, parked);
    Ok(Some(Outcome::Parked))
}

/// A token that the node is to have caught up with before it answers.
#[derive(Debug)]
pub(super) struct Least(Token);

impl Least {
    /// What `min_token` asks for.
    ///
    /// # Errors
    /// 400 for a text that is no token, and for one that names nothing to wait for.
    pub(super) fn of(parameter: Option<Parameter<'_>>) -> Result<Option<Least>, Failure> {
        let Some(parameter) = parameter else { return Ok(None) };
        match token::read(parameter.text()) {
            Ok(Some(token)) => Ok(Some(Least(token))),
            Ok(None) => Err(Failure::new(400, "min_token=t0: it names nothing to wait for")),
            Err(error) => Err(Failure::new(400, format_args!("min_token: {error}"))),
        }
    }

    /// How long a read waits for it.
    ///
    /// # Errors
    /// 400 with what is allowed.
    pub(super) fn wait(parameter: Option<Parameter<'_>>) -> Result<Duration, Failure> {
        let Some(parameter) = parameter else { return Ok(CATCH_UP) };
        query::time("wait", parameter.text(), Duration::ZERO..=HTTP_POLL_MAX)
    }

    /// Waits until this node has caught up; `None` when it has. What makes it do so may change no
    /// key, so it is asked again and again.
    ///
    /// # Errors
    /// 504 when it has not in time, 503 when too many wait already.
    pub(super) fn await_it(
        &self,
        api: &Api,
        call: &mut Call<'_>,
        target: Target,
        wait: Duration,
    ) -> Result<Option<Outcome>, Failure> {
        let coverage = coverage(api)?;
        // What the token names is looked up sooner than the set of runs that are over.
        let holds_named = coverage.seen.contains(&self.0.seen);
        if holds_named && coverage.read(&self.0).is_some_and(|seen| coverage.covers(&seen)) {
            return Ok(None);
        }
        match park(api, call, target, wait, EVERY)? {
            Some(outcome) => Ok(Some(outcome)),
            None => {
                let not_seen = format_args!("has not caught up with min_token");
                Err(too_late(api, not_seen, wait, format_args!("; another may have")))
            }
        }
    }
}

/// A read that waits to see what its client has seen elsewhere does not see it: 504 after `wait`,
/// and 503 where a node that leaves has cut that short.
pub(super) fn too_late(
    api: &Api,
    not_seen: fmt::Arguments<'_>,
    wait: Duration,
    more: fmt::Arguments<'_>,
) -> Failure {
    if api.shared.shutdown.is_draining() {
        return Failure::busy(format_args!(
            "this node is leaving the cluster, and {not_seen}{more}; ask another one"
        ));
    }
    Failure::new(504, format_args!("this node {not_seen} within {wait:?}{more}"))
}

/// Begins a stream.
///
/// # Errors
/// 400 for a token that is none, 405 for other methods than `GET`, 503 when too many are open.
pub(super) fn stream(
    api: &Api,
    mut call: Call<'_>,
    target: Target,
    since: Option<Since>,
    only_keys: bool,
) -> Result<Outcome, Failure> {
    if call.request.method != Method::Get {
        let message = "a stream of events is for GET";
        return Err(Failure::new(405, message).with("Allow", "GET, OPTIONS"));
    }
    api.check_complete()?;
    let slot = api.slot(Waiter::Watch)?;
    let (since, reset) = match since {
        None => (None, None),
        Some(Since::Seen(token)) => (Some(token), None),
        Some(Since::Anew(why)) => (None, Some(why)),
    };
    let style = if call.request.wants_events { Style::Sse } else { Style::Lines };
    let watch = api.shared.hub.watch(target);
    let wish = StreamWish { watch, since, reset, style, only_keys };
    api.park(&mut call, Parked::Stream(wish, slot));
    api.shared.counters.answered(call.route.number(), 200);
    Ok(Outcome::Parked)
}

/// The token of a request: `since`, or what a browser sends on its own when it calls again.
pub(super) fn token_of<'t>(request: &Request<'t>, since: Option<Parameter<'t>>) -> Option<&'t str> {
    request.last_event_id.filter(|id| !id.is_empty()).or(since.map(Parameter::text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{OriginId, StoreConfig};
    use crate::time::{Instant, Now, WallMillis};

    #[test]
    fn a_token_is_not_waited_with_for_longer_than_expiries_are_remembered_for_certain() {
        let store = Store::new(StoreConfig { origin: OriginId(1), store_len_max: 1_000 });
        let now = Now { instant: Instant::ZERO, wall: WallMillis(1_000) };
        store.put(now, b"stays", b"", None).expect("room");
        let waits = [Duration::ZERO, WAIT_DEFAULT, HTTP_POLL_MAX];
        assert_eq!(waits.map(|wait| while_known(wait, &store)), waits);
        store.put_lasting_if(now, b"expires", (b"", None), Some(9), |_| true).expect("room");
        let waits = waits.map(|wait| while_known(wait, &store));
        assert_eq!(waits, [Duration::ZERO, WAIT_DEFAULT, HTTP_POLL_EXPIRING_MAX]);
    }
}
