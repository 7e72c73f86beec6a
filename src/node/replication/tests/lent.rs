//! Replication with the links that a node would lend it.

use super::*;
use crate::node::links::Links;
use crate::node::replication::context::Context;
use crate::node::replication::message::{Digest, Folded, Push};
use crate::node::replication::next::Next;
use crate::node::replication::observe::View;
use std::ops::{Deref, DerefMut};

/// Both, as one.
pub(in crate::node::replication) struct Lent {
    replication: Replication,
    pub(in crate::node::replication) links: Links,
}

impl Deref for Lent {
    type Target = Replication;

    fn deref(&self) -> &Replication {
        &self.replication
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Replication {
        &mut self.replication
    }
}

/// Passes a call on with the links.
macro_rules! lends {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $output:ty)?;)*) => {
        $(pub(in crate::node::replication) fn $name(
            &mut self,
            now: Now,
            $($arg: $type),*
        ) $(-> $output)? {
            self.replication.$name(&mut self.links.lend(now), $($arg),*)
        })*
    };
}

impl Lent {
    pub(in crate::node::replication) fn new(config: Config, store: Arc<Store>, now: Now) -> Lent {
        Lent { replication: Replication::new(config, store, now), links: Links::new() }
    }

    lends! {
        members(infos: Vec<PeerInfo>);
        datagram(from: SocketAddr, payload: &Bytes);
        frame(conn: ConnId, from: SocketAddr, payload: &Bytes);
        link_message(conn: ConnId, message: KvMessage);
        user_state(theirs: Formats) -> Bytes;
        pushed(payload: &Bytes, push: &Push, records: &[Record], via: Via);
        digested(digest: &Digest, via: Via, len: usize);
        folded(folded: &Folded);
        link_written(conn: ConnId, len: usize);
        link_closed(conn: ConnId);
        written();
        await_holders(wait: Waiting);
        end_wait(seq: u64);
        found();
        renew() -> Option<OriginId>;
        greet();
        drain();
        is_drained() -> bool;
        unsent() -> u64;
        timeout();
    }

    /// Has a mechanism work.
    pub(in crate::node::replication) fn with<T>(
        &mut self,
        now: Now,
        work: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        work(&mut self.replication.shared.lend(&mut self.links.lend(now)))
    }

    /// Asks a peer for all that is missing.
    pub(in crate::node::replication) fn pull_from(&mut self, now: Now, peer: OriginId) {
        self.replication.follow(&mut self.links.lend(now), Next::Pull(peer));
    }

    pub(in crate::node::replication) fn view(&self) -> View<'_> {
        View::of(&self.replication)
    }

    pub(in crate::node::replication) fn deadline(&self) -> Instant {
        self.replication.deadline(&self.links)
    }

    pub(in crate::node::replication) fn poll(&mut self) -> Option<Out> {
        self.links.out.pop_front().map(Out::Output).or_else(|| self.replication.poll())
    }
}
