//! What another node has named in a comparison, judged against what is here: a part in each turn.
//!
//! A message of a few kilobytes can name leaves of sixteen shards, and to judge a leaf means to
//! pass through its shard: at ten million keys that is half a second. So a job keeps its place,
//! and many turns of the engine do it, with time for others between them. Each record is judged as
//! it is when it is passed; what is found to be absent is looked for once more at the end.

use crate::kv::{Record, Store};
use crate::limits::{COMPARED_RECORDS_LEN_MAX, COMPARED_RECORDS_MAX, JUDGED_MAX, TURN_RECORDS_MAX};
use crate::node::io::ConnId;
use crate::node::replication::context::Context;
use crate::node::replication::message::{Busy, Item, Items, KvMessage, Name, Verdicts};
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Shards whose records are judged for one message: of others nothing is said but that there are
/// more.
pub(in crate::node) const SHARDS_MAX: usize = 16;
/// Time between two turns that judge.
const TURN: Duration = Duration::from_millis(1);
/// What a node asks for that has too much to judge.
const BUSY_RETRY_MS: u32 = 200;

/// The names of one leaf, or of more, by key.
type Named = BTreeMap<usize, BTreeMap<Name, Item>>;

/// The comparisons that others have asked for.
#[derive(Debug)]
pub(in crate::node) struct Judge {
    jobs: VecDeque<Job>,
    next: Instant,
}

impl Default for Judge {
    fn default() -> Judge {
        Judge { jobs: VecDeque::new(), next: Instant::ZERO }
    }
}

/// One message.
#[derive(Debug)]
struct Job {
    conn: ConnId,
    /// What is named in shards that have not been passed to their end.
    shards: VecDeque<(usize, Named)>,
    /// Up to which record the first of them has been passed.
    after: Option<Record>,
    verdicts: Verdicts,
    newer: Vec<Record>,
    newer_len: usize,
}

impl Judge {
    pub(in crate::node) fn deadline(&self) -> Instant {
        if self.jobs.is_empty() { Instant::NEVER } else { self.next }
    }

    /// A connection is gone.
    pub(in crate::node) fn conn_lost(&mut self, conn: ConnId) {
        self.jobs.retain(|job| job.conn != conn);
    }

    /// Somebody has named what it holds in some leaves: judges it, or begins to.
    pub(in crate::node) fn asked(&mut self, cx: &mut Context<'_>, conn: ConnId, items: Items) {
        if cx.refuses_comparison(conn) {
            return;
        }
        if self.jobs.len() >= JUDGED_MAX {
            cx.answer(conn, KvMessage::Busy(Busy { retry_ms: BUSY_RETRY_MS }).encode());
            return;
        }
        cx.counters.compared_total += 1;
        self.jobs.push_back(Job::new(conn, items));
        if self.jobs.len() == 1 && self.next <= cx.now.instant {
            self.work(cx);
        }
    }

    /// Goes on when it is time.
    pub(in crate::node) fn due(&mut self, cx: &mut Context<'_>) {
        if self.deadline() <= cx.now.instant {
            self.work(cx);
        }
    }

    fn work(&mut self, cx: &mut Context<'_>) {
        let mut room = TURN_RECORDS_MAX;
        while room > 0
            && let Some(job) = self.jobs.front_mut()
        {
            room -= job.go_on(cx, room);
            if job.shards.is_empty()
                && let Some(job) = self.jobs.pop_front()
            {
                cx.answer(job.conn, KvMessage::Verdicts(job.verdicts, job.newer).payload());
            }
        }
        if room == 0 {
            self.next = cx.now.instant + TURN;
        }
    }
}

impl Job {
    fn new(conn: ConnId, items: Items) -> Job {
        let mut shards: BTreeMap<usize, Named> = BTreeMap::new();
        for (shard, leaf, theirs) in items.leaves {
            let leaves = shards.entry(usize::from(shard)).or_default();
            let named = theirs.into_iter().map(|item| (item.key.clone(), item));
            leaves.entry(usize::from(leaf)).or_default().extend(named);
        }
        let more = items.more || shards.len() > SHARDS_MAX;
        Job {
            conn,
            shards: shards.into_iter().take(SHARDS_MAX).collect(),
            after: None,
            verdicts: Verdicts { need: Vec::new(), drop: Vec::new(), more },
            newer: Vec::new(),
            newer_len: 0,
        }
    }

    /// Passes up to `n_max` records; returns how many, and at least one for each shard.
    fn go_on(&mut self, cx: &Context<'_>, n_max: usize) -> usize {
        let mut n_passed = 0;
        while n_passed < n_max
            && let Some((shard, mut named)) = self.shards.pop_front()
        {
            let after = self.after.take();
            let mut found = Vec::new();
            let (n, last) = cx.store.scan_some(shard, after.as_ref(), n_max - n_passed, |ours| {
                if let Some(theirs) = named.get_mut(&Store::bucket(ours.key()).1) {
                    found.push((ours.clone(), theirs.remove(ours.key())));
                }
            });
            for (ours, theirs) in found {
                self.judge(&ours, theirs);
            }
            n_passed += n.max(1);
            if last.is_some() {
                self.shards.push_front((shard, named));
                self.after = last;
                break;
            }
            for item in named.into_values().flat_map(BTreeMap::into_values) {
                self.judge_absent(cx, item);
            }
        }
        n_passed
    }

    fn is_full(&self) -> bool {
        self.newer_len >= COMPARED_RECORDS_LEN_MAX || self.newer.len() >= COMPARED_RECORDS_MAX
    }

    fn push(&mut self, record: &Record) {
        self.newer_len += record.as_bytes().len();
        self.newer.push(record.clone());
    }

    /// Judges one of our records by what they have named under its key. Each name gets its verdict,
    /// also when there is no room for more records.
    fn judge(&mut self, ours: &Record, theirs: Option<Item>) {
        match theirs {
            Some(item) if item.stamp() > ours.stamp() => self.verdicts.need.push(item.key),
            // One version with two contents: both sides get both, and the same one stays.
            Some(item) if item.stamp() == ours.stamp() && item.check == ours.check() => {}
            Some(_) | None if self.is_full() => self.verdicts.more = true,
            Some(item) if item.stamp() == ours.stamp() => {
                self.verdicts.need.push(item.key);
                self.push(ours);
            }
            Some(_) | None => self.push(ours),
        }
    }

    /// Judges what they have named and was not passed here: it may have come meanwhile.
    fn judge_absent(&mut self, cx: &Context<'_>, item: Item) {
        if let Some(ours) = cx.store.entry(&item.key) {
            self.judge(&ours, Some(item));
        } else if cx.known.is_deleted(item.dot(), item.stamp().time) {
            self.verdicts.drop.push(item);
        } else {
            self.verdicts.need.push(item.key);
        }
    }
}
