//! Bulk copies: "send me all I lack", for joiners and for those who have been away.
//!
//! ```text
//! asker  --Pull{heads, folded}-->  server
//!        <--Supply records ...--           shard by shard, as fast as the window lets them
//!        <--PullEnd{heads, ..}--           only now are the heads claimed
//! ```
//!
//! The server remembers what it held when it began; all of that which the asker lacked has been
//! sent before the end. The scan goes one shard at a time, so that probes never wait for it.
//!
//! After each chunk the server pauses for longer than the asker needs to merge it. So neither is
//! busy all the time, and whoever shares their processors hardly waits: a copy in a hurry is done
//! in half the time, and the slowest in a hundred reads of other clients take many times longer.

use crate::kv::{Dot, HlcTime, OriginId, Record};
use crate::limits::{PULLS_SERVED_MAX, STORE_SHARDS, TURN_RECORDS_MAX};
use crate::mutation::mutated;
use crate::node::io::ConnId;
use crate::node::links::Links;
use crate::node::replication::capacity;
use crate::node::replication::context::Context;
use crate::node::replication::facts::floor::FLOOR;
use crate::node::replication::facts::known::Claims;
use crate::node::replication::facts::peers::{Peer, Peers};
use crate::node::replication::floor;
use crate::node::replication::meet;
use crate::node::replication::message::{
    Busy, FoldedList, Heads, KvMessage, Pull, PullEnd, Supply,
};
use crate::node::replication::next::Next;
use crate::node::replication::repair::marks;
use crate::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// A pull without a frame for this long is given up, and tried elsewhere.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// What a busy server asks for.
const BUSY_RETRY_MS: u32 = 200;
/// The same of one that cannot read what is held here.
const UNREAD_RETRY_MS: u32 = 5_000;
/// Bytes of records in one frame, about: what an asker merges in a fraction of a millisecond.
const CHUNK_LEN: usize = 16 << 10;
/// Pause for each record sent, and for each kibibyte: about twice what they cost an asker.
const PAUSE_RECORD: Duration = Duration::from_nanos(1_400);
const PAUSE_KIB: Duration = Duration::from_nanos(500);

/// The pull we have asked for.
#[derive(Debug)]
struct Asked {
    from: OriginId,
    conn: Option<ConnId>,
    last_heard: Instant,
    n_records: u64,
    /// Whether this node is ready when it is complete.
    first: bool,
}

/// A pull we serve.
#[derive(Debug)]
struct Served {
    conn: ConnId,
    asker: Claims,
    fresh: bool,
    first: bool,
    heads: Heads,
    folded: FoldedList,
    /// The shard that is being gone through, and up to which record that has been done.
    shard: usize,
    after: Option<Record>,
    /// The shard that what waits is from.
    waiting_from: usize,
    waiting: VecDeque<Record>,
    /// The end of the pause.
    not_before: Instant,
}

/// How far a step of serving came.
enum Step {
    /// There is more to send.
    Sent,
    Ended,
    /// A shard was damaged: this node has no whole copy to give.
    Damaged,
}

/// What a complete pull was.
#[derive(Debug)]
pub(in crate::node) struct Ended {
    /// Who served it.
    pub(in crate::node) from: OriginId,
    /// How many records came.
    pub(in crate::node) n_records: u64,
    /// Whether it was a first copy from a ready peer.
    pub(in crate::node) first: bool,
    /// Forgotten deletes that this node lacked before.
    pub(in crate::node) lacked: Vec<Dot>,
    /// Whether it has to compare everything for that.
    pub(in crate::node) reset: bool,
    /// Whether the server turned out to hold more of our writes.
    pub(in crate::node) is_acked: bool,
}

/// All pulls.
#[derive(Debug, Default)]
pub(in crate::node) struct Pulls {
    asked: Option<Asked>,
    not_before: Instant,
    served: Vec<Served>,
    pub(in crate::node) started_total: u64,
    pub(in crate::node) completed_total: u64,
    pub(in crate::node) served_total: u64,
    pub(in crate::node) refused_total: u64,
    pub(in crate::node) records_in_total: u64,
}

impl Pulls {
    pub(in crate::node) fn is_active(&self) -> bool {
        self.asked.is_some()
    }

    pub(in crate::node) fn n_served(&self) -> usize {
        self.served.len()
    }

    /// Serving goes on after its pause where there is room; where there is none, `Sent` wakes us.
    pub(in crate::node) fn deadline(&self, links: &Links) -> Instant {
        let able = self.served.iter().filter(|served| links.has_room(served.conn, CHUNK_LEN));
        let work = able.map(|served| served.not_before).min();
        let silent = self.asked.as_ref().map(|asked| asked.last_heard + SILENCE_MAX);
        [work, silent].into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }

    /// A peer is gone.
    pub(in crate::node) fn lost(&mut self, origin: OriginId) {
        if self.asked.as_ref().is_some_and(|asked| asked.from == origin) {
            self.asked = None;
        }
    }

    /// A connection is gone.
    pub(in crate::node) fn conn_lost(&mut self, now: Instant, conn: ConnId) {
        self.served.retain(|served| served.conn != conn);
        if self.asked.as_ref().is_some_and(|asked| asked.conn == Some(conn)) {
            self.asked = None;
            self.not_before = now + Duration::from_millis(50);
        }
    }
}

impl Pulls {
    /// Asks `peer` for all we lack; nothing when a pull is under way.
    pub(in crate::node) fn start(&mut self, cx: &mut Context<'_>, peer: OriginId) {
        let waits = cx.now.instant < self.not_before || capacity::is_short(cx);
        if self.asked.is_some() || waits {
            return;
        }
        // A reset pulls before it walks: it, too, is ready when all is done.
        let first = (cx.ready.wants_copy() || cx.ready.is_resetting())
            && cx.peers.get(peer).is_some_and(Peer::has_copies);
        let pull = Pull {
            from: cx.me.0,
            heads: cx.known.heads(cx.store.last_seq()),
            folded: cx.known.folded_list(),
            fresh: cx.store.stats().n_live == 0,
            to: Some(peer.0),
            first: Some(first),
            #[cfg(feature = "next-format")]
            played: cx.played_field(),
        };
        if !cx.link_send(peer, KvMessage::Pull(pull).encode()) {
            return;
        }
        let conn = cx.peers.get(peer).and_then(|peer| peer.link);
        self.started_total += 1;
        self.asked =
            Some(Asked { from: peer, conn, last_heard: cx.now.instant, n_records: 0, first });
    }

    /// Records have come on this connection. Whether they belong to the pull that is asked for.
    pub(in crate::node) fn heard(&mut self, now: Instant, conn: ConnId, n_records: usize) -> bool {
        let asked = self.asked.as_mut().filter(|asked| asked.conn == Some(conn));
        let Some(asked) = asked else { return false };
        asked.last_heard = now;
        asked.n_records += n_records as u64;
        self.records_in_total += n_records as u64;
        true
    }

    /// The pull that is asked for is complete: what the server holds is held here, too.
    pub(in crate::node) fn ended(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        end: &PullEnd,
    ) -> Option<Ended> {
        let asked = self.asked.take_if(|asked| asked.conn == Some(conn))?;
        self.completed_total += 1;
        // Whoever had the list at which the server has cut its own lacks nothing for that.
        let theirs = floor::listed(&end.folded);
        let has_cut = theirs > cx.known.floor() && floor::follow(cx, theirs);
        let was_away = floor::was_away(cx, asked.from, theirs);
        let mut lacked = marks::lacked(cx, end);
        let reset = was_away || end.reset && !(has_cut && lacked.is_empty());
        lacked.extend(was_away.then_some(Dot { origin: FLOOR, seq: theirs }));
        for &(of, through) in &end.heads {
            if OriginId(of) != cx.me {
                cx.known.claim(OriginId(of), through + u64::from(mutated!(ClaimMore)));
            }
        }
        if asked.first || was_away {
            floor::take(cx, theirs, end);
        }
        for &(of, last, _) in &end.folded {
            let of = OriginId(of);
            if of != cx.me && !floor::is_stale(cx, theirs, of) {
                cx.known.claim(of, last);
                if !cx.peers.is_member(of) {
                    cx.known.fold(of);
                }
            }
        }
        let is_acked = marks::take(cx, asked.from, end);
        if let Some(peer) = cx.peers.get_mut(asked.from) {
            peer.holds(&end.heads);
        }
        cx.known.forget_through(HlcTime(end.forgotten));
        if theirs > 0 {
            end.heads.iter().for_each(|(of, _)| cx.known.put_above_floor(OriginId(*of)));
        }
        cx.known.settle_copy();
        let Asked { from, n_records, first, .. } = asked;
        Some(Ended { from, n_records, first, lacked, reset, is_acked })
    }

    /// The server does not serve now.
    pub(in crate::node) fn refused(&mut self, now: Instant, conn: ConnId, busy: &Busy) {
        if self.asked.take_if(|asked| asked.conn == Some(conn)).is_some() {
            let wait = Duration::from_millis(u64::from(busy.retry_ms.min(5000)));
            self.not_before = now + wait;
        }
    }

    /// Gives up a pull that has fallen silent.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) {
        let silent = |asked: &mut Asked| cx.now.instant.since(asked.last_heard) >= SILENCE_MAX;
        if let Some(asked) = self.asked.take_if(silent)
            && let Some(conn) = asked.conn
        {
            cx.links.close(conn);
            if let Some(peer) = cx.peers.get_mut(asked.from) {
                peer.link = None;
            }
        }
    }

    /// A first copy for which there is no room ends where it is.
    pub(in crate::node) fn end_without_room(&mut self, cx: &mut Context<'_>) {
        if capacity::is_short(cx)
            && let Some(conn) = self.asked.take().and_then(|asked| asked.conn)
        {
            cx.links.close(conn);
        }
    }

    /// Server: begins to serve a pull, or refuses.
    pub(in crate::node) fn requested(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        pull: &Pull,
    ) -> Option<Next> {
        cx.links.seen(conn, Some(OriginId(pull.from)));
        #[cfg(feature = "next-format")]
        {
            cx.counters.played_total += u64::from(pull.played.is_some());
        }
        self.served.retain(|served| served.conn != conn);
        if pull.to.is_some_and(|to| to != cx.me.0) {
            // Somebody else was here before; membership has not told everybody yet.
            self.refused_total += 1;
            cx.links.close(conn);
            return None;
        }
        meet::named(cx, OriginId(pull.from), pull.to);
        // Who speaks a format without that word may be making its first copy.
        let first = pull.first != Some(false);
        let unable = first && !cx.ready.stage().has_copies() && !mutated!(CopyFromAnybody);
        let unread = cx.peers.is_incompatible(OriginId(pull.from));
        let unfit = unable || unread || cx.is_unfit(OriginId(pull.from));
        if unfit || self.served.len() >= PULLS_SERVED_MAX {
            self.refused_total += 1;
            let retry_ms = if unread { UNREAD_RETRY_MS } else { BUSY_RETRY_MS };
            let busy = Busy { retry_ms };
            cx.answer(conn, KvMessage::Busy(busy).encode());
            return None;
        }
        if let Some(peer) = cx.peers.get_mut(OriginId(pull.from)) {
            peer.heard(cx.now.instant);
            peer.holds(&pull.heads);
        }
        self.served_total += 1;
        self.served.push(Served {
            conn,
            asker: Claims::new(&pull.heads, &pull.folded),
            fresh: pull.fresh,
            first,
            heads: cx.known.heads(cx.store.last_seq()),
            folded: cx.known.folded_list(),
            shard: 0,
            after: None,
            waiting_from: 0,
            waiting: VecDeque::new(),
            not_before: cx.now.instant,
        });
        self.serve(cx)
    }

    /// Ends the first copies that this node serves: it is not ready any more.
    pub(in crate::node) fn refuse_first_copies(&mut self, cx: &mut Context<'_>) {
        for served in self.served.extract_if(.., |served| served.first) {
            self.refused_total += 1;
            let busy = Busy { retry_ms: BUSY_RETRY_MS };
            cx.answer(served.conn, KvMessage::Busy(busy).encode());
        }
    }

    /// Whom this node copies from, and how many records have come.
    pub(in crate::node) fn copying_from(&self, peers: &Peers) -> Option<(String, u64)> {
        let asked = self.asked.as_ref().filter(|asked| asked.first)?;
        let name = peers.get(asked.from)?.info.name.to_string();
        Some((name, asked.n_records))
    }

    /// One step of each pull served: so many records of a shard scanned and one chunk sent.
    pub(in crate::node) fn serve(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let mut is_damaged = false;
        self.served.retain_mut(|served| {
            let is_able = cx.links.has_room(served.conn, CHUNK_LEN);
            if !is_able || served.not_before > cx.now.instant {
                return cx.links.is_open(served.conn);
            }
            match served.step(cx) {
                Step::Sent => true,
                Step::Ended => false,
                Step::Damaged => {
                    is_damaged = true;
                    false
                }
            }
        });
        is_damaged.then_some(Next::Mend)
    }
}

impl Served {
    /// Goes on through a shard when nothing waits to be sent.
    fn scan(&mut self, cx: &Context<'_>) {
        if !self.waiting.is_empty() || self.shard >= STORE_SHARDS {
            return;
        }
        let after = self.after.take();
        let (_, last) =
            cx.store.scan_some(self.shard, after.as_ref(), TURN_RECORDS_MAX, |record| {
                let left_out = mutated!(CopyLiveOnly) && record.is_tombstone();
                if !self.asker.covers(cx.known.known_as(record)) && !left_out {
                    self.waiting.push_back(record.clone());
                }
            });
        self.waiting_from = self.shard;
        self.shard += usize::from(last.is_none());
        self.after = last;
    }

    /// Scans what has to be, and sends a chunk.
    fn step(&mut self, cx: &mut Context<'_>) -> Step {
        self.scan(cx);
        let (mut records, mut len) = (Vec::new(), 0);
        while len < CHUNK_LEN
            && let Some(record) = self.waiting.pop_front()
        {
            if !record.is_sound() {
                let is_damaged = cx.drop_damaged(self.waiting_from);
                cx.links.close(self.conn);
                return if is_damaged { Step::Damaged } else { Step::Ended };
            }
            len += record.as_bytes().len();
            records.push(record);
        }
        if !records.is_empty() {
            self.not_before = cx.now.instant + pause(records.len(), len);
            let supply = Supply { from: cx.me.0, observe: false };
            cx.answer(self.conn, KvMessage::Supply(supply, records).payload());
        }
        if !self.waiting.is_empty() || self.shard < STORE_SHARDS {
            return Step::Sent;
        }
        let mut end = PullEnd {
            heads: std::mem::take(&mut self.heads),
            folded: std::mem::take(&mut self.folded),
            forgotten: cx.known.forgotten_time().0,
            reset: !self.fresh && cx.known.is_behind(&self.asker),
            marks: None,
        };
        marks::add(cx, &mut end);
        cx.answer(self.conn, KvMessage::PullEnd(end).encode());
        if self.first {
            // A peer has a complete first copy of this node's store now.
            cx.ready.has_served = true;
        }
        Step::Ended
    }
}

/// How long an asker is busy with a chunk of `n` records and `len` bytes.
fn pause(n: usize, len: usize) -> Duration {
    let (n, kib) = (u32::try_from(n), u32::try_from(len / 1024));
    PAUSE_RECORD * n.unwrap_or(u32::MAX) + PAUSE_KIB * kib.unwrap_or(u32::MAX)
}
