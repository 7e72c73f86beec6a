//! A member that returns with all its old records, after deletes of them have been forgotten.

use super::cluster::{Cluster, MILLIS};
use super::*;
use crate::node::formats::OLDEST;

const GRACE: Duration = Duration::from_secs(30);
const SLEEPER: usize = 2;
const N_DELETED: usize = 100;

/// Three members hold a hundred keys. The third goes away, and the other two, who soon do not
/// remember it either, delete all of them and forget the deletes.
fn slept() -> Cluster {
    slept_beside(Formats::SPOKEN)
}

/// The same where the other two speak these formats.
fn slept_beside(formats: Formats) -> Cluster {
    let mut cluster = Cluster::new(0, 0.0);
    for at in 0..3 {
        cluster.formats = if at == SLEEPER { Formats::SPOKEN } else { formats };
        cluster.add(GRACE);
    }
    cluster.meet();
    for index in 0..N_DELETED {
        cluster.put(0, &format!("k{index}"), b"v");
    }
    all_ready(&mut cluster);
    cluster.cut = vec![(0, SLEEPER), (1, SLEEPER)];
    cluster.meet();
    for index in 0..N_DELETED {
        cluster.delete(1, &format!("k{index}"));
    }
    cluster.run(Duration::from_secs(5));
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    let tombstones = |c: &Cluster, at: usize| c.members[at].store.stats().n_tombstones;
    let forgotten = |c: &Cluster| tombstones(c, 0) + tombstones(c, 1) == 0;
    assert!(cluster.run_until(Duration::from_secs(120), forgotten));
    cluster
}

fn all_ready(cluster: &mut Cluster) {
    let ready = |c: &Cluster| c.equal() && (0..c.members.len()).all(|at| is_ready(c, at));
    assert!(cluster.run_until(Duration::from_secs(10), ready));
}

/// Another one joins, and the two that swept leave: its number.
fn replace_those_who_swept(cluster: &mut Cluster) -> usize {
    cluster.add(GRACE);
    cluster.cut = vec![(0, SLEEPER), (1, SLEEPER), (3, SLEEPER)];
    cluster.put(0, "alive", b"v");
    for (at, peers) in [(0, [1, 3]), (1, [0, 3]), (3, [0, 1])] {
        cluster.tell(at, &peers);
        cluster.drain(at);
    }
    let ready = |c: &Cluster| c.members[3].replication.view().health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(20), ready));
    cluster.members[0].up = false;
    cluster.members[1].up = false;
    3
}

/// The sleeper meets one other member, and nobody else is left.
fn wake(cluster: &mut Cluster, other: usize) {
    let n = cluster.members.len();
    cluster.cut =
        (0..n).filter(|at| ![SLEEPER, other].contains(at)).map(|at| (at, SLEEPER)).collect();
    cluster.tell(SLEEPER, &[other]);
    cluster.tell(other, &[SLEEPER]);
    cluster.drain(SLEEPER);
    cluster.drain(other);
}

fn is_ready(cluster: &Cluster, at: usize) -> bool {
    cluster.members[at].replication.view().health() == Health::Ok
}

/// Deleted keys that a member serves.
fn n_served(cluster: &Cluster, at: usize) -> usize {
    (0..N_DELETED).filter(|index| cluster.value(at, &format!("k{index}")).is_some()).count()
}

/// Whether the sleeper holds this write, by its own account.
fn claims(cluster: &Cluster, dot: Dot) -> bool {
    cluster.members[SLEEPER].replication.view().covers(dot)
}

/// The same of the deletes it slept through.
fn claims_deletes(cluster: &Cluster) -> bool {
    claims(cluster, Dot { origin: OriginId(1001), seq: N_DELETED as u64 })
}

/// Runs until the sleeper serves none of the deleted keys. The milliseconds in which it claimed
/// the deletes, said that it was ready, and served a deleted key.
fn heal(cluster: &mut Cluster, span: Duration, mut each: impl FnMut(&mut Cluster, u64)) -> u64 {
    let mut wrong = 0;
    for ms in 0..span.as_millis() as u64 {
        each(cluster, ms);
        cluster.run(MILLIS);
        let n_served = n_served(cluster, SLEEPER);
        if n_served > 0 && is_ready(cluster, SLEEPER) && claims_deletes(cluster) {
            wrong += 1;
        }
        if n_served == 0 && claims_deletes(cluster) && is_ready(cluster, SLEEPER) {
            return wrong;
        }
    }
    panic!("still {} deleted keys after {span:?}", n_served(cluster, SLEEPER));
}

#[test]
fn it_is_reset_by_one_that_forgot_the_deletes_itself() {
    let mut cluster = slept();
    wake(&mut cluster, 0);
    assert_eq!(heal(&mut cluster, Duration::from_secs(10), |_, _| {}), 0);
    assert_eq!(cluster.sum(|r| r.shared.counters.resets_total), 1);
}

#[test]
fn it_is_reset_by_one_that_joined_after_they_were_forgotten() {
    let mut cluster = slept();
    let server = replace_those_who_swept(&mut cluster);
    wake(&mut cluster, server);
    assert_eq!(heal(&mut cluster, Duration::from_secs(10), |_, _| {}), 0);
    assert_eq!(cluster.sum(|r| r.shared.counters.resets_total), 1);
    assert_eq!(cluster.value(SLEEPER, "alive").as_deref(), Some(&b"v"[..]));
}

/// The server takes this many writes each millisecond.
fn write_much(cluster: &mut Cluster, server: usize, per_ms: u64, ms: u64) {
    for n in ms * per_ms..(ms + 1) * per_ms {
        let key = format!("w{}", n % 5000);
        let now = cluster.now;
        cluster.members[server].store.put(now, key.as_bytes(), b"v", None).expect("room");
    }
    let now = cluster.now;
    cluster.members[server].replication.written(now);
    cluster.drain(server);
}

#[test]
fn it_is_ready_only_when_all_is_compared_whatever_its_server_takes_in() {
    for swept in [true, false] {
        let mut cluster = slept();
        let server = if swept {
            cluster.members[1].up = false;
            0
        } else {
            replace_those_who_swept(&mut cluster)
        };
        wake(&mut cluster, server);
        let write = |cluster: &mut Cluster, ms| write_much(cluster, server, 20, ms);
        assert_eq!(heal(&mut cluster, Duration::from_secs(10), write), 0, "swept {swept}");
    }
}

#[test]
fn it_is_reset_by_one_that_does_not_know_of_walks() {
    let mut cluster = slept_beside(Formats::only(OLDEST));
    cluster.members[1].up = false;
    wake(&mut cluster, 0);
    let write = |cluster: &mut Cluster, ms| write_much(cluster, 0, 20, ms);
    assert_eq!(heal(&mut cluster, Duration::from_secs(10), write), 0);
    assert_eq!(cluster.sum(|r| r.shared.counters.resets_total), 1);
}

#[test]
fn a_walk_goes_on_with_another_peer_where_a_link_was_lost() {
    let mut cluster = slept();
    cluster.cut.clear();
    for (at, peers) in [(0, [1, SLEEPER]), (1, [0, SLEEPER]), (SLEEPER, [0, 1])] {
        cluster.tell(at, &peers);
        cluster.drain(at);
    }
    let walks = |c: &Cluster| c.members[SLEEPER].replication.compare.is_active();
    assert!(cluster.run_until(Duration::from_secs(10), walks));
    cluster.run(MILLIS * 15);
    assert!(!is_ready(&cluster, SLEEPER));
    let n_compared =
        |c: &Cluster, at: usize| c.members[at].replication.shared.counters.compared_total;
    let first = if n_compared(&cluster, 0) > 0 { 0 } else { 1 };
    cluster.cut = vec![(first, SLEEPER)];
    cluster.meet();
    assert_eq!(heal(&mut cluster, Duration::from_secs(10), |_, _| {}), 0);
    assert!(n_compared(&cluster, 1 - first) > 0, "the other one has served the rest");
}

#[test]
fn it_does_not_compare_with_another_that_has_slept_as_long() {
    for rounds in 0..6 {
        let mut cluster = slept();
        // Somebody who was away with it, as of the same moment, and has not met the others again.
        cluster.add(GRACE);
        let beside = 3;
        cluster.cut = (0..2).flat_map(|at| [(at, SLEEPER), (at, beside)]).collect();
        cluster.tell(SLEEPER, &[beside]);
        cluster.tell(beside, &[SLEEPER]);
        cluster.drain(SLEEPER);
        cluster.drain(beside);
        let copied = |c: &Cluster| is_ready(c, beside) && n_served(c, beside) == N_DELETED;
        assert!(cluster.run_until(Duration::from_secs(5), copied));
        cluster.run(MILLIS * 37 * rounds);
        cluster.cut = vec![(0, beside), (1, beside), (1, SLEEPER)];
        cluster.tell(SLEEPER, &[0, beside]);
        cluster.tell(0, &[SLEEPER]);
        cluster.drain(SLEEPER);
        cluster.drain(0);
        assert_eq!(heal(&mut cluster, Duration::from_secs(10), |_, _| {}), 0);
    }
}

#[test]
fn who_is_reset_serves_neither_copies_nor_comparisons() {
    let mut cluster = slept();
    wake(&mut cluster, 0);
    let hides = |c: &Cluster| !is_ready(c, SLEEPER);
    assert!(cluster.run_until(Duration::from_secs(10), hides));
    let now = cluster.now;
    let sleeper = &mut cluster.members[SLEEPER].replication;
    while sleeper.poll().is_some() {}
    let (served, compared) = (sleeper.pulls.served_total, sleeper.shared.counters.compared_total);
    let pull = message::Pull {
        from: 1000,
        heads: Vec::new(),
        folded: Vec::new(),
        fresh: true,
        to: None,
        first: None,
        #[cfg(feature = "next-format")]
        played: None,
    };
    let items = message::Items { leaves: vec![(0, 0, Vec::new())], more: false };
    for (conn, message) in [(901, KvMessage::Pull(pull)), (903, KvMessage::Items(items))] {
        sleeper.frame(now, ConnId(conn), addr(0), &message.encode());
        let answer = std::iter::from_fn(|| sleeper.poll()).find_map(|out| match out {
            Out::Output(Output::Send {
                frame: crate::wire::stream::Frame::Kv(payload), ..
            }) => KvMessage::decode(&payload.join()).ok(),
            _ => None,
        });
        assert!(matches!(answer, Some(KvMessage::Busy(_))), "{answer:?}");
    }
    assert_eq!(
        (sleeper.pulls.served_total, sleeper.shared.counters.compared_total),
        (served, compared)
    );
}

#[test]
fn who_was_alone_for_half_of_its_grace_compares_although_nothing_was_forgotten() {
    for (span, resets) in [(GRACE / 2 + Duration::from_secs(2), 1), (GRACE / 4, 0)] {
        let mut cluster = Cluster::new(0, 0.0);
        for _ in 0..3 {
            cluster.add(GRACE);
        }
        cluster.meet();
        cluster.put(0, "k", b"v");
        all_ready(&mut cluster);
        cluster.run(Duration::from_secs(3));
        cluster.cut = vec![(0, SLEEPER), (1, SLEEPER)];
        cluster.meet();
        cluster.run(span);
        cluster.put(0, "meanwhile", b"v");
        cluster.cut.clear();
        cluster.meet();
        let hidden = |c: &Cluster| !is_ready(c, SLEEPER);
        assert_eq!(cluster.run_until(Duration::from_secs(3), hidden), resets > 0, "{span:?}");
        let done = |c: &Cluster| c.equal() && is_ready(c, SLEEPER);
        assert!(cluster.run_until(Duration::from_secs(5), done), "{span:?}");
        assert_eq!(cluster.sum(|r| r.shared.counters.resets_total), resets, "{span:?}");
    }
}

#[test]
fn an_absence_during_a_reset_begins_it_anew() {
    let mut cluster = slept();
    wake(&mut cluster, 0);
    let walks = |c: &Cluster| c.members[SLEEPER].replication.compare.is_active();
    assert!(cluster.run_until(Duration::from_secs(10), walks));
    // The process is stopped then, for as long as deletes may be forgotten meanwhile.
    let absence = &mut cluster.members[SLEEPER].replication.absence;
    *absence = Absence::new(Instant::ZERO, false);
    let ready = |c: &Cluster| is_ready(c, SLEEPER);
    assert!(cluster.run_until(Duration::from_secs(10), ready));
    cluster.run(Duration::from_secs(5));
    assert!(is_ready(&cluster, SLEEPER));
    assert_eq!(cluster.sum(|r| r.shared.counters.resets_total), 1, "ready once, and for good");
}

#[test]
fn of_two_that_were_alone_one_trusts_itself() {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..2 {
        cluster.add(GRACE);
    }
    cluster.meet();
    cluster.put(0, "k", b"v");
    all_ready(&mut cluster);
    cluster.cut = vec![(0, 1)];
    cluster.meet();
    cluster.run(GRACE);
    cluster.put(0, "a", b"v");
    cluster.put(1, "b", b"v");
    cluster.cut.clear();
    cluster.meet();
    let done = |c: &Cluster| c.equal() && is_ready(c, 0) && is_ready(c, 1);
    cluster.run(Duration::from_secs(2));
    assert!(cluster.run_until(Duration::from_secs(5), done));
}

#[test]
fn an_earlier_delete_goes_with_a_later_one_that_is_forgotten() {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..3 {
        cluster.add(GRACE);
    }
    cluster.meet();
    cluster.put(0, "live", b"v");
    cluster.delete(0, "again");
    all_ready(&mut cluster);
    cluster.cut = vec![(0, SLEEPER), (1, SLEEPER)];
    cluster.meet();
    cluster.put(1, "again", b"later");
    let late = cluster.members[1].store.entry(b"again").expect("written");
    cluster.delete(1, "again");
    cluster.run(Duration::from_secs(5));
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    let tombstones = |c: &Cluster, at: usize| c.members[at].store.stats().n_tombstones;
    let forgotten = |c: &Cluster| tombstones(c, 0) + tombstones(c, 1) == 0;
    assert!(cluster.run_until(Duration::from_secs(120), forgotten));
    assert_eq!(tombstones(&cluster, SLEEPER), 1, "alone it forgets nothing");
    wake(&mut cluster, 0);
    let compared = |c: &Cluster| is_ready(c, SLEEPER) && claims(c, late.dot());
    assert!(cluster.run_until(Duration::from_secs(10), compared));
    assert_eq!(cluster.members[SLEEPER].store.entry(b"again"), None);
    // A late copy of what lay between the two deletes is refused.
    let now = cluster.now;
    let sleeper = &mut cluster.members[SLEEPER].replication;
    sleeper.with(now, |cx| receive::apply(cx, std::slice::from_ref(&late), true));
    assert_eq!(cluster.members[SLEEPER].store.entry(b"again"), None);
    // Also where the earlier delete is remembered for longer.
    let stamp =
        crate::kv::Stamp { time: crate::kv::HlcTime(late.stamp().time.0 - 1), ..late.stamp() };
    let earlier = Record::new(stamp, 1, b"again", None);
    let member = &mut cluster.members[SLEEPER];
    member.store.merge(&earlier, now);
    member.replication.with(now, |cx| receive::apply(cx, &[late], true));
    assert_eq!(member.store.entry(b"again"), Some(earlier));
}

#[test]
fn a_joiner_that_was_pushed_an_old_copy_compares_before_it_is_ready() {
    let mut cluster = slept();
    let old = cluster.members[SLEEPER].store.entry(b"k5").expect("the sleeper has it");
    cluster.add(GRACE);
    let joiner = 3;
    cluster.cut = vec![(0, SLEEPER), (1, SLEEPER), (joiner, SLEEPER)];
    let push = message::Push { of: 1000, settles: vec![(6, 6)], from: 1000, urgent: false };
    let now = cluster.now;
    cluster.tell(joiner, &[0, 1]);
    let replication = &mut cluster.members[joiner].replication;
    introduce(replication, OriginId(1000), now);
    replication.pushed(now, &Bytes::new(), &push, &[old], Via::Datagram);
    assert!(cluster.value(joiner, "k5").is_some());
    for (at, peers) in [(0, [1, joiner]), (1, [0, joiner]), (joiner, [0, 1])] {
        cluster.tell(at, &peers);
        cluster.drain(at);
    }
    let ready = |c: &Cluster| is_ready(c, joiner);
    assert!(cluster.run_until(Duration::from_secs(10), ready));
    assert_eq!(cluster.value(joiner, "k5"), None);
}

/// The end of a copy from somebody who holds nothing.
fn nothing() -> message::PullEnd {
    let (heads, folded) = (Vec::new(), Vec::new());
    message::PullEnd { heads, folded, forgotten: 0, reset: false, marks: None }
}

#[test]
fn a_reset_ends_where_nobody_holds_the_deletes_and_a_copy_is_always_under_way() {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.put(0, "k", b"v");
    cluster.must_agree_within(Duration::from_secs(5));
    let lacked = Dot { origin: OriginId(5_000), seq: 1 };
    let (now, ready) = (cluster.now, [0, 1].map(|at| cluster.members[at].store.origin()));
    let sleeper = &mut cluster.members[2].replication;
    sleeper.with(now, |cx| {
        let _ = super::super::repair::ready::hide(cx);
    });
    sleeper.walk.reset(now.instant, (vec![lacked], 0), false);
    let mut walk = std::mem::take(&mut sleeper.walk);
    let (mut now, mut n_pulls, mut is_trusted) = (now, 0, false);
    // Each of its pulls takes a second, and at its end nobody has told of that delete.
    'pulls: while n_pulls < 10 {
        for tick in 0..6 {
            now.instant = now.instant + Duration::from_millis(200);
            let next = sleeper.with(now, |cx| walk.due(cx, false, tick > 0));
            if let Some(Next::Trusted { .. }) = next {
                is_trusted = true;
                break 'pulls;
            }
        }
        let peer = ready[n_pulls % 2];
        let end = nothing();
        let next = sleeper.with(now, |cx| walk.pulled(cx, peer, &end));
        assert!(next.is_none(), "it does not hold that");
        n_pulls += 1;
    }
    assert!(is_trusted && n_pulls >= 2, "after {n_pulls} pulls");
}
