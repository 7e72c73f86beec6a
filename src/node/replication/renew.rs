//! A node that was set back goes on as another run: a part of the machine.
//!
//! ```text
//! a peer holds more of our writes than we have made
//!   --> a new run: its numbers begin anew, and nobody has said to hold any of them
//!       what is held of the run before is a run's like any other: what is missing is asked for
//!       hidden, until every shard has been compared with a ready peer
//! ```
//!
//! Since it was set back this node may have used numbers of the run before that others have used
//! up with other writes. No vector tells of that: the comparison carries both ways, as it goes by
//! keys and versions. Until then what is covered here may be missing (`doubt`).

use super::context::Shared;
use super::facts::set_back::SetBack;
use super::facts::stage::State;
use super::machine::Replication;
use crate::kv::OriginId;
use crate::node::io::Note;
use crate::node::links::Lent;
use crate::rng::Rng;
use crate::time::Now;
use std::sync::Arc;

impl Replication {
    /// The new run of a node that was set back, once it has noticed: all others know it as nobody
    /// yet, and it as nobody until [`members`](Replication::members) tells. A node that leaves
    /// stays what it is to the end.
    pub fn renew(&mut self, lent: &mut Lent<'_>) -> Option<OriginId> {
        let claim = self.shared.set_back.claim()?;
        if self.shared.ready.is_leaving {
            return None;
        }
        let name = self.shared.peers.get(claim.by).map(|peer| peer.info.name.to_string());
        let by = name.unwrap_or_default();
        self.holders.end_all(&mut self.shared.lend(lent));
        // What is under way on them is to or from the run before.
        lent.links.close_all();
        let origin = self.shared.draw_origin(lent.now);
        let store = Arc::clone(&self.shared.store);
        let last = store.renew(origin);
        let fresh = Replication::new(self.shared.config.clone(), store, lent.now);
        let before = std::mem::replace(self, fresh);
        self.shared.go_on_from(before.shared, last, lent.now);
        if self.shared.ready.is_resetting() {
            self.walk.reset(lent.now.instant, (Vec::new(), 0), false);
        }
        let cx = &mut self.shared.lend(lent);
        cx.counters.set_backs_total += 1;
        cx.note(Note::SetBack { by, through: claim.through, last: claim.last });
        Some(origin)
    }
}

impl Shared {
    /// A name for another run. The generator may have been set back along with the node, so the
    /// clocks have a part in it.
    fn draw_origin(&mut self, now: Now) -> OriginId {
        let clocks = now.wall.0.rotate_left(32) ^ now.instant.0;
        let mut rng = Rng::from_seed(self.rng.next_u64() ^ clocks);
        loop {
            let origin = OriginId(rng.next_u64());
            if origin.0 != 0 && origin != self.me {
                return origin;
            }
        }
    }

    /// Takes over what the run before knew, and that it had made `last` writes.
    fn go_on_from(&mut self, before: Shared, last: u64, now: Now) {
        let Shared { me, rng, room, known, met, ready, counters, out, .. } = before;
        (self.rng, self.room, self.counters, self.out) = (rng, room, counters, out);
        self.met = met.renewed();
        self.known = known.renewed(self.me, me, last);
        self.known.doubt(now.instant);
        self.ready = ready;
        // One that has no first copy yet begins it again, and compares then.
        if !self.ready.wants_copy() {
            self.ready.state = State::Resetting;
            self.ready.was_set_back = true;
        }
        self.set_back = SetBack::renewed(now.instant);
    }
}
