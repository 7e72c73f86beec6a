//! `ready-is-complete`: a node says that it is ready only while it holds every write that some
//! ready node held when its copy began, or belongs to the first cluster.
//!
//! Judged as each node becomes ready, before time goes on:
//!
//! - its last complete copy began when other nodes were ready: it must hold all that one of them
//!   held then;
//! - no copy, or one that began while nobody else was ready: it has founded. That is wrong beside
//!   a ready node with data that it could have reached for [`STEADY`]: one that DNS named to it, or
//!   one that knew its address from before and would have called.
//!
//! And at every look: a node that has founded, of whom nobody has copied, and that has been in
//! touch with a ready one of a cluster founded apart for [`STEADY`] holds what that one held when
//! they met, or is not ready. Where both can tell how far they have come, and each was ready when
//! they met, it has hidden to copy what it lacked then: that the writes reach it by other ways is
//! not enough, for until they do it serves a part of them.

use super::Violation;
use crate::kv::OriginId;
use crate::node::formats::Formats;
use crate::node::replication::Stage;
use crate::sim::cluster::Cluster;
use crate::sim::host::{Guise, Host};
use crate::sim::standing::Held;
use crate::swim::{Member, MemberState};
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long two hosts must have been able to talk, unpaused, for one to have no excuse.
const STEADY: Duration = Duration::from_secs(5);
/// After so long a dial into the void has ended, and another has begun.
const DIALLED: Duration = Duration::from_secs(12);
/// Nodes that have been ready for less when they are first seen in touch may have met before.
const SETTLING: Duration = Duration::from_secs(2);
/// Least time that a node without anybody to look for waits for a call.
const CALLED_WITHIN: Duration = Duration::from_secs(3);
/// Of so many that have lately died or left each is redialled every 2 s. It is one fewer than are:
/// another may have been forgotten a moment ago.
const REDIALLED: usize = 2;

/// Nodes that said to be ready and were not.
#[derive(Debug, Default)]
pub struct Ready {
    /// How many nodes were judged as they became ready.
    pub n_judged: u64,
    broken: Option<String>,
    /// Founders by their run, and another run they are in touch with.
    met: BTreeMap<(OriginId, OriginId), Met>,
    /// All that have ever been in touch, ready or not.
    acquainted: BTreeSet<(OriginId, OriginId)>,
}

impl Ready {
    /// Judges the node on a host, which has just become ready.
    pub fn turned(&mut self, cluster: &Cluster, index: usize) {
        let host = &cluster.hosts[index];
        if host.node().is_none() || host.standing.ok_since.is_none() {
            return;
        }
        self.n_judged += 1;
        let is_ours = !host.is_stranger;
        let why = if is_ours { incomplete(cluster, index) } else { intruded(cluster, index) };
        let told = why.map(|why| format!("{} is ready, {why}", host.name));
        self.broken = self.broken.take().or(told);
    }

    /// Whether all that were ready held what they had to.
    ///
    /// # Errors
    /// The first node that was ready too early.
    pub fn check(&mut self, cluster: &Cluster) -> Result<(), Violation> {
        self.look(cluster);
        match &self.broken {
            Some(what) => Err(Violation::new("ready-is-complete", what.clone())),
            None => Ok(()),
        }
    }

    /// Looks at every founder beside every other ready node.
    fn look(&mut self, cluster: &Cluster) {
        let mut met = BTreeMap::new();
        let ready = || (0..cluster.hosts.len()).filter(|at| is_ready(&cluster.hosts[*at]));
        let founded = |at: &usize| is_lone_founder(&cluster.hosts[*at]);
        for founder in ready().filter(founded) {
            for other in ready().filter(|other| *other != founder) {
                let lineage = |at: usize| cluster.hosts[at].standing.cluster;
                if lineage(founder) == lineage(other) {
                    continue;
                }
                if !knows(cluster, founder, other) || !knows(cluster, other, founder) {
                    continue;
                }
                let Some(pair) = runs(cluster, founder, other) else { continue };
                let met_before = self.met.remove(&pair);
                let is_first =
                    !self.acquainted.contains(&pair) && !self.is_led_to(cluster, founder, other);
                let now = met_before.unwrap_or_else(|| Met::now(cluster, founder, other, is_first));
                if is_steady(cluster, founder, other, now.since + STEADY)
                    && let Some((origin, through)) = now.misses(cluster, founder)
                {
                    let since = now.since;
                    let (name, peer) = (&cluster.hosts[founder].name, &cluster.hosts[other].name);
                    let what = format!(
                        "{name} has founded, and has been ready since it met {peer}, {since:?}, \
                         without write {through} of {:016x}, which that one held",
                        origin.0
                    );
                    self.broken.get_or_insert(what);
                }
                met.insert(pair, now);
            }
        }
        self.met = met;
        acquaint(cluster, &mut self.acquainted);
    }

    /// Whether a founder meets another node by way of a ready one that it has known before: that
    /// one has met the other cluster, and the founder has only been away.
    fn is_led_to(&self, cluster: &Cluster, founder: usize, other: usize) -> bool {
        let others = (0..cluster.hosts.len()).filter(|at| *at != founder && *at != other);
        let mut ready = others.filter(|at| is_ready(&cluster.hosts[*at]));
        let known = |at| runs(cluster, founder, at).is_some_and(|p| self.acquainted.contains(&p));
        ready.any(|at| known(at) && knows(cluster, at, other))
    }
}

/// Adds all pairs of runs that are in touch now.
fn acquaint(cluster: &Cluster, all: &mut BTreeSet<(OriginId, OriginId)>) {
    let n = cluster.hosts.len();
    for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))).filter(|(a, b)| a != b) {
        if knows(cluster, a, b) {
            all.extend(runs(cluster, a, b));
            all.extend(runs(cluster, b, a));
        }
    }
}

/// A founder and a ready node of a cluster founded apart are in touch.
#[derive(Debug)]
struct Met {
    since: Instant,
    /// What that one held then.
    held: Held,
    /// A write of that one, by origin and number, for which the founder should have hidden.
    lacked: Option<(OriginId, u64)>,
}

impl Met {
    fn now(cluster: &Cluster, founder: usize, other: usize, is_first: bool) -> Met {
        let held = cluster.held(other);
        let was_ready = |at: usize| {
            let standing = &cluster.hosts[at].standing;
            let long = standing.ok_since.is_some_and(|since| since + SETTLING <= cluster.now);
            long && standing.formats.contains(Formats::SPOKEN.last)
        };
        let apart = is_first && was_ready(founder) && was_ready(other);
        let lacked = if apart { cluster.lacks(founder, &held) } else { None };
        Met { since: cluster.now, held, lacked }
    }

    fn misses(&self, cluster: &Cluster, founder: usize) -> Option<(OriginId, u64)> {
        self.lacked.or_else(|| cluster.lacks(founder, &self.held))
    }
}

/// Whether a node is the only one of the cluster that it has founded.
fn is_lone_founder(host: &Host) -> bool {
    let is_alone = |node: &crate::node::Node| node.replication().stage() == Stage::Founded;
    host.standing.copied.is_none() && host.node().is_some_and(is_alone)
}

fn is_ready(host: &Host) -> bool {
    !host.is_stranger && host.standing.ok_since.is_some()
}

/// The runs on two hosts.
fn runs(cluster: &Cluster, a: usize, b: usize) -> Option<(OriginId, OriginId)> {
    let origin = |at: usize| cluster.hosts[at].store.as_ref().map(|store| store.origin());
    Some((origin(a)?, origin(b)?))
}

/// Whether the node on `a` has the one on `b` for an answering member.
fn knows(cluster: &Cluster, a: usize, b: usize) -> bool {
    let (Some(node), other) = (cluster.hosts[a].node(), &cluster.hosts[b]) else { return false };
    let is_other = |addr| addr == other.addr;
    let mut members = node.swim().members();
    members.any(|member| member.state == MemberState::Alive && is_other(member.socket_addr))
}

/// Whether `now` is past `until` and both have run and been able to talk for as long before that.
fn is_steady(cluster: &Cluster, a: usize, b: usize, until: Instant) -> bool {
    let now = cluster.now;
    let runs = |at: usize| {
        let host = &cluster.hosts[at];
        !host.is_paused(now) && host.standing.went_on + STEADY <= now
    };
    until <= now && runs(a) && runs(b) && is_open_for(cluster, a, b, STEADY)
}

/// Whether two hosts have been able to talk for as long.
fn is_open_for(cluster: &Cluster, a: usize, b: usize, time: Duration) -> bool {
    let since = Instant(cluster.now.0.saturating_sub(time.as_nanos() as u64));
    let ip = |at: usize| cluster.hosts[at].addr.ip();
    cluster.network.open_since(ip(a), ip(b), since)
}

/// What a node that has just become ready lacks.
fn incomplete(cluster: &Cluster, index: usize) -> Option<String> {
    let copied = cluster.hosts[index].standing.copied.as_deref().unwrap_or_default();
    let mut missing = None;
    for held in copied {
        let (origin, through) = cluster.lacks(index, held)?;
        let (by, origin) = (&cluster.hosts[held.by].name, origin.0);
        missing = Some(format!(
            "and lacks write {through} of {origin:016x}, which {by} held when the copy began; no \
             ready node held less"
        ));
    }
    let founds = copied.is_empty() && is_lone_founder(&cluster.hosts[index]);
    missing.or_else(|| if founds { founded_beside(cluster, index) } else { None })
}

/// Whom a node that founds should have copied from.
fn founded_beside(cluster: &Cluster, index: usize) -> Option<String> {
    let me = &cluster.hosts[index];
    let has_data = |other: &usize| {
        let host = &cluster.hosts[*other];
        let long = host.standing.ok_since.is_some_and(|since| since + STEADY <= cluster.now);
        let held = host.store.as_ref().is_some_and(|store| store.stats().n_live > 0);
        *other != index && is_ready(host) && long && held
    };
    let steady = |other: &usize| is_steady(cluster, index, *other, Instant::ZERO);
    let others: Vec<usize> = (0..cluster.hosts.len()).filter(has_data).filter(steady).collect();
    // One that dialled while the way was blocked does not dial again until that has timed out.
    let is_open = |other: usize| is_open_for(cluster, other, index, DIALLED);
    let is_named = |other: usize| me.standing.named.contains(&cluster.hosts[other].addr);
    let named = |other: &&usize| is_named(**other) && is_open(**other);
    if let Some(other) = others.iter().find(named) {
        let other = &cluster.hosts[*other].name;
        return Some(format!("having founded beside {other}, which DNS named and which has data"));
    }
    let calls = |other: &&usize| is_open(**other) && would_call(cluster, **other, index);
    if me.standing.named.is_empty()
        && let Some(other) = others.iter().find(calls)
    {
        let other = &cluster.hosts[*other].name;
        return Some(format!("having founded beside {other}, which has data and is to call it"));
    }
    None
}

/// Whether `other` calls the node on `index` soon, which it knows by name and address: it counts
/// with it still, or redials it, as one of a few that have lately died or left.
fn would_call(cluster: &Cluster, other: usize, index: usize) -> bool {
    let Some(node) = cluster.hosts[other].node() else { return false };
    let (addr, name) = (cluster.hosts[index].addr, cluster.hosts[index].name.as_bytes());
    let is_it = |member: &Member| member.socket_addr == addr && member.name.as_bytes() == name;
    let young = cluster.hosts[index].standing.since + CALLED_WITHIN > cluster.now;
    let lately = || node.swim().members().filter(|member| member.is_lately_absent());
    let is_redialled = lately().count() <= REDIALLED && lately().any(is_it);
    (young && node.swim().members().any(is_it)) || is_redialled
}

/// Whom a node of another cluster should have been refused by, or who has the name of one.
fn intruded(cluster: &Cluster, index: usize) -> Option<String> {
    let me = &cluster.hosts[index];
    if me.guise == Guise::Twin {
        return usurped(cluster, index);
    }
    // Beside one of its own kind that was ready before, it has found the cluster that it looked
    // for.
    let is_kin = |host: &Host| host.guise == me.guise && host.standing.ok_since.is_some();
    let mut all = (0..cluster.hosts.len()).filter(|other| *other != index);
    if me.guise == Guise::OtherLabel && all.any(|other| is_kin(&cluster.hosts[other])) {
        return None;
    }
    let others = (0..cluster.hosts.len()).filter(|other| is_ready(&cluster.hosts[*other]));
    let mut near = others.filter(|other| {
        me.standing.named.contains(&cluster.hosts[*other].addr)
            && is_steady(cluster, index, *other, Instant::ZERO)
    });
    let refused_by = &cluster.hosts[near.next()?].name;
    let guise = me.guise;
    Some(format!("as {guise:?}, though it is no member of ours and DNS named {refused_by}"))
}

/// Who has lived under a node's name, and could have been asked, since before that node came. The
/// name of one that has ended, or cannot be asked, is free.
fn usurped(cluster: &Cluster, index: usize) -> Option<String> {
    let me = &cluster.hosts[index];
    let owns = |at: &usize| {
        let host = &cluster.hosts[*at];
        let lives = host.node().is_some() && host.standing.since + STEADY < me.standing.since;
        !host.is_stranger && host.name == me.name && lives
    };
    let mut owners = (0..cluster.hosts.len()).filter(owns);
    let owner = owners.find(|at| is_steady(cluster, index, *at, Instant::ZERO))?;
    Some(format!("and its name is that of the node at {}, which lives", cluster.hosts[owner].addr))
}
