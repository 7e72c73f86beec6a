//! Keys that expire: clients of their own in half of the runs, and what must hold of such keys.
//!
//! They draw from a generator of their own and use keys of their own, so a run with them is the
//! same in all else. At every look, of each node:
//!
//! - What has expired by the node's own clocks is not shown.
//! - What it holds was written by somebody: an expiry makes no version of its own.
//! - It goes back to no earlier version of a key, and not from an expired form to a live one.
//! - Nothing has expired, or is dropped, before its time by the clock that is ahead of all others.
//! - The latest version that anybody was seen to hold is held by somebody, or a later one is, as
//!   long as one of those who held it lives.
//!
//! In the end all hold the same version. Together: a renewal that anybody holds outlives the expiry
//! of what it renewed. And one that was acknowledged by `?w=2` is held by two
//! (`check::holders`), so that it outlives the end of either, too.

use super::check::Violation;
use super::cluster::Cluster;
use super::history::show;
use super::host::Host;
use super::options::{Fault, Options};
use super::run::Run;
use crate::kv::{OriginId, Record, Stamp};
use crate::limits::EXPIRED_GRACE;
use crate::node::io::Input;
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Keys in use; few, so that writes meet.
const N_KEYS: usize = 6;
/// The longest that one lasts, in seconds: some expire in a partition, and some after it.
const SECONDS_MAX: usize = 8;

/// What clients wrote, and what was seen of it.
#[derive(Debug)]
pub(super) struct Ttls {
    rng: Rng,
    is_on: bool,
    grace: Duration,
    /// How many seconds each write lasts, `None` for good or for a delete.
    written: BTreeMap<(Vec<u8>, Stamp), Option<u32>>,
    /// What each process held at the last look.
    held: BTreeMap<(OriginId, Vec<u8>), Record>,
    /// Of each key the latest version that was seen, and the processes that were seen to hold it.
    holders: BTreeMap<Vec<u8>, (Stamp, BTreeSet<OriginId>)>,
}

impl Ttls {
    /// Nothing yet. A build of an older format is no peer while anything expires, so keys of runs
    /// in which there are some do not.
    pub(super) fn new(options: &Options) -> Ttls {
        let mut rng = Rng::from_seed(options.rng_seed ^ 0x7474_6c5f_6b65_7973);
        let is_on = rng.chance(0.5) && !options.has(Fault::Formats);
        let (written, held, holders) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let grace = options.tombstone_grace.min(EXPIRED_GRACE);
        Ttls { rng, is_on, grace, written, held, holders }
    }

    /// Looks at every node.
    ///
    /// # Errors
    /// The first promise found broken.
    pub(super) fn look(&mut self, cluster: &Cluster) -> Result<(), Violation> {
        if self.written.is_empty() {
            return Ok(());
        }
        let before = std::mem::take(&mut self.held);
        let keys: BTreeSet<&Vec<u8>> = self.written.keys().map(|(key, _)| key).collect();
        let mut held = BTreeMap::new();
        // Whose clock is ahead forgets first, and a comparison with it has the others drop theirs.
        let latest = cluster.wall_max_ms();
        for (index, host) in cluster.hosts.iter().enumerate() {
            let (Some(node), Some(store)) = (host.node(), &host.store) else { continue };
            if host.is_stranger {
                continue;
            }
            let now = cluster.now_at(index);
            // A reset may take anything away.
            let is_resetting = node.replication().is_resetting();
            for key in &keys {
                let place = (store.origin(), (*key).clone());
                let then = before.get(&place).filter(|_| !is_resetting);
                let is_shown = store.get(now, key).is_some();
                let record = store.entry(key);
                self.judge((host, latest), key, then, record.as_ref())?;
                let expiry = record.as_ref().and_then(Record::expiry);
                if is_shown && expiry.is_some_and(|expiry| expiry <= now.wall.0) {
                    let what = format!("{} shows {} past its expiry", host.name, show(key));
                    return Err(Violation::new("expiry", what));
                }
                held.extend(record.map(|record| (place, record)));
            }
        }
        self.held = held;
        self.look_for_lost(cluster, latest)
    }

    /// Whether the latest version of each key that anybody was seen to hold is still held, or a
    /// later one, as long as one of those processes lives.
    fn look_for_lost(&mut self, cluster: &Cluster, latest: u64) -> Result<(), Violation> {
        let ours = |host: &&Host| host.node().is_some() && !host.is_stranger;
        let hosts: Vec<&Host> = cluster.hosts.iter().filter(ours).collect();
        let keys: BTreeSet<Vec<u8>> = self.written.keys().map(|(key, _)| key.clone()).collect();
        for key in keys {
            let held = |host: &&&Host| host.entry(&key);
            let Some(last) = hosts.iter().filter_map(|host| held(&host)).max() else { continue };
            let holds = hosts.iter().filter(|host| held(host) == Some(last));
            let holders = holds.filter_map(|host| host.store.as_ref().map(|store| store.origin()));
            let (stamp, known) = self.holders.entry(key.clone()).or_insert((last, BTreeSet::new()));
            if *stamp < last {
                (*stamp, *known) = (last, BTreeSet::new());
            }
            if *stamp == last {
                known.extend(holders);
            }
        }
        for (key, (stamp, holders)) in &self.holders {
            let ttl = self.written.get(&(key.clone(), *stamp)).copied().flatten();
            let last = ttl.map_or(stamp.time.millis(), |ttl| stamp.expiry(ttl));
            // A delete is forgotten, and so is what has expired.
            let is_forgotten = u128::from(last) + self.grace.as_millis() <= u128::from(latest);
            let is_held =
                hosts.iter().filter_map(|host| host.entry(key)).any(|held| held >= *stamp);
            let lives = |host: &&&Host| {
                host.store.as_ref().is_some_and(|store| holders.contains(&store.origin()))
            };
            if let Some(host) = hosts.iter().find(lives)
                && !is_held
                && !is_forgotten
            {
                let (key, name) = (show(key), &host.name);
                let what = format!("{key}: {stamp} is lost, and {name} that held it is there");
                return Err(Violation::new("renewal", what));
            }
        }
        Ok(())
    }

    fn judge(
        &self,
        (host, latest): (&Host, u64),
        key: &[u8],
        before: Option<&Record>,
        now: Option<&Record>,
    ) -> Result<(), Violation> {
        let wrong = |invariant, why: &str, record: &Record| {
            let what = format!("{}: {} {why}: {record:?}", host.name, show(key));
            Err(Violation::new(invariant, what))
        };
        if let Some(record) = now {
            match self.written.get(&(key.to_vec(), record.stamp())) {
                None => return wrong("expiry-version", "is a version nobody wrote", record),
                Some(ttl) if *ttl != record.ttl() => {
                    return wrong("expiry-version", "lasts for another time", record);
                }
                Some(_) => {}
            }
        }
        let is_early = |record: &Record| {
            record.has_expired() && record.expiry().is_some_and(|expiry| expiry > latest)
        };
        if let Some(record) = now.filter(|record| is_early(record)) {
            return wrong("renewal", "has expired before its time", record);
        }
        let Some(before) = before else { return Ok(()) };
        match now {
            Some(now) if now.stamp() < before.stamp() => {
                wrong("expiry-older", "went back from what it held", now)
            }
            Some(now) if now.stamp() == before.stamp() && before.has_expired() => {
                match now.has_expired() {
                    true => Ok(()),
                    false => wrong("expiry-form", "is live again", now),
                }
            }
            None => {
                let last = before.expiry().unwrap_or_else(|| before.stamp().time.millis());
                let over = u128::from(last) + self.grace.as_millis();
                let is_kept = before.ttl().is_some() || !before.is_tombstone();
                if is_kept && over > u128::from(latest) {
                    return wrong("expiry-dropped", "was dropped before its time", before);
                }
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether all hold the same of every key, or have forgotten that it expired.
    ///
    /// # Errors
    /// Who does not.
    pub(super) fn settled(&self, cluster: &Cluster) -> Result<(), Violation> {
        let keys: BTreeSet<&Vec<u8>> = self.written.keys().map(|(key, _)| key).collect();
        for key in keys {
            let hosts = cluster.hosts.iter().filter(|host| host.node().is_some());
            let held = hosts.filter(|host| !host.is_stranger).filter_map(|host| host.entry(key));
            let versions: BTreeSet<Stamp> = held.collect();
            if versions.len() > 1 {
                let what = format!("{} is held as {versions:?}", show(key));
                return Err(Violation::new("expiry-convergence", what));
            }
        }
        Ok(())
    }
}

/// Now and then a client writes a key that expires.
pub(super) fn operate(run: &mut Run) {
    let Ttls { rng, is_on, .. } = &mut run.ttls;
    if !*is_on || !rng.chance(0.4) {
        return;
    }
    let answering = run.cluster.answering();
    if answering.is_empty() {
        return;
    }
    let index = answering[rng.below(answering.len())];
    let key = format!("ttl-{}", rng.below(N_KEYS)).into_bytes();
    let value = format!("{}", rng.next_u64()).into_bytes();
    let ttl = rng.chance(0.8).then(|| 1 + rng.below(SECONDS_MAX) as u32);
    let deletes = ttl.is_none() && rng.chance(0.5);
    let Some(store) = run.cluster.hosts[index].store.clone() else { return };
    let now = run.cluster.now_at(index);
    let written = match deletes {
        true => store.delete(now, &key),
        false => store.put_lasting_if(now, &key, (&value, None), ttl, |_| true),
    };
    match written {
        Ok(written) => {
            run.ttls.written.insert((key, written.stamp), ttl);
            run.cluster.input(index, Input::Written);
        }
        Err(error) => run.history.complain(format!("a write that expires was refused: {error}")),
    }
}
