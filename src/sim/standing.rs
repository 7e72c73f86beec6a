//! What is seen of a node's readiness: when it became ready, and what the ready nodes held when a
//! copy of its began. `check::ready` judges it.
//!
//! A copy begins when its server takes the pull, and is complete when its asker takes the end.

use super::cluster::Cluster;
use crate::kv::OriginId;
use crate::node::Node;
use crate::node::command::Health;
use crate::node::formats::Formats;
use crate::node::replication::message::{KvMessage, is_pull, is_pull_end};
use crate::time::Instant;
use crate::wire::stream::{Frame, Payload};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What a ready node held at some moment: of each origin, up to which number.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// The host of that node.
    pub(super) by: usize,
    /// Its heads.
    pub(super) heads: Vec<(OriginId, u64)>,
}

/// What was seen of one process.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// When the process started.
    pub(super) since: Instant,
    /// When it last went on after it had been stopped.
    pub(super) went_on: Instant,
    /// Since when it has been ready without a break.
    pub(super) ok_since: Option<Instant>,
    /// By the host of its server: what ready nodes held when the latest copy from there began. One
    /// that was given up may begin after the next.
    pub(super) begun: BTreeMap<usize, Vec<Held>>,
    /// The same of the last copy that is complete.
    pub(super) copied: Option<Vec<Held>>,
    /// The run that founded the cluster that it belongs to.
    pub(super) cluster: Option<OriginId>,
    /// Its heads when it was told to leave.
    pub(super) left_with: Vec<(OriginId, u64)>,
    /// Which replication formats it speaks.
    pub(super) formats: Formats,
    /// What DNS named to it at the last look that was answered.
    pub(super) named: Vec<SocketAddr>,
}

/// Whether a pull begins, and if so, whether it is a first copy: one for anything else says so.
fn pull_begins(payload: &Payload, head: &[u8]) -> Option<bool> {
    let asks = |message| matches!(message, KvMessage::Pull(pull) if pull.first != Some(false));
    is_pull(head).then(|| KvMessage::decode(&payload.join()).is_ok_and(asks))
}

impl Cluster {
    /// Notes when a node becomes ready, for somebody to judge, and when it no longer is.
    pub(super) fn see_ready(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let is_ok = host.node().is_some_and(|node| node.health() == Health::Ok);
        if is_ok == host.standing.ok_since.is_some() {
            return;
        }
        host.standing.ok_since = is_ok.then_some(self.now);
        if is_ok {
            let origin = host.store.as_ref().map(|store| store.origin());
            host.standing.cluster = host.standing.cluster.or(origin);
            if self.is_judged {
                self.turned.push(index);
            }
            self.trace.word(self.now, || format!("{} is ready", self.hosts[index].name));
        } else {
            self.trace.word(self.now, || format!("{} is not ready", self.hosts[index].name));
        }
    }

    /// Looks at a frame that `from` sent and `to` is about to take, for the beginning and the end
    /// of copies. What is asked on a connection that its asker has closed, which is when `is_heard`
    /// is false, begins none: no answer to it can arrive.
    pub(super) fn see_copy(&mut self, to: usize, from: usize, is_heard: bool, frame: &Frame) {
        let Frame::Kv(payload) = frame else { return };
        let Some(head) = payload.pieces().next() else { return };
        if let Some(is_first) = pull_begins(payload, head) {
            if !is_heard {
                return;
            }
            let copies = is_first && self.hosts[from].standing.ok_since.is_none();
            let ready = copies.then(|| self.ready_but(from));
            let begun = &mut self.hosts[from].standing.begun;
            begun.remove(&to);
            begun.extend(ready.map(|ready| (to, ready)));
        } else if is_pull_end(head) {
            let cluster = self.hosts[from].standing.cluster;
            let standing = &mut self.hosts[to].standing;
            if let Some(begun) = standing.begun.remove(&from) {
                standing.begun.clear();
                standing.copied = Some(begun);
                standing.cluster = cluster.or(standing.cluster);
            }
        }
    }

    /// What each ready node of our cluster holds, one that leaves too, `index` left out.
    fn ready_but(&self, index: usize) -> Vec<Held> {
        let ready = |&by: &usize| {
            let host = &self.hosts[by];
            let is_ready = |node: &Node| node.replication().health() == Health::Ok;
            by != index && !host.is_stranger && host.node().is_some_and(is_ready)
        };
        (0..self.hosts.len()).filter(ready).map(|by| self.held(by)).collect()
    }

    /// What the node on a host holds.
    pub(super) fn held(&self, by: usize) -> Held {
        let host = &self.hosts[by];
        let origins = host.origins().into_iter();
        let heads = origins.map(|origin| (origin, host.contiguous(origin))).collect();
        Held { by, heads }
    }

    /// Notes that the node on a host is told to leave, and what it holds.
    pub(super) fn begins_to_leave(&mut self, index: usize) {
        let held = self.held(index);
        let host = &mut self.hosts[index];
        host.leaving = Some(self.now);
        host.standing.left_with = held.heads;
    }

    /// Whether the node on a host held every write of `origin` up to `seq`, by its vector, when it
    /// was told to leave.
    pub(super) fn left_with(&self, index: usize, origin: OriginId, seq: u64) -> bool {
        let mut heads = self.hosts[index].standing.left_with.iter();
        heads.any(|(of, through)| *of == origin && *through >= seq)
    }

    /// A write that was held then and that the node on a host does not cover.
    pub(super) fn lacks(&self, index: usize, held: &Held) -> Option<(OriginId, u64)> {
        let host = &self.hosts[index];
        host.node()?;
        let lacks = |(origin, through): &&(OriginId, u64)| host.contiguous(*origin) < *through;
        held.heads.iter().find(lacks).copied()
    }
}
