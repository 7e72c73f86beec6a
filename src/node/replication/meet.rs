//! Freshness: which messages are of this life of the cluster.
//!
//! A sealed message can be kept, and sent again when every node has been restarted under the same
//! key: nobody knows then that its write is covered, or was deleted. So a run counts as **met**
//! once a digest or a pull of it has named this run, which a process draws anew at its start.
//! Records count when their sender is met, or when those that are met have told of the run that
//! wrote them: with many members few of them ever meet, and writes travel by way of others.
//!
//! What does not count is not acknowledged, so its sender repeats it, and is asked to name this run
//! meanwhile. What is not acknowledged follows on its link on a digest that does (`name_run`).

use super::context::Context;
use super::facts::peers::Peer;
use super::message::{Folded, Push};
use crate::kv::{OriginId, Record};
use std::time::Duration;

/// Least time between two questions to one peer whose messages come.
const AGAIN: Duration = Duration::from_millis(10);
/// The same where none do.
const INTRODUCE_AGAIN: Duration = Duration::from_millis(300);
/// Most peers asked at once.
const INTRODUCED_MAX: usize = 256;

/// Tells peers that are not met our run, and asks for theirs, so that the first writes count: when
/// there are new ones, and each second.
pub(super) fn introduce(cx: &mut Context<'_>) {
    let now = cx.now.instant;
    let is_due = |peer: &&Peer| {
        let again = peer.asked_to_meet.is_none_or(|at| now.since(at) >= INTRODUCE_AGAIN);
        again && !cx.met.is_met(peer)
    };
    let due = cx.peers.reachable().filter(is_due).take(INTRODUCED_MAX);
    let due: Vec<OriginId> = due.map(|peer| peer.info.origin).collect();
    due.into_iter().for_each(|run| ask(cx, run));
}

fn ask(cx: &mut Context<'_>, run: OriginId) {
    if let Some(peer) = cx.peers.get_mut(run) {
        peer.asked_to_meet = Some(cx.now.instant);
        cx.beacon(run);
    }
}

/// Whether a push counts. If not, its sender and the run whose writes it has are asked to meet.
pub(super) fn takes_push(cx: &mut Context<'_>, push: &Push, records: &[Record]) -> bool {
    let (of, from) = (OriginId(push.of), OriginId(push.from));
    is_met(cx, from) || is_known(cx, of) && are_known(cx, records) || refuse(cx, &[of, from])
}

/// Whether records count that `from` sends unasked.
pub(super) fn takes_supply(cx: &mut Context<'_>, from: u64, records: &[Record]) -> bool {
    let from = OriginId(from);
    is_met(cx, from) || are_known(cx, records) || refuse(cx, &[from])
}

/// Whether a list of folded origins counts.
pub(super) fn takes_folded(cx: &mut Context<'_>, folded: &Folded) -> bool {
    let from = OriginId(folded.from);
    is_met(cx, from) || refuse(cx, &[from])
}

/// A message of `from` names the run `to`.
pub(super) fn named(cx: &mut Context<'_>, from: OriginId, to: Option<u64>) {
    if to == Some(cx.me.0) {
        cx.met.named(from, cx.peers);
    }
}

/// Whether a run is of this life of the cluster.
pub(super) fn is_met(cx: &Context<'_>, from: OriginId) -> bool {
    cx.met.is_met_run(from, cx.peers)
}

fn are_known(cx: &Context<'_>, records: &[Record]) -> bool {
    records.iter().all(|record| is_known(cx, record.dot().origin))
}

/// Whether a run is this one, something is held of it, or a peer that is met has told of it.
fn is_known(cx: &Context<'_>, origin: OriginId) -> bool {
    let mut met = cx.peers.iter().filter(|peer| cx.met.is_met(peer));
    origin == cx.me
        || cx.known.highest(origin) > 0
        || cx.known.is_folded(origin)
        || met.any(|peer| peer.info.origin == origin || peer.head(origin) > 0)
}

/// Notes a message that does not count, and asks those behind it for a word that names this run.
/// False, as nothing is taken.
fn refuse(cx: &mut Context<'_>, runs: &[OriginId]) -> bool {
    cx.counters.unmet_total += 1;
    for &run in runs {
        let now = cx.now.instant;
        let is_due = |peer: &Peer| {
            !cx.met.is_met(peer) && peer.asked_to_meet.is_none_or(|at| now.since(at) >= AGAIN)
        };
        if cx.peers.get(run).is_some_and(is_due) {
            ask(cx, run);
        }
    }
    false
}
