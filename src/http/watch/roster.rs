//! The members as the node has told them last, with numbers that move when they do.
//!
//! ```text
//! engine: another table --bell--> run: ask the node --> another view? --> wake who waits
//! request --> look: ask the node, unless it has just told --> latest: rows and their index
//! ```
//!
//! An index is the moment at which this node came to see the rows so, and 16 bits of their hash:
//!
//! ```text
//! (ms since 2020) >> 4, above that of the view before | 16 bits of the hash
//! ```
//!
//! So it rises on a node as long as that runs, and above its former life's unless the clock was set
//! back; and nodes that see the same rows tell so by the last 16 bits, whenever each came to.

use super::latest::Latest;
use crate::node::command::{Bridge, Command, MemberStatus, MemberView, Reply};
use crate::time::WallMillis;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use xxhash_rust::xxh3::Xxh3;

/// How old what it has told may be to answer another request by, if no bell has rung since.
const YOUNG: Duration = Duration::from_secs(1);
/// How old it may be where the node does not tell now; longer than it may take to.
const OLD: Duration = Duration::from_secs(4);
/// Least time between two rounds: changes that come closer together are told together.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the node is asked by itself while somebody waits.
const IDLE: Duration = Duration::from_secs(5);
/// When it is asked again after it has not told.
const AGAIN: Duration = Duration::from_secs(2);
/// 2020-01-01, in milliseconds since 1970.
const BEGIN_MILLIS: u64 = 1_577_836_800_000;
/// So many bits of an index are of the hash.
const HASH_BITS: u32 = 16;

/// Where a view of the members is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::http) struct Mark {
    /// Rises whenever the rows are others; never 0.
    pub(in crate::http) index: u64,
    /// The hash of the rows.
    pub(in crate::http) sum: u64,
}

impl Mark {
    fn next(self, sum: u64, wall: WallMillis) -> Mark {
        if self.index != 0 && self.sum == sum {
            return self;
        }
        // An absurd clock counts as one of the year 10,000 or so.
        let millis = wall.0.saturating_sub(BEGIN_MILLIS).min(1 << 48);
        let since = (millis >> 4).max((self.index >> HASH_BITS) + 1);
        Mark { index: (since << HASH_BITS) | (sum & HASH_MASK), sum }
    }

    /// Whether this index was given for these rows, here or by another node: by chance one time in
    /// 65,536, if not.
    pub(in crate::http) fn is_told_by(self, index: u64) -> bool {
        index & HASH_MASK == self.index & HASH_MASK
    }
}

const HASH_MASK: u64 = (1 << HASH_BITS) - 1;

/// What the node has told.
#[derive(Debug, Clone)]
pub(in crate::http) struct Roster {
    /// This node first, then by name.
    pub(in crate::http) members: Vec<MemberView>,
    /// Where those are that live.
    pub(in crate::http) living: Mark,
    /// Where all are together, those too that have died or left and are not forgotten yet.
    pub(in crate::http) all: Mark,
    /// How often the bell had rung before the node was asked.
    n_rung: u64,
}

/// Keeps the latest one.
pub(in crate::http) struct Rosters {
    bridge: Arc<dyn Bridge>,
    latest: Latest<Roster>,
    bell: Arc<TableBell>,
    changed: watch::Sender<(Mark, Mark)>,
}

/// Rung by the engine.
#[derive(Default)]
struct TableBell {
    n_rung: AtomicU64,
    rung: Notify,
}

impl Rosters {
    pub(in crate::http) fn new(bridge: Arc<dyn Bridge>) -> Arc<Rosters> {
        let bell = Arc::<TableBell>::default();
        let to_ring = Arc::clone(&bell);
        bridge.on_members_changed(Box::new(move || {
            to_ring.n_rung.fetch_add(1, Ordering::Release);
            to_ring.rung.notify_one();
        }));
        let (changed, _) = watch::channel(<(Mark, Mark)>::default());
        Arc::new(Rosters { latest: Latest::new(Arc::clone(&bridge)), bridge, bell, changed })
    }

    /// Tells of changes to the members from now on.
    pub(in crate::http) fn watch(&self) -> MembersWatch {
        MembersWatch(self.changed.subscribe())
    }

    /// Those who wait.
    pub(in crate::http) fn n_watches(&self) -> usize {
        self.changed.receiver_count()
    }

    /// What the node has told last; `None` when that is too long ago.
    pub(in crate::http) fn latest(&self) -> Option<Arc<Roster>> {
        self.latest.within(OLD)
    }

    /// Has the node tell, unless it has just done so. True when it did.
    pub(in crate::http) async fn look(&self) -> bool {
        let n_rung = self.n_rung();
        self.latest.within(YOUNG).is_some_and(|latest| latest.n_rung == n_rung) || self.ask().await
    }

    async fn ask(&self) -> bool {
        let n_rung = self.n_rung();
        let read = |reply| match reply {
            Reply::Members(members) => Some(self.next(members, n_rung)),
            _ => None,
        };
        let Some(told) = self.latest.ask(Command::Members, read).await else { return false };
        self.changed.send_if_modified(|known| {
            let is_other = *known != (told.living, told.all);
            *known = (told.living, told.all);
            is_other
        });
        true
    }

    fn n_rung(&self) -> u64 {
        self.bell.n_rung.load(Ordering::Acquire)
    }

    fn next(&self, members: Vec<MemberView>, n_rung: u64) -> Roster {
        let [living, all] = sums(&members);
        let wall = self.bridge.now().wall;
        let before = self.latest.get();
        let (was_living, was_all) = before.map(|was| (was.living, was.all)).unwrap_or_default();
        let (living, all) = (was_living.next(living, wall), was_all.next(all, wall));
        Roster { members, living, all, n_rung }
    }

    /// Looks for changes for as long as it is polled, while somebody waits for them.
    pub(in crate::http) async fn run(self: Arc<Rosters>) {
        let mut idle = tokio::time::interval(IDLE);
        idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.bell.rung.notified() => {}
                _ = idle.tick() => {}
            }
            if self.n_watches() > 0 && !self.ask().await {
                // It is asked again soon.
                idle.reset_after(AGAIN);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether a member is taken for alive.
pub(in crate::http) fn is_living(member: &MemberView) -> bool {
    matches!(member.state, MemberStatus::Alive | MemberStatus::Suspect)
}

/// Hashes of the rows of those that live, and of all rows, in any order and on any node.
fn sums(members: &[MemberView]) -> [u64; 2] {
    let mut sums = [0_u64; 2];
    for member in members {
        let mut hash = Xxh3::new();
        hash.update(member.name.as_bytes());
        // No name has such a byte.
        hash.update(&[0xff, u8::from(member.kv), u8::from(is_living(member))]);
        let state = if is_living(member) { "" } else { member.state.as_str() };
        hash.update(format!("{} {state}", member.address).as_bytes());
        let sum = hash.digest();
        sums[1] = sums[1].wrapping_add(sum);
        if is_living(member) {
            sums[0] = sums[0].wrapping_add(sum);
        }
    }
    sums
}

/// Waits for the members to change.
pub(in crate::http) struct MembersWatch(watch::Receiver<(Mark, Mark)>);

impl MembersWatch {
    /// Returns when they have changed since this began or returned last. Can be dropped and called
    /// again.
    pub(in crate::http) async fn rung(&mut self) {
        if self.0.changed().await.is_err() {
            // They change no more.
            std::future::pending::<()>().await;
        }
    }

    /// What has changed so far is known.
    pub(in crate::http) fn take(&mut self) {
        self.0.mark_unchanged();
    }
}
