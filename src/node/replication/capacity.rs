//! Room for what the cluster holds: each member has to hold all of it, so the smallest bounds all.
//!
//! A ready node tells its limit in its digests. Whoever takes a write from a client refuses it
//! where it would grow the store past the smallest limit of all ready members that answer; what
//! others have taken is merged whatever its size, or copies would differ for ever.
//!
//! A node whose limit is below what the cluster holds cannot become ready: it ends its first copy
//! a quarter past its limit, says so, and tries again when deletes have made room. It bounds
//! nobody, for it tells no limit.

use super::context::Context;
use super::receive;
use crate::kv::{Bound, Record, Store};
use crate::node::io::Note;

/// What a digest tells of it.
pub(super) fn told(cx: &Context<'_>) -> Option<u64> {
    let limit = cx.store.limit();
    (limit > 0 && cx.ready.stage().is_ready()).then_some(limit)
}

/// Sees to it that local writes keep to the smallest limit there is now.
pub(super) fn look(cx: &mut Context<'_>) {
    let ready = cx.peers.reachable().filter(|peer| peer.is_ready());
    let limits = ready.filter_map(|peer| Some((peer.limit?, &peer.info.name)));
    let smallest = limits.min_by_key(|(limit, _)| *limit);
    let bound = smallest.map(|(len_max, by)| Bound { len_max, by: by.to_string().into() });
    let before = cx.store.bound();
    cx.store.set_bound(bound);
    let now = cx.store.bound();
    if now != before {
        let bound = now.map(|bound| (bound.by.to_string(), bound.len_max));
        cx.note(Note::Bounded { bound, own: cx.store.limit() });
    }
}

/// Whether this node holds far more than its limit allows and has no complete copy yet: it asks for
/// nothing more.
pub(super) fn is_short(cx: &Context<'_>) -> bool {
    cx.ready.wants_copy() && cx.store.is_overfull()
}

/// Takes of what comes to a node that is short of room only deletes, which make some. The rest does
/// not count as held, and comes again with a copy.
pub(super) fn apply_what_fits(cx: &mut Context<'_>, records: &[Record]) {
    let deletes: Vec<Record> =
        records.iter().filter(|record| record.is_tombstone()).cloned().collect();
    receive::apply(cx, &deletes, true);
}

/// Why a first copy does not go on.
pub(super) fn too_small_why(store: &Store) -> String {
    format!(
        "the cluster holds more than this node may (--max-store-bytes {}): give it more, or delete \
         some",
        store.limit()
    )
}
