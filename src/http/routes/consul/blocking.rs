//! Reads that wait until there is another index than the one that their client has.
//!
//! ```text
//! now > client's    answer
//! now = client's    it is known: wait; any change is answered, up or down
//! now < client's    the client comes from a node that knows more, or other: wait shortly for this
//!                   one to catch up, then answer with what there is
//! time is up        answer, with the index of now
//! ```
//!
//! The short wait bounds how stale a client can be that goes from node to node, and how often it
//! asks while nodes differ.

use super::asked::Query;
use super::index::{NOTHING, State};
use crate::http::failure::Failure;
use crate::http::pending::{Parked, Waiter};
use crate::http::request::Poll;
use crate::http::routes::context::{Api, Call, Outcome};
use crate::http::watch::roster::Mark;
use crate::http::watch::wish::{PollWatch, PollWish};
use crate::kv::Target;
use std::time::Duration;

/// How long a client waits that has a higher index than this node.
const HOLD: Duration = Duration::from_millis(500);

/// What a read is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It answers with this index.
    Answer(u64),
    /// It waits. The sum of what it waits to see changed, when the client has that.
    Wait(Option<u64>),
}

/// `is_of_now`: whether the client's index stands for what there is.
fn judge(poll: Poll, client: u64, now: State, is_of_now: bool) -> Verdict {
    match poll {
        Poll::Over => Verdict::Answer(now.index),
        Poll::Known(sum) if is_of_now && now.sum == sum => Verdict::Wait(Some(sum)),
        // Another state under the same number. It is told by one that is nobody's.
        Poll::Known(_) if now.index == client => Verdict::Answer(NOTHING),
        Poll::Known(_) => Verdict::Answer(now.index),
        Poll::New | Poll::Watched if is_of_now => Verdict::Wait(Some(now.sum)),
        Poll::New | Poll::Watched if now.index > client => Verdict::Answer(now.index),
        Poll::New | Poll::Watched => Verdict::Wait(None),
    }
}

/// What a read of `target`, which is at `now`, comes to: the index to answer with, or that it
/// waits.
///
/// # Errors
/// 400 for a bad index or time, 503 when too many wait already.
pub(super) fn turn(
    api: &Api,
    call: &mut Call<'_>,
    query: Query<'_>,
    target: Target,
    now: State,
) -> Result<Result<u64, Outcome>, Failure> {
    let watch = || PollWatch::Keys(api.shared.hub.watch(target));
    turn_at(api, call, query, now, |client| client == now.index, watch)
}

/// The same for a read of the members, which are at `now`. Each node numbers what it sees by its
/// own clock: that a client knows the rows of now is told by their hash.
///
/// # Errors
/// The same.
pub(super) fn turn_of_members(
    api: &Api,
    call: &mut Call<'_>,
    query: Query<'_>,
    now: Mark,
) -> Result<Result<u64, Outcome>, Failure> {
    let state = State { index: now.index, sum: now.sum };
    let watch = || PollWatch::Members(api.shared.rosters.watch());
    turn_at(api, call, query, state, |client| now.is_told_by(client), watch)
}

fn turn_at(
    api: &Api,
    call: &mut Call<'_>,
    query: Query<'_>,
    now: State,
    is_of_now: impl Fn(u64) -> bool,
    watch: impl FnOnce() -> PollWatch,
) -> Result<Result<u64, Outcome>, Failure> {
    let Some((client, wait)) = query.wait(api.shared.config.consul_wait_max)? else {
        return Ok(Ok(now.index));
    };
    let known = match judge(call.request.poll, client, now, is_of_now(client)) {
        Verdict::Answer(index) => return Ok(Ok(index)),
        Verdict::Wait(known) => known,
    };
    let parked = match (call.request.poll, known) {
        (Poll::New, _) => {
            let slot = api.slot(Waiter::Watch)?;
            let hold = if known.is_some() { None } else { Some(HOLD) };
            let first = known.map_or(Poll::Watched, Poll::Known);
            let watch = watch();
            Parked::Poll(PollWish { watch, wait, first, every: Duration::MAX, hold }, slot)
        }
        (Poll::Watched, Some(sum)) => Parked::Known(sum),
        _ => Parked::Nothing,
    };
    api.park(call, parked);
    Ok(Err(Outcome::Parked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_answered_and_a_node_behind_has_a_moment_to_catch_up() {
        let at = |index| State { index, sum: 70 + index };
        let judge = |poll, client, now: State| judge(poll, client, now, client == now.index);
        for poll in [Poll::New, Poll::Watched] {
            assert_eq!(judge(poll, 5, at(6)), Verdict::Answer(6));
            assert_eq!(judge(poll, 5, at(5)), Verdict::Wait(Some(75)));
            assert_eq!(judge(poll, 5, at(4)), Verdict::Wait(None));
        }
        let known = Poll::Known(75);
        assert_eq!(judge(known, 5, at(5)), Verdict::Wait(Some(75)));
        assert_eq!(judge(known, 5, at(4)), Verdict::Answer(4), "down as well as up");
        assert_eq!(judge(known, 5, at(6)), Verdict::Answer(6));
        assert_eq!(judge(known, 5, State { index: 5, sum: 76 }), Verdict::Answer(NOTHING));
        for now in 4..=6 {
            assert_eq!(judge(Poll::Over, 5, at(now)), Verdict::Answer(now));
        }
    }
}
