//! Letting go of runs that are over: the list of folded origins is cut at a
//! [floor](super::facts::floor).
//!
//! ```text
//! the first of the ready members:  list too long, all have told the same --> cut, tells its floor
//! all others:                      told of a higher floor --> had that list: cut it likewise
//!                                                         `-> never had it: pull what it holds
//!                        its list is cut there indeed, this node was away: hide, compare  <--'
//! ```
//!
//! Below the floor nothing is known by name: a write of a run of which nothing else is known, and
//! that is stamped before the floor, counts as covered where it is asked whether it was deleted.

use super::context::Context;
use super::facts::floor::{self, FLOOR};
use super::facts::known::Claims;
use super::facts::peers::Peer;
use super::facts::stage::Stage;
use super::message::PullEnd;
use crate::kv::{OriginId, Record};
use crate::node::io::Note;
use std::time::Duration;

/// How far in the future a floor may be for which this node compares its store, in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// The time of the highest floor: there is room above it for some millions more.
const HIGHEST_MS: u64 = (u32::MAX as u64 - (1 << 24)) * 1000;

/// Least time between two questions to peers whose floor this node never had.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// A floor in a list of folded origins; 0 for none.
pub(super) fn listed(list: &[(u64, u64, u64)]) -> u64 {
    let floors = list.iter().filter(|(origin, ..)| *origin == FLOOR.0);
    floors.map(|(_, number, _)| *number).max().unwrap_or(0)
}

/// Whether what a list says of a run is about one that has gone below our floor: its teller has yet
/// to cut it.
pub(super) fn is_stale(cx: &Context<'_>, theirs: u64, of: OriginId) -> bool {
    theirs < cx.known.floor() && cx.known.is_unknown(of)
}

/// Cuts our list as a peer has cut its own, if this node ever had the one at which it did. Whether
/// our floor is as high now.
pub(super) fn follow(cx: &mut Context<'_>, theirs: u64) -> bool {
    if theirs <= cx.known.floor() {
        return true;
    }
    if cx.ready.wants_copy() {
        // The copy brings it. Before, what is not known here may be known to all others.
        return false;
    }
    let below = cx.known.below(theirs).filter(|below| is_possible(theirs) && !below.is_empty());
    let Some(below) = below else { return false };
    rise(cx, theirs, &below);
    true
}

/// Whether a run may be one that was let go of: nothing is known of it, and it is no member.
pub(super) fn may_be_over(cx: &Context<'_>, of: OriginId) -> bool {
    cx.known.floor() > 0 && cx.known.is_unknown(of) && !cx.peers.is_member(of)
}

/// Whether numbers count that a push says to settle: not those of a run that may have been let go
/// of. Such a one has no write in it that is above the floor, and is no member.
pub(super) fn may_settle(cx: &Context<'_>, of: OriginId, records: &[Record]) -> bool {
    let is_above = |record: &Record| {
        let time = record.stamp().time;
        record.dot().origin == of && !cx.known.is_below_floor(of, time)
    };
    !may_be_over(cx, of) || records.iter().any(is_above)
}

/// A peer that is met tells its floor. Whether to ask it for what it holds, as this node never had
/// the list at which that one was cut: only who answers shows that it has cut its list there. One
/// that says so, and serves nothing, hides nobody.
pub(super) fn told(cx: &mut Context<'_>, from: OriginId, theirs: u64, is_copying: bool) -> bool {
    let now = cx.now.instant;
    if follow(cx, theirs) || !counts(cx, from, theirs) || is_copying || now < cx.floors.ask_again {
        return false;
    }
    cx.floors.ask_again = now + ASK_AGAIN;
    true
}

/// A pull has ended from one whose list is cut there. Whether this node was away then, and has to
/// compare its store; the copy that has come is one of a reset.
pub(super) fn was_away(cx: &mut Context<'_>, from: OriginId, theirs: u64) -> bool {
    if follow(cx, theirs) || !counts(cx, from, theirs) {
        return false;
    }
    // No sooner than a list is cut again, unless it is far too long.
    cx.floors.again = cx.now.instant + cx.config.folded.age;
    true
}

/// Whether the floor of a peer is a reason to compare: both are ready, and it is possible.
fn counts(cx: &mut Context<'_>, from: OriginId, theirs: u64) -> bool {
    // A copy brings it, and a reset has one.
    let is_settled = matches!(cx.ready.stage(), Stage::Founded | Stage::Copied);
    if !is_settled || !cx.peers.get(from).is_some_and(Peer::is_ready) {
        return false;
    }
    let latest = cx.now.wall.0.max(cx.store.stats().hlc.millis()).saturating_add(DAY_MS);
    let is_far = floor::time(theirs).millis() > latest || !is_possible(theirs);
    if cx.now.instant < cx.floors.again || is_far {
        cx.floors.ignored_total += 1;
        return false;
    }
    true
}

/// A whole copy has come from one whose list is cut as high as that. This node takes the floor over
/// if it is higher than its own, and it could not follow. A new one has been pushed writes from
/// below it, of runs that nobody names any more, and counts with their numbers: those are let go
/// of.
pub(super) fn take(cx: &mut Context<'_>, theirs: u64, end: &PullEnd) {
    let came = cx.known.take_came();
    if theirs <= cx.known.floor() || !is_possible(theirs) {
        return;
    }
    cx.known.take_floor(theirs);
    members_are_above(cx);
    if cx.ready.wants_copy() {
        let named = Claims::new(&end.heads, &end.folded);
        let is_below =
            |of: &OriginId| came.get(of).is_none_or(|latest| *latest <= floor::time(theirs));
        let is_over = |of: &OriginId| !named.names(*of) && !cx.peers.is_member(*of) && is_below(of);
        let over: Vec<OriginId> = cx.known.origins().into_iter().filter(is_over).collect();
        over.into_iter().for_each(|of| cx.known.let_go(of));
    }
}

/// Whether there is room above a floor: one that lies could say the highest that there is.
fn is_possible(floor: u64) -> bool {
    floor::time(floor).millis() <= HIGHEST_MS
}

/// Whoever is a member when the list is cut is not below the floor.
fn members_are_above(cx: &mut Context<'_>) {
    for peer in cx.peers.iter() {
        cx.known.put_above_floor(peer.info.origin);
    }
}

/// Cuts the list when it is too long and it is up to this node: the first of those that are ready.
pub(super) fn lead(cx: &mut Context<'_>) {
    let bound = cx.config.folded;
    let Some(agreed) = cx.known.to_be_cut(cx.moment(), bound) else { return };
    let me = cx.me;
    let goes_first = |peer: &Peer| peer.is_ready() && peer.info.origin < me;
    // One that is dead and has never told anything is no hindrance for a day.
    let follows =
        |peer: &Peer| peer.floor.is_some() || !peer.info.reachable && peer.told_at.is_none();
    let is_first = cx.ready.stage().is_ready() && !cx.peers.reachable().any(goes_first);
    let all_follow = cx.peers.iter().all(follows) && cx.peers.incompatible().next().is_none();
    if !is_first || !all_follow {
        return;
    }
    let number = floor::number(agreed.when.time, cx.known.floor(), agreed.sum);
    if let Some(below) = cx.known.below(number).filter(|below| !below.is_empty()) {
        rise(cx, number, &below);
    }
}

fn rise(cx: &mut Context<'_>, number: u64, below: &[OriginId]) {
    let gone = cx.known.rise(number, below);
    members_are_above(cx);
    for peer in cx.peers.iter_mut() {
        gone.iter().for_each(|(origin, _)| peer.lets_go(*origin));
    }
    cx.floors.let_go_total += gone.len() as u64;
    cx.note(Note::LetGo { floor: number, runs: gone });
}
