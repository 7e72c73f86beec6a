//! A member that is set back to an earlier state while its peers go on, as by a restored snapshot.

use super::cluster::{Cluster, Event, MILLIS};
use super::*;
use crate::kv::SEQ_MAX;
use crate::limits::STORE_SHARDS;
use crate::node::replication::message::Heads;

const GRACE: Duration = Duration::from_secs(3600);

/// What a member was at some time.
struct Snapshot {
    records: Vec<Record>,
    last: u64,
    heads: Heads,
}

fn snapshot(cluster: &Cluster, at: usize) -> Snapshot {
    let store = &cluster.members[at].store;
    let mut records = Vec::new();
    for shard in 0..STORE_SHARDS {
        store.scan_shard(shard, |record| records.push(record.clone()));
    }
    let last = store.last_seq();
    let heads = cluster.members[at].replication.shared.known.heads(0);
    Snapshot { records, last, heads }
}

/// The member is again what it was, under the name of its run then, and ready as it was.
fn restore(cluster: &mut Cluster, at: usize, to: &Snapshot) {
    let (origin, now) = (cluster.members[at].store.origin(), cluster.now);
    let store = Store::after(StoreConfig { origin, store_len_max: 0 }, to.last);
    to.records.iter().for_each(|record| {
        store.merge(record, now);
    });
    let (store, config) = (Arc::new(store), cluster.members[at].replication.shared.config.clone());
    let mut replication = Lent::new(config, Arc::clone(&store), now);
    replication.set_room(1300);
    replication.shared.ready.assume();
    replication.absence = Absence::new(now.instant, false);
    replication.push.pushed = to.last;
    for (origin, through) in &to.heads {
        replication.shared.known.claim(OriginId(*origin), *through);
    }
    cluster.drop_conns(at);
    let member = &mut cluster.members[at];
    (member.store, member.replication) = (store, replication);
    cluster.meet();
}

fn is_ready(cluster: &Cluster, at: usize) -> bool {
    cluster.members[at].replication.view().health() == Health::Ok
}

fn set_backs(cluster: &Cluster) -> u64 {
    cluster.sum(|r| r.shared.counters.set_backs_total)
}

#[track_caller]
fn must_be_whole(cluster: &mut Cluster) {
    let whole = |c: &Cluster| c.equal() && (0..c.members.len()).all(|at| is_ready(c, at));
    assert!(cluster.run_until(Duration::from_secs(20), whole), "never equal and ready");
}

/// Three members of which the first has made a dozen writes since the snapshot.
fn gone_on(grace: Duration) -> (Cluster, Snapshot) {
    let mut cluster = Cluster::new(0, 0.0);
    (0..3).for_each(|_| cluster.add(grace));
    cluster.meet();
    for index in 0..20 {
        cluster.put(index % 3, &format!("before{index}"), b"v");
    }
    cluster.put(0, "deleted", b"v");
    must_be_whole(&mut cluster);
    let before = snapshot(&cluster, 0);
    for index in 0..10 {
        cluster.put(0, &format!("since{index}"), b"v");
        cluster.put(1, &format!("other{index}"), b"v");
    }
    cluster.put(0, "before0", b"later");
    cluster.delete(0, "deleted");
    must_be_whole(&mut cluster);
    (cluster, before)
}

#[test]
fn what_it_lacks_comes_and_what_it_writes_under_used_numbers_reaches_all() {
    let (mut cluster, before) = gone_on(GRACE);
    let origin = cluster.members[0].store.origin();
    restore(&mut cluster, 0, &before);
    assert_eq!(cluster.value(0, "since0"), None);
    // It has heard nothing yet, and numbers these as others before.
    for index in 0..5 {
        cluster.put(0, &format!("after{index}"), b"v");
    }
    cluster.put(0, "before1", b"after");
    let hides = |c: &Cluster| !is_ready(c, 0);
    assert!(cluster.run_until(Duration::from_secs(3), hides), "it never notices");
    cluster.put(0, "hidden", b"v");
    must_be_whole(&mut cluster);
    assert_eq!(set_backs(&cluster), 1);
    assert_ne!(cluster.members[0].store.origin(), origin);
    for at in 0..3 {
        for index in 0..5 {
            assert!(cluster.value(at, &format!("after{index}")).is_some(), "after{index} at {at}");
        }
        for index in 0..10 {
            assert!(cluster.value(at, &format!("since{index}")).is_some(), "since{index} at {at}");
            assert!(cluster.value(at, &format!("other{index}")).is_some(), "other{index} at {at}");
        }
        assert_eq!(cluster.value(at, "before0").as_deref(), Some(&b"later"[..]));
        assert_eq!(cluster.value(at, "before1").as_deref(), Some(&b"after"[..]));
        assert!(cluster.value(at, "hidden").is_some());
        assert_eq!(cluster.value(at, "deleted"), None, "at {at}");
    }
    // The run before is over, and folded as any other that is.
    cluster.run(Duration::from_secs(5));
    for member in &cluster.members {
        assert!(member.replication.shared.known.is_folded(origin));
        assert_eq!(member.replication.shared.known.doubts(), None);
    }
}

/// What clients of the first member were answered about holders since the last look.
fn answered(cluster: &mut Cluster) -> Vec<(u32, u32)> {
    std::mem::take(&mut cluster.held)
}

#[test]
fn nobody_is_said_to_hold_what_it_writes_until_somebody_does() {
    let (mut cluster, before) = gone_on(GRACE);
    restore(&mut cluster, 0, &before);
    cluster.put_and_wait(b"unheld", Concern::All, Duration::from_secs(2));
    let hides = |c: &Cluster| !is_ready(c, 0);
    assert!(cluster.run_until(Duration::from_secs(3), hides), "it never notices");
    assert_eq!(answered(&mut cluster), [(1, 3)], "nobody can tell of that number any more");
    must_be_whole(&mut cluster);
    cluster.put_and_wait(b"held", Concern::All, Duration::from_secs(2));
    assert!(cluster.run_until(MILLIS * 100, |c| !c.members[0].replication.holders.is_waiting()));
    assert_eq!(answered(&mut cluster), [(3, 3)]);
    assert_eq!(cluster.value(2, "k").as_deref(), Some(&b"held"[..]));
}

#[test]
fn deletes_that_have_been_forgotten_meanwhile_stay_deletes() {
    let (mut cluster, before) = gone_on(Duration::from_secs(30));
    let tombstones = |c: &Cluster| -> u64 {
        c.members.iter().map(|member| member.store.stats().n_tombstones).sum()
    };
    assert!(cluster.run_until(Duration::from_secs(120), |c| tombstones(c) == 0));
    restore(&mut cluster, 0, &before);
    assert!(cluster.value(0, "deleted").is_some());
    cluster.put(0, "after", b"v");
    assert!(cluster.run_until(Duration::from_secs(3), |c| !is_ready(c, 0)), "it never notices");
    must_be_whole(&mut cluster);
    for at in 0..3 {
        assert_eq!(cluster.value(at, "deleted"), None, "at {at}");
        assert!(cluster.value(at, "after").is_some() && cluster.value(at, "since0").is_some());
    }
}

#[test]
fn two_of_two_that_are_set_back_go_on() {
    let mut cluster = Cluster::new(2, 0.0);
    cluster.put(0, "a", b"1");
    cluster.put(1, "b", b"1");
    must_be_whole(&mut cluster);
    let before = [snapshot(&cluster, 0), snapshot(&cluster, 1)];
    for index in 0..10 {
        cluster.put(index % 2, &format!("lost{index}"), b"v");
    }
    must_be_whole(&mut cluster);
    // One of them a while before the other: each has told the other of more than it knows now.
    restore(&mut cluster, 0, &before[0]);
    cluster.put(0, "a", b"2");
    cluster.run(MILLIS * 300);
    restore(&mut cluster, 1, &before[1]);
    cluster.put(1, "b", b"2");
    must_be_whole(&mut cluster);
    for at in 0..2 {
        assert_eq!(cluster.value(at, "a").as_deref(), Some(&b"2"[..]), "at {at}");
        assert_eq!(cluster.value(at, "b").as_deref(), Some(&b"2"[..]), "at {at}");
    }
}

#[test]
fn a_member_that_lies_has_another_walk_now_and_then() {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.put(0, "k", b"v");
    must_be_whole(&mut cluster);
    let liar = cluster.members[1].store.origin();
    let lie = |cluster: &mut Cluster, through: u64| {
        let me = cluster.members[0].store.origin();
        let digest = message::Digest::of_heads(liar, vec![(me.0, through)]).for_run(me);
        let payload = KvMessage::Digest(digest).encode();
        let event = Event::Datagram { to: 0, from: 1, payload };
        cluster.deliver(event);
    };
    for through in [SEQ_MAX + 1, u64::MAX] {
        lie(&mut cluster, through);
        assert_eq!(set_backs(&cluster), 0, "no such number");
    }
    for round in 0..50 {
        lie(&mut cluster, 1000 + round);
        must_be_whole(&mut cluster);
    }
    assert_eq!(set_backs(&cluster), 1);
    let ignored = cluster.members[0].replication.shared.counters.claims_ignored_total;
    assert_eq!(ignored, 2 + 49);
    cluster.put(0, "k", b"w");
    cluster.must_agree_within(MILLIS * 100);
}

#[test]
fn one_that_leaves_stays_what_it_is() {
    let (mut cluster, before) = gone_on(GRACE);
    restore(&mut cluster, 0, &before);
    let (now, origin) = (cluster.now, cluster.members[0].store.origin());
    cluster.members[0].replication.drain(now);
    cluster.drain(0);
    cluster.run(Duration::from_secs(3));
    assert_eq!((set_backs(&cluster), cluster.members[0].store.origin()), (0, origin));
}

#[test]
fn one_that_leaves_before_its_store_is_compared_has_that_done_first() {
    let (mut cluster, before) = gone_on(GRACE);
    restore(&mut cluster, 0, &before);
    for index in 0..5 {
        cluster.put(0, &format!("after{index}"), b"v");
    }
    // Nothing can be compared without a link, and everything else can be told.
    cluster.tcp_cut = vec![(0, 1), (0, 2)];
    let hides = |c: &Cluster| !is_ready(c, 0);
    assert!(cluster.run_until(Duration::from_secs(3), hides), "it never notices");
    let now = cluster.now;
    cluster.members[0].replication.drain(now);
    cluster.drain(0);
    for _ in 0..40 {
        cluster.run(MILLIS * 50);
        let now = cluster.now;
        // The others say that they hold all those numbers, which are of other writes.
        assert!(!cluster.members[0].replication.is_drained(now));
    }
    let now = cluster.now;
    assert!(cluster.members[0].replication.unsent(now) > 0);
    cluster.tcp_cut.clear();
    let mut is_drained = false;
    for _ in 0..400 {
        cluster.run(MILLIS * 20);
        let now = cluster.now;
        is_drained = cluster.members[0].replication.is_drained(now);
        if is_drained {
            break;
        }
    }
    assert!(is_drained, "it is never compared");
    for at in 1..3 {
        for index in 0..5 {
            assert!(cluster.value(at, &format!("after{index}")).is_some(), "after{index} at {at}");
        }
    }
}
