//! Replication: all mechanisms together. The only file that knows two of them.
//!
//! What arrives goes to the mechanisms that it concerns, one after the other; each is lent what all
//! share, and what one leaves to another comes back as a [`Next`].

use super::context::{Config, Out, Shared};
use super::facts::floor::FLOOR;
use super::facts::paths::Via;
use super::facts::peers::PeerInfo;
use super::forget::expiry::Expiry;
use super::forget::sweep::Sweep;
use super::forget::tails::Tails;
use super::message::{Ack, Digest, Folded, KvMessage, MessageError, PullEnd, Push, Read};
use super::next::Next;
use super::repair::absence::Absence;
use super::repair::compare::{self, Compare};
use super::repair::digest::{self, Digests, Heard};
use super::repair::gaps::Gaps;
use super::repair::judge::Judge;
use super::repair::pull::Pulls;
use super::repair::scrub::Scrub;
use super::repair::walk::Walk;
use super::spread::acks::Acks;
use super::spread::handover::Handover;
use super::spread::holders::{Holders, Waiting};
use super::spread::push::Pusher;
use super::spread::rumor::Rumors;
use super::{capacity, floor, meet, receive, repair::ready, spread::resend, spread::ways};
use crate::kv::{HlcTime, OriginId, Record, Store};
use crate::node::formats::Formats;
use crate::node::io::ConnId;
use crate::node::links::Lent;
use crate::time::Now;
use crate::wire::stream::Payload;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// Replication as a state machine.
#[derive(Debug)]
pub(in crate::node) struct Replication {
    pub(super) shared: Shared,
    pub(super) push: Pusher,
    pub(super) acks: Acks,
    pub(super) rumors: Rumors,
    pub(super) holders: Holders,
    pub(super) handover: Handover,
    pub(super) digests: Digests,
    pub(super) gaps: Gaps,
    pub(super) pulls: Pulls,
    pub(super) compare: Compare,
    pub(super) judge: Judge,
    pub(super) walk: Walk,
    pub(super) absence: Absence,
    pub(super) scrub: Scrub,
    pub(super) expiry: Expiry,
    pub(super) sweep: Sweep,
    pub(super) tails: Tails,
}

/// Whether our heads say all that we hold: no gap is open, and no copy under way.
pub(super) fn is_exact(gaps: &Gaps, pulls: &Pulls) -> bool {
    gaps.is_empty() && !pulls.is_active()
}

impl Replication {
    /// Replication of `store`, which is still empty.
    #[must_use]
    pub fn new(config: Config, store: Arc<Store>, now: Now) -> Replication {
        // Only what has been somewhere else before has anything in its store.
        let is_filled = config.expects_peers && store.stats().n_live > 0;
        let mut shared = Shared::new(config, store);
        Replication {
            digests: Digests::new(now.instant, &mut shared.rng),
            shared,
            push: Pusher::default(),
            acks: Acks::default(),
            rumors: Rumors::default(),
            holders: Holders::default(),
            handover: Handover::default(),
            gaps: Gaps::default(),
            pulls: Pulls::default(),
            compare: Compare::default(),
            judge: Judge::default(),
            walk: Walk::default(),
            absence: Absence::new(now.instant, is_filled),
            scrub: Scrub::default(),
            expiry: Expiry::default(),
            sweep: Sweep::new(now.instant),
            tails: Tails::default(),
        }
    }

    /// Sets the longest user message that fits a datagram, in bytes.
    pub fn set_room(&mut self, room: usize) {
        self.shared.room = room;
    }

    /// Takes this node for one that has long been ready, for simulations that begin so.
    pub(in crate::node) fn assume_ready(&mut self) {
        self.shared.ready.assume();
        self.shared.met.assume_all();
    }

    /// Sends a frame to a peer over our link to it. False when the link takes nothing now.
    pub(in crate::node) fn link_send(
        &mut self,
        lent: &mut Lent<'_>,
        origin: OriginId,
        payload: impl Into<Payload>,
    ) -> bool {
        self.shared.lend(lent).link_send(origin, payload)
    }

    /// Takes over who the members of our kind are now. Those with whom no format is shared are no
    /// peers: they get nothing, and nothing waits for them.
    pub fn members(&mut self, lent: &mut Lent<'_>, infos: Vec<PeerInfo>) {
        let cx = &mut self.shared.lend(lent);
        let before = cx.peers.n_reachable();
        for gone in cx.peers.update(infos, cx.store.holds_lasting()) {
            if let Some(conn) = gone.link {
                cx.links.close(conn);
            }
            self.pulls.lost(gone.info.origin);
            self.compare.lost(gone.info.origin);
        }
        cx.known.unfold_members(cx.peers.iter().map(|peer| peer.info.origin));
        if before == 0 && cx.peers.n_reachable() > 0 {
            self.digests.soon(lent.now.instant);
        }
        self.flush(lent, false);
        self.greet(lent);
        self.first_copy(lent);
    }

    /// A datagram's user message that is ours.
    pub fn datagram(&mut self, lent: &mut Lent<'_>, from: SocketAddr, payload: &Bytes) {
        self.shared.counters.datagram_len_in += payload.len() as u64;
        match self.shared.read(payload) {
            Ok(read) if read.message.is_for_datagrams() => {
                self.message(lent, payload, read.message, Via::Datagram);
            }
            Ok(_) => self.shared.unreadable("message belongs on a link", from),
            Err(MessageError::Kind(_)) => {}
            Err(error) => self.shared.unreadable(&error.to_string(), from),
        }
    }

    /// A frame of a link.
    pub fn frame(&mut self, lent: &mut Lent<'_>, conn: ConnId, from: SocketAddr, payload: &Bytes) {
        self.shared.counters.link_len_in += payload.len() as u64;
        lent.links.seen(conn, None);
        self.compare.heard(lent.now.instant, conn);
        match self.shared.read(payload) {
            Ok(Read { message, format, .. }) => {
                let peer = message.sender().and_then(|sender| self.shared.peers.get(sender));
                lent.links.speaks(conn, peer.map(|peer| peer.common), format);
                if message.is_for_datagrams() {
                    self.message(lent, payload, message, Via::Link(conn));
                } else {
                    self.link_message(lent, conn, message);
                }
            }
            Err(MessageError::Kind(_)) => {}
            Err(error) => {
                self.shared.unreadable(&error.to_string(), from);
                lent.links.close(conn);
                self.link_lost(lent, conn);
            }
        }
    }

    /// The user state of a peer's push-pull.
    pub fn merge_user_state(&mut self, lent: &mut Lent<'_>, from: SocketAddr, state: &Bytes) {
        match self.shared.read(state).map(|read| read.message) {
            Ok(KvMessage::Digest(digest)) => {
                self.digested(lent, &digest, Via::Exchange, state.len())
            }
            Ok(_) => self.shared.unreadable("user state is no digest", from),
            Err(MessageError::Kind(_)) => {}
            Err(error) => self.shared.unreadable(&error.to_string(), from),
        }
    }

    /// The digest as the user state of a push-pull with one that speaks `theirs`, if we do.
    #[must_use]
    pub fn user_state(&mut self, lent: &mut Lent<'_>, theirs: Formats) -> Bytes {
        let is_exact = is_exact(&self.gaps, &self.pulls);
        let cx = &self.shared.lend(lent);
        let digest = || KvMessage::Digest(digest::whole(cx, is_exact, false));
        let common = cx.config.formats.common(theirs);
        let payload = common.and_then(|common| digest().payload_for(common));
        payload.map(|payload| payload.join()).unwrap_or_default()
    }

    /// A message that may come by datagram, as well as over a link.
    fn message(&mut self, lent: &mut Lent<'_>, payload: &Bytes, message: KvMessage, via: Via) {
        match message {
            KvMessage::Push(push, records) => self.pushed(lent, payload, &push, &records, via),
            KvMessage::Ack(ack) => self.acked(lent, &ack, via),
            KvMessage::Digest(digest) => self.digested(lent, &digest, via, payload.len()),
            KvMessage::Want(want) => {
                let urgent = self.holders.is_waiting();
                resend::wanted(&mut self.shared.lend(lent), &want, via, urgent);
            }
            KvMessage::Folded(folded) => self.folded(lent, &folded),
            #[cfg(feature = "next-format")]
            KvMessage::Played(_) => self.shared.counters.played_total += 1,
            _ => {}
        }
    }

    /// A message that only comes over a link.
    pub(super) fn link_message(&mut self, lent: &mut Lent<'_>, conn: ConnId, message: KvMessage) {
        let cx = &mut self.shared.lend(lent);
        match message {
            KvMessage::Pull(pull) => {
                let next = self.pulls.requested(cx, conn, &pull);
                self.follow(lent, next);
            }
            KvMessage::PullEnd(end) => self.pull_ended(lent, conn, &end),
            KvMessage::Busy(busy) => {
                self.pulls.refused(lent.now.instant, conn, &busy);
                if self.compare.refused(conn) {
                    self.walk.refused(lent.now.instant, &busy);
                }
            }
            // Of a pull or of a comparison, or deletes past a lost write.
            KvMessage::Supply(supply, records) => {
                let is_pulled = self.pulls.heard(cx.now.instant, conn, records.len());
                if !is_pulled && !meet::takes_supply(cx, supply.from, &records) {
                    return;
                }
                if capacity::is_short(cx) {
                    capacity::apply_what_fits(cx, &records);
                    return self.pulls.end_without_room(cx);
                }
                let (n_newer, _) = receive::apply(cx, &records, supply.observe);
                match (n_newer > 0, is_pulled || supply.observe) {
                    (true, true) if !supply.observe => self.tails.unclaimed_came(),
                    (true, false) => self.tails.heard(cx),
                    _ => {}
                }
                self.pulls.end_without_room(cx);
            }
            KvMessage::Roots(roots) => compare::roots(cx, conn, &roots),
            KvMessage::Leaves(leaves) => {
                let next = self.compare.leaves(cx, conn, &leaves, self.walk.is_wanted());
                self.follow(lent, next);
            }
            KvMessage::Items(items) => self.judge.asked(cx, conn, items),
            KvMessage::Verdicts(verdicts, records) => {
                let waits = self.walk.is_wanted();
                let next = self.compare.verdicts(cx, conn, &verdicts, &records, waits);
                self.follow(lent, next);
            }
            message @ (KvMessage::KeyRequest(_) | KvMessage::KeyReply(_)) => {
                cx.out.push_back(Out::Keys(conn, message));
            }
            _ => {}
        }
    }

    /// A push arrived, by datagram or link.
    pub(super) fn pushed(
        &mut self,
        lent: &mut Lent<'_>,
        payload: &Bytes,
        push: &Push,
        records: &[Record],
        via: Via,
    ) {
        let (of, from) = (OriginId(push.of), OriginId(push.from));
        let cx = &mut self.shared.lend(lent);
        cx.heard_via(from, via);
        if !meet::takes_push(cx, push, records) {
            return;
        }
        self.absence.note_pushed(cx, records);
        if capacity::is_short(cx) {
            return capacity::apply_what_fits(cx, records);
        }
        let may_settle = floor::may_settle(cx, of, records);
        let (n_newer, _) = receive::apply(cx, records, true);
        let mut news = n_newer > 0;
        if of != cx.me && may_settle {
            news |= receive::settled(cx, of, &push.settles);
            self.acks.owe(cx, push, via);
            self.gaps.note_holes(cx, of, from);
        }
        if news {
            self.rumors.came(cx, payload, of, via);
        }
    }

    /// A peer holds more of our writes.
    fn acked(&mut self, lent: &mut Lent<'_>, ack: &Ack, via: Via) {
        let cx = &mut self.shared.lend(lent);
        #[cfg(feature = "next-format")]
        {
            cx.counters.played_total += u64::from(ack.played.is_some());
        }
        let from = OriginId(ack.from);
        if OriginId(ack.of) != cx.me {
            return;
        }
        cx.heard_via(from, via);
        let is_news = cx.acknowledged(from, ack.through);
        if is_news {
            self.holders.changed(cx);
        }
        ways::ack_came(cx, from, via, is_news);
    }

    /// A digest of `len` bytes arrived.
    pub(super) fn digested(&mut self, lent: &mut Lent<'_>, digest: &Digest, via: Via, len: usize) {
        let from = OriginId(digest.from);
        let cx = &mut self.shared.lend(lent);
        if from == cx.me || !digest::is_for(cx.me, digest) {
            return;
        }
        cx.heard_via(from, via);
        meet::named(cx, from, digest.to);
        ways::digest_came(cx, digest, via, len);
        let heads = digest::heads(cx, digest);
        for &(of, through) in heads.iter() {
            if OriginId(of) != cx.me {
                cx.known.recall(OriginId(of), through);
                self.gaps.note_claim(cx, OriginId(of), through, from, digest.whole);
            } else if cx.acknowledged(from, through) {
                self.holders.changed(cx);
            }
        }
        let heard = digest::heard(cx, digest, &heads);
        if heard == Heard::Stranger {
            return;
        }
        if digest.reply {
            digest::answer(cx, digest, via, is_exact(&self.gaps, &self.pulls));
        }
        if digest.whole && heard == Heard::News {
            self.digested_whole(lent, digest);
        }
    }

    /// A peer has told all that it holds, and how far it has come.
    fn digested_whole(&mut self, lent: &mut Lent<'_>, digest: &Digest) {
        let next = ready::told(&mut self.shared.lend(lent), digest);
        self.follow(lent, next);
        capacity::look(&mut self.shared.lend(lent));
        self.first_copy(lent);
        let cx = &mut self.shared.lend(lent);
        if self.absence.ends(cx, OriginId(digest.from)) {
            let next = ready::hide(cx);
            self.follow(lent, next);
            self.walk.reset_again(lent.now.instant, self.compare.is_active());
        }
        self.floor_told(lent, digest);
        let cx = &mut self.shared.lend(lent);
        let next = digest::compare(cx, digest, is_exact(&self.gaps, &self.pulls));
        self.follow(lent, next);
    }

    /// A peer has told where its list of folded origins is cut. Who was not there when all agreed
    /// on that was away.
    fn floor_told(&mut self, lent: &mut Lent<'_>, digest: &Digest) {
        let (cx, from) = (&mut self.shared.lend(lent), OriginId(digest.from));
        let is_copying = self.pulls.is_active();
        if let Some(theirs) = digest.floor.filter(|_| meet::is_met(cx, from))
            && floor::told(cx, from, theirs, is_copying)
        {
            self.pulls.start(cx, from);
        }
        floor::lead(&mut self.shared.lend(lent));
    }

    /// A peer has folded origins: every member it knew held all of them. So what we lack of them
    /// we ask it for, and what we hold whole we fold too.
    pub(super) fn folded(&mut self, lent: &mut Lent<'_>, folded: &Folded) {
        let from = OriginId(folded.from);
        let cx = &mut self.shared.lend(lent);
        if !meet::takes_folded(cx, folded) {
            return;
        }
        let theirs = floor::listed(&folded.list);
        floor::follow(cx, theirs);
        for &(of, last, forgotten) in &folded.list {
            let of = OriginId(of);
            if of == FLOOR || floor::is_stale(cx, theirs, of) {
                continue;
            }
            if of == cx.me {
                // It has folded us while we were cut off: it holds so much of ours.
                if cx.acknowledged(from, last) {
                    self.holders.changed(cx);
                }
                continue;
            }
            cx.known.recall(of, last);
            if cx.known.covers_through(of, last) {
                digest::fold_too(cx, of, self.gaps.is_asking(of));
            } else {
                self.gaps.note_claim(cx, of, last, from, true);
            }
            cx.known.take_mark(of, forgotten);
        }
        digest::folded(cx, folded);
    }

    /// A pull is complete. It may turn out that this node lacked deletes which are forgotten.
    fn pull_ended(&mut self, lent: &mut Lent<'_>, conn: ConnId, end: &PullEnd) {
        let cx = &mut self.shared.lend(lent);
        let Some(ended) = self.pulls.ended(cx, conn, end) else { return };
        if ended.is_acked {
            self.holders.changed(cx);
        }
        let forgotten = HlcTime(end.forgotten);
        // Who has never held a whole copy has nothing to compare, and copies first.
        let may_reset = ended.first || !cx.ready.wants_copy();
        let owes = self.absence.has_to_compare(cx, ended.first, forgotten);
        let is_reset = may_reset && ended.reset || owes;
        if is_reset || ended.first {
            // What had expired and was forgotten before this copy, nobody here can tell.
            cx.known.forget_expiries(cx.now.wall.0);
        }
        if is_reset {
            let next = ready::hide(cx);
            self.follow(lent, next);
            let lacked = (ended.lacked, self.shared.known.floor());
            self.walk.reset(lent.now.instant, lacked, self.compare.is_active());
        } else if ended.first {
            let next = ready::copied(cx, ended.n_records);
            self.follow(lent, next);
        }
        let cx = &mut self.shared.lend(lent);
        let next = self.walk.pulled(cx, ended.from, end);
        self.follow(lent, next);
        // What we hold that the server lacks, it learns from this.
        self.digests.soon(lent.now.instant);
    }

    /// A frame handed over has been written.
    pub fn link_written(&mut self, lent: &mut Lent<'_>, conn: ConnId, len: usize) {
        ways::written(&mut self.shared.lend(lent), conn, len);
    }

    /// A connection has ended.
    pub fn link_closed(&mut self, lent: &mut Lent<'_>, conn: ConnId) {
        ways::closed(&mut self.shared.lend(lent), conn);
        self.link_lost(lent, conn);
    }

    fn link_lost(&mut self, lent: &mut Lent<'_>, conn: ConnId) {
        self.pulls.conn_lost(lent.now.instant, conn);
        self.compare.conn_lost(conn);
        self.judge.conn_lost(conn);
        self.first_copy(lent);
    }

    /// An exchange of membership's with whoever gossips there ended; `connected` says whether there
    /// was a connection.
    pub fn exchanged(&mut self, lent: &mut Lent<'_>, addr: SocketAddr, connected: bool) {
        ways::exchanged(&mut self.shared.lend(lent), addr, connected);
    }

    /// The store holds new writes of ours.
    pub fn written(&mut self, lent: &mut Lent<'_>) {
        let urgent = self.holders.is_waiting();
        if self.push.written(lent.now.instant, urgent) {
            self.flush(lent, urgent);
        }
    }

    /// Sends writes not sent yet, so many a turn.
    pub(super) fn flush(&mut self, lent: &mut Lent<'_>, urgent: bool) {
        let next = self.push.flush(&mut self.shared.lend(lent), urgent);
        self.follow(lent, next);
    }

    /// Begins to wait until enough members hold a write of ours.
    pub fn await_holders(&mut self, lent: &mut Lent<'_>, wait: Waiting) {
        if self.holders.begin(&mut self.shared.lend(lent), wait) {
            self.flush(lent, true);
            self.holders.flushed(&mut self.shared.lend(lent), wait.seq);
        }
    }

    /// Answers at once who waits for a write of a run that is over.
    pub fn await_in_vain(&mut self, lent: &mut Lent<'_>, wait: Waiting) {
        self.holders.in_vain(&mut self.shared.lend(lent), wait);
    }

    /// Ends the waits for a write of ours.
    pub fn end_wait(&mut self, lent: &mut Lent<'_>, seq: u64) {
        self.holders.end(&mut self.shared.lend(lent), seq);
    }

    /// Founds a cluster: a new node becomes ready with what it holds. Nothing for any other.
    pub fn found(&mut self, lent: &mut Lent<'_>) {
        let next = ready::found(&mut self.shared.lend(lent));
        self.follow(lent, next);
    }

    /// Asks peers that have not told how far they have come, and those that have not named this
    /// run.
    pub(in crate::node) fn greet(&mut self, lent: &mut Lent<'_>) {
        let cx = &mut self.shared.lend(lent);
        meet::introduce(cx);
        let peers = ready::to_greet(cx);
        digest::ask(cx, is_exact(&self.gaps, &self.pulls), &peers);
    }

    /// Whether a first copy has to wait: a node whose name another member has is no member.
    pub(in crate::node) fn hold_first_copy(&mut self, is_held: bool) {
        self.shared.ready.is_held = is_held;
    }

    /// Begins the first copy when it is wanted and there is somebody who serves it.
    fn first_copy(&mut self, lent: &mut Lent<'_>) {
        let next = ready::first_copy(&mut self.shared.lend(lent));
        self.follow(lent, next);
    }

    /// Begins to hand over: flushes without waiting and asks for prompt acknowledgements. First
    /// copies that this node serves go on: nobody else may have the data.
    pub fn drain(&mut self, lent: &mut Lent<'_>) {
        let cx = &mut self.shared.lend(lent);
        cx.ready.is_leaving = true;
        digest::tell_stage(cx, is_exact(&self.gaps, &self.pulls));
        self.flush(lent, true);
        self.handover.begin(&self.shared.lend(lent));
        self.drain_due(lent);
    }

    pub(super) fn drain_due(&mut self, lent: &mut Lent<'_>) {
        let cx = &mut self.shared.lend(lent);
        let told = self.handover.due(cx);
        digest::ask(cx, is_exact(&self.gaps, &self.pulls), &told);
    }

    /// Whether those who stay hold all that is held here; with nobody to look for, at once.
    pub fn is_drained(&mut self, lent: &mut Lent<'_>) -> bool {
        self.handover.is_drained(&self.shared.lend(lent))
    }

    /// Writes held here that, as far as this node knows, no member holds that stays: its own, and
    /// those of runs that are over.
    #[must_use]
    pub fn unsent(&mut self, lent: &mut Lent<'_>) -> u64 {
        self.handover.unsent(&self.shared.lend(lent))
    }

    /// Does what one mechanism leaves to another.
    pub(super) fn follow(&mut self, lent: &mut Lent<'_>, next: impl Into<Option<Next>>) {
        let Some(next) = next.into() else { return };
        let cx = &mut self.shared.lend(lent);
        let mut then = None;
        match next {
            Next::StageChanged => {
                if !cx.ready.stage().has_copies() {
                    self.pulls.refuse_first_copies(cx);
                }
                digest::tell_stage(cx, is_exact(&self.gaps, &self.pulls));
            }
            Next::Spread(envelope, settled) => self.rumors.spread(cx, envelope, settled),
            Next::Pull(peer) => self.pulls.start(cx, peer),
            Next::Mend => self.walk.mend(lent.now.instant, self.compare.is_active()),
            Next::Compare { peer, agreed, first } => self.compare.start(cx, peer, agreed, first),
            Next::CompareOn { first } => self.compare.go_on(cx, first),
            Next::WalkTold { conn, leaves } => then = self.walk.told(cx, conn, leaves),
            Next::WalkJudged { conn, more } => then = self.walk.judged(cx, conn, more),
            Next::Walked { is_reset } => {
                self.compare.end();
                cx.known.trust();
                if is_reset {
                    then = ready::compared(cx);
                }
            }
            Next::Trusted { is_alone } => {
                if is_alone {
                    self.absence.owe();
                }
                then = ready::compared(cx);
            }
        }
        self.follow(lent, then);
    }

    pub(in crate::node) fn poll(&mut self) -> Option<Out> {
        self.shared.out.pop_front()
    }
}
