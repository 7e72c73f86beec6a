//! What tells a member that slept past a forgotten delete: per origin the highest number of a
//! tombstone that has been forgotten.
//!
//! ```text
//! who forgets:   mark = 50 of origin A          asker: heads {A: 40}  --> "reset"
//! who copies from it:  PullEnd{heads {A: 60}, marks [50]}  --> mark = 50, too
//! ```
//!
//! By the law a node covers what it has copied, also deletes of which nothing came because they had
//! been forgotten. So the marks go with each copy, and with each list of folded origins: whoever
//! pulls from a node that never saw those deletes is told all the same.

use crate::kv::{Dot, OriginId};
use crate::node::replication::context::Context;
use crate::node::replication::message::PullEnd;

/// Server: writes the marks of now into the end of a copy. Deletes may have been forgotten
/// since the copy began, and origins folded.
pub(in crate::node) fn add(cx: &Context<'_>, end: &mut PullEnd) {
    let of = |origin: u64| cx.known.forgotten_of(OriginId(origin));
    let marks: Vec<u64> = end.heads.iter().map(|(origin, _)| of(*origin)).collect();
    end.marks = marks.iter().any(|mark| *mark > 0).then_some(marks);
    for (origin, _, forgotten) in &mut end.folded {
        *forgotten = of(*origin);
    }
}

/// Asker, before the heads are claimed: the forgotten deletes that it lacks, one an origin.
pub(in crate::node) fn lacked(cx: &Context<'_>, end: &PullEnd) -> Vec<Dot> {
    let marks = end.marks.iter().flatten();
    let told = end.heads.iter().zip(marks).map(|((of, through), mark)| (*of, *mark.min(through)));
    let folded = end.folded.iter().map(|(of, last, mark)| (*of, *mark.min(last)));
    let dots = told.chain(folded).map(|(of, seq)| Dot { origin: OriginId(of), seq });
    dots.filter(|dot| dot.seq > 0 && !cx.known.has_held(*dot)).collect()
}

/// Asker: takes over the marks, once the heads are claimed. A server that has folded this very
/// node, because it was cut off, holds all of its writes to there: true
/// when that is news.
pub(in crate::node) fn take(cx: &mut Context<'_>, server: OriginId, end: &PullEnd) -> bool {
    let mut is_acked = false;
    let marks = end.marks.iter().flatten().copied();
    for ((origin, _), mark) in end.heads.iter().zip(marks) {
        cx.known.take_mark(OriginId(*origin), mark);
    }
    for &(origin, last, forgotten) in &end.folded {
        if OriginId(origin) == cx.me {
            is_acked |= cx.acknowledged(server, last);
        }
        cx.known.take_mark(OriginId(origin), forgotten);
    }
    is_acked
}
