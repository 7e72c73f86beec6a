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

use super::Replication;
use super::known::Claims;
use super::links::Links;
use super::message::{Busy, FoldedList, Heads, KvMessage, Pull, PullEnd, Supply};
use crate::kv::{HlcTime, OriginId, Record};
use crate::limits::{PULLS_SERVED_MAX, STORE_SHARDS};
use crate::mutation::mutated;
use crate::node::io::ConnId;
use crate::time::{Instant, Now};
use std::collections::VecDeque;
use std::time::Duration;

/// A pull without a frame for this long is given up, and tried elsewhere.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// What a busy server asks for.
const BUSY_RETRY_MS: u32 = 200;
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
    next_shard: usize,
    waiting: VecDeque<Record>,
    /// The end of the pause.
    not_before: Instant,
}

/// All pulls.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    asked: Option<Asked>,
    not_before: Instant,
    served: Vec<Served>,
    pub(super) started_total: u64,
    pub(super) completed_total: u64,
    pub(super) served_total: u64,
    pub(super) refused_total: u64,
    pub(super) records_in_total: u64,
}

impl Pulls {
    pub(super) fn is_active(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) fn n_served(&self) -> usize {
        self.served.len()
    }

    /// Serving goes on after its pause where there is room; where there is none, `Sent` wakes us.
    pub(super) fn deadline(&self, links: &Links) -> Instant {
        let able = self.served.iter().filter(|served| links.has_room(served.conn, CHUNK_LEN));
        let work = able.map(|served| served.not_before).min();
        let silent = self.asked.as_ref().map(|asked| asked.last_heard + SILENCE_MAX);
        [work, silent].into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }

    /// A peer is gone.
    pub(super) fn lost(&mut self, origin: OriginId) {
        if self.asked.as_ref().is_some_and(|asked| asked.from == origin) {
            self.asked = None;
        }
    }

    /// A connection is gone.
    pub(super) fn conn_lost(&mut self, now: Instant, conn: ConnId) {
        self.served.retain(|served| served.conn != conn);
        if self.asked.as_ref().is_some_and(|asked| asked.conn == Some(conn)) {
            self.asked = None;
            self.not_before = now + Duration::from_millis(50);
        }
    }
}

impl Replication {
    /// Asks `peer` for all we lack; nothing when a pull is under way.
    pub(super) fn start_pull(&mut self, now: Now, peer: OriginId) {
        if self.pulls.asked.is_some() || now.instant < self.pulls.not_before {
            return;
        }
        // A reset pulls before it walks: it, too, is ready when all is done.
        let first = (self.shared.ready.wants_copy() || self.is_resetting())
            && self.shared.peers.get(peer).is_some_and(super::peers::Peer::has_copies);
        let pull = Pull {
            from: self.shared.me.0,
            heads: self.shared.known.heads(self.shared.store.last_seq()),
            folded: self.shared.known.folded_list(),
            fresh: self.shared.store.stats().n_live == 0,
            to: Some(peer.0),
            first: Some(first),
            #[cfg(feature = "next-format")]
            played: self.cx(now).played_field(),
        };
        if !self.cx(now).link_send(peer, KvMessage::Pull(pull).encode()) {
            return;
        }
        let conn = self.shared.peers.get(peer).and_then(|peer| peer.link);
        self.pulls.started_total += 1;
        self.pulls.asked =
            Some(Asked { from: peer, conn, last_heard: now.instant, n_records: 0, first });
    }

    /// Records of a pull or of a comparison, or deletes past a lost write.
    pub(super) fn supplied(&mut self, now: Now, conn: ConnId, supply: &Supply, records: &[Record]) {
        let pull = self.pulls.asked.as_mut().filter(|asked| asked.conn == Some(conn));
        let is_asked = supply.observe || pull.is_some();
        if let Some(asked) = pull {
            asked.last_heard = now.instant;
            asked.n_records += records.len() as u64;
            self.pulls.records_in_total += records.len() as u64;
        }
        let (n_newer, _) = super::receive::apply(&mut self.cx(now), records, supply.observe);
        match (n_newer > 0, is_asked) {
            (true, true) if !supply.observe => self.tails.unclaimed_came(),
            (true, false) => self.tails.heard(&self.shared.lend(now, &mut self.links)),
            _ => {}
        }
    }

    pub(super) fn pull_ended(&mut self, now: Now, conn: ConnId, end: &PullEnd) {
        let Some(asked) = self.pulls.asked.take_if(|asked| asked.conn == Some(conn)) else {
            return;
        };
        self.pulls.completed_total += 1;
        let lacked = self.lacked(end);
        for &(of, through) in &end.heads {
            if OriginId(of) != self.shared.me {
                self.shared.known.claim(OriginId(of), through + u64::from(mutated!(ClaimMore)));
            }
        }
        for &(of, last, _) in &end.folded {
            let of = OriginId(of);
            if of != self.shared.me {
                self.shared.known.claim(of, last);
                if !self.shared.peers.is_member(of) {
                    self.shared.known.fold(of);
                }
            }
        }
        self.take_marks(now, asked.from, end);
        if let Some(peer) = self.shared.peers.get_mut(asked.from) {
            peer.holds(&end.heads);
        }
        let forgotten = HlcTime(end.forgotten);
        self.shared.known.forget_through(forgotten);
        if end.reset || self.has_to_compare(asked.first, forgotten) {
            self.hide(now);
            self.walk.reset(now.instant, lacked, self.compare.is_active());
        } else if asked.first {
            self.copied(now, asked.n_records);
        }
        let cx = &mut self.shared.lend(now, &mut self.links);
        let next = self.walk.pulled(cx, asked.from, end);
        self.follow(now, next);
        // What we hold that the server lacks, it learns from this.
        self.digests.soon(now.instant);
    }

    pub(super) fn pull_refused(&mut self, now: Now, conn: ConnId, busy: &Busy) {
        if self.pulls.asked.take_if(|asked| asked.conn == Some(conn)).is_some() {
            let wait = Duration::from_millis(u64::from(busy.retry_ms.min(5000)));
            self.pulls.not_before = now.instant + wait;
        }
    }

    /// Gives up a pull that has fallen silent.
    pub(super) fn pull_due(&mut self, now: Now) {
        let silent = |asked: &mut Asked| now.instant.since(asked.last_heard) >= SILENCE_MAX;
        if let Some(asked) = self.pulls.asked.take_if(silent)
            && let Some(conn) = asked.conn
        {
            self.links.close(conn);
            if let Some(peer) = self.shared.peers.get_mut(asked.from) {
                peer.link = None;
            }
        }
    }

    pub(super) fn pull_asked(&mut self, now: Now, conn: ConnId, pull: &Pull) {
        self.links.seen(conn, Some(OriginId(pull.from)));
        #[cfg(feature = "next-format")]
        {
            self.shared.counters.played_total += u64::from(pull.played.is_some());
        }
        self.pulls.served.retain(|served| served.conn != conn);
        if pull.to.is_some_and(|to| to != self.shared.me.0) {
            // Somebody else was here before; membership has not told everybody yet.
            self.pulls.refused_total += 1;
            self.links.close(conn);
            return;
        }
        // Who speaks a format without that word may be making its first copy.
        let first = pull.first != Some(false);
        let unable = first && !self.shared.ready.stage().has_copies() && !mutated!(CopyFromAnybody);
        let unfit = unable || self.cx(now).is_unfit(OriginId(pull.from));
        if unfit || self.pulls.served.len() >= PULLS_SERVED_MAX {
            self.pulls.refused_total += 1;
            let busy = Busy { retry_ms: BUSY_RETRY_MS };
            self.links.send(conn, KvMessage::Busy(busy).encode());
            return;
        }
        if let Some(peer) = self.shared.peers.get_mut(OriginId(pull.from)) {
            peer.heard(now.instant);
            peer.holds(&pull.heads);
        }
        self.pulls.served_total += 1;
        self.pulls.served.push(Served {
            conn,
            asker: Claims::new(&pull.heads, &pull.folded),
            fresh: pull.fresh,
            first,
            heads: self.shared.known.heads(self.shared.store.last_seq()),
            folded: self.shared.known.folded_list(),
            next_shard: 0,
            waiting: VecDeque::new(),
            not_before: now.instant,
        });
        self.serve(now);
    }

    /// Ends the first copies that this node serves: it is not ready any more.
    pub(super) fn refuse_first_copies(&mut self) {
        for served in self.pulls.served.extract_if(.., |served| served.first) {
            self.pulls.refused_total += 1;
            let busy = Busy { retry_ms: BUSY_RETRY_MS };
            self.links.send(served.conn, KvMessage::Busy(busy).encode());
        }
    }

    /// Whom this node copies from, and how many records have come.
    pub(super) fn copying_from(&self) -> Option<(String, u64)> {
        let asked = self.pulls.asked.as_ref().filter(|asked| asked.first)?;
        let name = self.shared.peers.get(asked.from)?.info.name.to_string();
        Some((name, asked.n_records))
    }

    /// One step of each pull served: at most one shard scanned and one chunk sent.
    pub(super) fn serve(&mut self, now: Now) {
        let mut served = std::mem::take(&mut self.pulls.served);
        served.retain_mut(|served| {
            let is_able = self.links.has_room(served.conn, CHUNK_LEN);
            if is_able && served.not_before <= now.instant {
                self.serve_step(now, served)
            } else {
                self.links.is_open(served.conn)
            }
        });
        self.pulls.served = served;
    }

    /// False when the pull has been served to its end.
    fn serve_step(&mut self, now: Now, served: &mut Served) -> bool {
        if served.waiting.is_empty() && served.next_shard < STORE_SHARDS {
            self.shared.store.scan_shard(served.next_shard, |record| {
                let left_out = mutated!(CopyLiveOnly) && record.is_tombstone();
                if !served.asker.covers(record.dot()) && !left_out {
                    served.waiting.push_back(record.clone());
                }
            });
            served.next_shard += 1;
        }
        let (mut records, mut len) = (Vec::new(), 0);
        while len < CHUNK_LEN
            && let Some(record) = served.waiting.pop_front()
        {
            if !record.is_sound() {
                if self.cx(now).drop_damaged(served.next_shard - 1) {
                    self.walk.mend(now.instant, self.compare.is_active());
                }
                self.links.close(served.conn);
                return false;
            }
            len += record.as_bytes().len();
            records.push(record);
        }
        if !records.is_empty() {
            served.not_before = now.instant + pause(records.len(), len);
            let supply = Supply { from: self.shared.me.0, observe: false };
            self.links.send(served.conn, KvMessage::Supply(supply, records).payload());
        }
        if !served.waiting.is_empty() || served.next_shard < STORE_SHARDS {
            return true;
        }
        let mut end = PullEnd {
            heads: std::mem::take(&mut served.heads),
            folded: std::mem::take(&mut served.folded),
            forgotten: self.shared.known.forgotten_time().0,
            reset: !served.fresh && self.shared.known.is_behind(&served.asker),
            marks: None,
        };
        self.add_marks(&mut end);
        self.links.send(served.conn, KvMessage::PullEnd(end).encode());
        if served.first {
            self.has_been_copied();
        }
        false
    }
}

/// How long an asker is busy with a chunk of `n` records and `len` bytes.
fn pause(n: usize, len: usize) -> Duration {
    let (n, kib) = (u32::try_from(n), u32::try_from(len / 1024));
    PAUSE_RECORD * n.unwrap_or(u32::MAX) + PAUSE_KIB * kib.unwrap_or(u32::MAX)
}
