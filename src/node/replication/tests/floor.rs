//! Runs by the thousand: the list of those that are over is cut, and every promise holds.

use super::cluster::Cluster;
use super::*;
use crate::kv::{HlcTime, Stamp};
use crate::node::replication::facts::floor::FLOOR;
use crate::node::replication::facts::known::Claims;
use crate::node::replication::facts::over::REMEMBERED_MAX;
use crate::node::replication::message::{Digest, Folded, Push};

pub(super) const GRACE: Duration = Duration::from_secs(20);
pub(super) const BOUND: FoldedBound = FoldedBound { most: 20, age: Duration::from_secs(10) };
pub(super) const FIRST: u64 = 5_000;

/// So many members that know few runs by name.
pub(super) fn cluster(n: usize) -> Cluster {
    let mut cluster = Cluster::new(0, 0.0);
    cluster.folded = BOUND;
    (0..n).for_each(|_| cluster.add(GRACE));
    cluster.meet();
    cluster.run(Duration::from_secs(2));
    cluster
}

/// Writes that a run has made and that is over, the last of them at this moment.
pub(super) fn records(cluster: &Cluster, run: u64, n: u64, value: Option<&[u8]>) -> Vec<Record> {
    let began = cluster.now.wall.0 - n;
    (1..=n).map(|seq| write(run, began + seq, seq, &format!("k{run}-{seq}"), value)).collect()
}

/// A write of this run, at the time of the millisecond.
pub(super) fn write(run: u64, millis: u64, seq: u64, key: &str, value: Option<&[u8]>) -> Record {
    let stamp = Stamp { time: HlcTime::from_millis(millis), origin: OriginId(run) };
    Record::new(stamp, seq, key.as_bytes(), value.map(|value| (value, None)))
}

/// Writes of a run come to a member by way of another one, which is met.
fn pass_on(cluster: &mut Cluster, (from, to): (usize, usize), run: u64, records: &[Record]) {
    let seqs = records.iter().map(|record| record.dot().seq);
    let settles = seqs.map(|seq| (seq, seq)).collect();
    let from = cluster.members[from].store.origin().0;
    let push = Push { of: run, settles, from, urgent: false };
    let (now, replication) = (cluster.now, &mut cluster.members[to].replication);
    replication.pushed(now, &Bytes::new(), &push, records, Via::Datagram);
    cluster.drain(to);
}

/// A run pushes its writes to some of the members, and ends.
pub(super) fn push(cluster: &mut Cluster, to: &[usize], run: u64, records: &[Record]) {
    to.iter().for_each(|&to| pass_on(cluster, (1 - to.min(1), to), run, records));
}

/// The first two members delete this key, a while after it was written.
fn delete_later(cluster: &mut Cluster, run: u64, written: &Record) {
    let key = String::from_utf8_lossy(written.key());
    let millis = written.stamp().time.millis() + 500;
    push(cluster, &[0, 1], run, &[write(run, millis, 1, &key, None)]);
}

/// Runs that write a key each at the first two members, and end, one a second.
pub(super) fn end(cluster: &mut Cluster, runs: std::ops::Range<u64>) {
    for run in runs {
        let records = records(cluster, run, 1, Some(b"v"));
        push(cluster, &[0, 1], run, &records);
        cluster.run(Duration::from_secs(1));
    }
}

pub(super) fn known(cluster: &Cluster, member: usize) -> &Known {
    &cluster.members[member].replication.shared.known
}

/// All who are up have the same floor, and not many runs above it.
pub(super) fn have_cut(cluster: &Cluster) -> bool {
    let up = (0..cluster.members.len()).filter(|at| cluster.members[*at].up);
    let floors: Vec<u64> = up.map(|at| known(cluster, at).floor()).collect();
    floors[0] > 0 && floors.iter().all(|floor| *floor == floors[0])
}

fn resets(cluster: &Cluster) -> u64 {
    cluster.sum(|r| r.shared.counters.resets_total)
}

#[test]
fn the_list_is_cut_again_and_again_and_stays_short() {
    let mut cluster = cluster(3);
    let mut longest = 0;
    for at in 0..10 {
        end(&mut cluster, FIRST + at * 20..FIRST + (at + 1) * 20);
        longest = longest.max((0..3).map(|at| known(&cluster, at).n_folded()).max().unwrap());
    }
    assert!(have_cut(&cluster) && longest <= 2 * BOUND.most + 10, "{longest}");
    cluster.must_agree_within(Duration::from_secs(5));
    assert_eq!(cluster.value(2, &format!("k{}-1", FIRST)).as_deref(), Some(&b"v"[..]));
    let heads = |r: &Replication| r.shared.peers.iter().map(|peer| peer.n_heads() as u64).max();
    assert!(cluster.sum(|r| heads(r).unwrap_or(0)) <= 3 * 40);
    assert_eq!((resets(&cluster), cluster.divergences), (0, 0));
    assert_eq!(cluster.sum(|r| r.pulls.started_total), 2, "but for the first copies");
}

#[test]
fn nobody_cuts_again_before_the_others_have_cut() {
    let mut cluster = cluster(3);
    // Far too many at once: half of them stay above the first floor.
    end(&mut cluster, FIRST..FIRST + 15);
    for run in FIRST + 15..FIRST + 100 {
        let records = records(&cluster, run, 1, Some(b"v"));
        push(&mut cluster, &[0, 1, 2], run, &records);
    }
    cluster.run(Duration::from_secs(30));
    assert!(have_cut(&cluster));
    assert_eq!((resets(&cluster), cluster.divergences), (0, 0));
}

#[test]
fn a_joiner_takes_the_floor_over_and_holds_all_that_is_below_it() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster));
    cluster.add(GRACE);
    cluster.meet();
    assert!(cluster.run_until(Duration::from_secs(5), |c| c.equal() && have_cut(c)));
    end(&mut cluster, FIRST + 40..FIRST + 80);
    cluster.must_agree_within(Duration::from_secs(5));
    assert!(have_cut(&cluster));
    assert_eq!((resets(&cluster), cluster.divergences), (0, 0));
}

#[test]
fn of_a_run_that_is_let_go_of_nothing_is_left_that_others_lack() {
    let mut cluster = cluster(1);
    let known = &mut cluster.members[0].replication.shared.known;
    known.claim(OriginId(FIRST), 3);
    known.take_mark(OriginId(FIRST), 2);
    assert!(known.is_behind(&Claims::default()), "they have heard of none of its deletes");
    known.let_go(OriginId(FIRST));
    assert!(!known.is_behind(&Claims::default()));
}

/// A third member joins. Writes of a run come to it before its copy, when it knows no floor.
fn join_after(cluster: &mut Cluster, run: u64, records: &[Record]) {
    cluster.add(GRACE);
    cluster.meet();
    while known(cluster, 2).is_unknown(OriginId(run)) {
        assert_eq!(known(cluster, 2).floor(), 0, "the copy was sooner");
        cluster.run(Duration::from_micros(100));
        pass_on(cluster, (0, 2), run, records);
    }
}

#[test]
fn a_joiner_that_was_pushed_a_write_from_below_the_floor_names_no_run_that_nobody_knows() {
    let mut cluster = cluster(2);
    let old = records(&cluster, FIRST, 1, Some(b"v"));
    push(&mut cluster, &[0, 1], FIRST, &old);
    end(&mut cluster, FIRST + 1..FIRST + 40);
    assert!(have_cut(&cluster) && known(&cluster, 0).is_unknown(OriginId(FIRST)));
    // On its way for as long.
    join_after(&mut cluster, FIRST, &old);
    assert!(cluster.run_until(Duration::from_secs(5), |c| c.equal() && have_cut(c)));
    assert!(known(&cluster, 2).is_unknown(OriginId(FIRST)));
    cluster.run(Duration::from_secs(5));
    assert!(known(&cluster, 0).is_unknown(OriginId(FIRST)), "it came back by way of the joiner");
}

#[test]
fn a_new_write_that_only_a_joiner_was_pushed_comes_to_all() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster));
    // Its writer has ended, and nobody else had it by then.
    let new = records(&cluster, 77, 1, Some(b"new"));
    join_after(&mut cluster, 77, &new);
    cluster.must_agree_within(Duration::from_secs(5));
    (0..3).for_each(|at| assert_eq!(cluster.value(at, "k77-1").as_deref(), Some(&b"new"[..])));
    assert_eq!(cluster.divergences, 0);
}

#[test]
fn a_new_delete_that_only_a_joiner_was_pushed_is_forgotten_by_all_in_time() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster));
    let delete = write(77, cluster.now.wall.0, 1, "nowhere", None);
    join_after(&mut cluster, 77, &[delete]);
    cluster.must_agree_within(Duration::from_secs(5));
    let gone = |c: &Cluster| c.members.iter().all(|m| m.store.stats().n_tombstones == 0);
    assert!(cluster.run_until(GRACE + Duration::from_secs(60), gone));
}

#[test]
fn deletes_of_runs_below_the_floor_are_forgotten_and_stay_deletes() {
    let mut cluster = cluster(2);
    let put = records(&cluster, 77, 3, Some(b"old"));
    push(&mut cluster, &[0, 1], 77, &put);
    cluster.run(Duration::from_secs(1));
    (0..3).for_each(|at| delete_later(&mut cluster, 78 + at as u64, &put[at]));
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster));
    assert!(!known(&cluster, 0).is_folded(OriginId(78)), "it is below the floor");
    let gone = |c: &Cluster| c.members.iter().all(|m| m.store.stats().n_tombstones == 0);
    assert!(cluster.run_until(GRACE + Duration::from_secs(40), gone));
    // A late copy from before the deletes.
    let refused_total = |c: &Cluster| c.sum(|r| r.shared.counters.resurrections_refused_total);
    let (now, refused) = (cluster.now, refused_total(&cluster));
    cluster.members[0].replication.with(now, |cx| receive::apply(cx, &put, false));
    assert_eq!(cluster.value(0, "k77-1"), None);
    assert_eq!(refused_total(&cluster) - refused, 3);
}

#[test]
fn a_dead_member_that_held_all_below_the_floor_holds_no_delete_back() {
    let mut cluster = cluster(3);
    let delete = write(78, cluster.now.wall.0, 1, "k", None);
    push(&mut cluster, &[0, 1], 78, &[delete]);
    end(&mut cluster, FIRST..FIRST + 15);
    cluster.run(Duration::from_secs(20));
    cluster.members[2].up = false;
    cluster.meet();
    // It is remembered all the time.
    end(&mut cluster, FIRST + 15..FIRST + 40);
    assert!(known(&cluster, 0).floor() > 0 && !known(&cluster, 0).is_folded(OriginId(78)));
    assert_eq!(cluster.members[0].store.stats().n_tombstones, 0);
}

/// The third of three members is cut off, and the other two have forgotten it.
fn leave_alone(cluster: &mut Cluster) {
    cluster.cut = vec![(0, 2), (1, 2)];
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    cluster.members[2].up = false;
}

fn bring_back(cluster: &mut Cluster) {
    cluster.members[2].up = true;
    cluster.cut.clear();
    cluster.meet();
}

#[test]
fn one_that_was_away_compares_its_store_and_serves_nothing_that_was_deleted() {
    let mut cluster = cluster(3);
    (0..50).for_each(|n| cluster.put(0, &format!("k{n}"), b"v"));
    cluster.must_agree_within(Duration::from_secs(5));
    leave_alone(&mut cluster);
    // A run that comes and goes meanwhile deletes them, and goes below the floor.
    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let began = cluster.now.wall.0;
    let delete = |(n, key): (u64, &String)| write(78, began + n, n + 1, key, None);
    let deletes: Vec<Record> = (0..).zip(&keys).map(delete).collect();
    push(&mut cluster, &[0, 1], 78, &deletes);
    end(&mut cluster, FIRST..FIRST + 80);
    let n_deletes = |c: &Cluster| c.members[0].store.stats().n_tombstones;
    assert!(have_cut(&cluster) && n_deletes(&cluster) == 0);
    bring_back(&mut cluster);
    let is_back = |c: &Cluster| c.equal() && have_cut(c);
    for _ in 0..20_000 {
        cluster.run(MILLIS);
        let is_ready = cluster.members[2].replication.view().health() == Health::Ok;
        let serves = keys.iter().any(|key| cluster.value(2, key).is_some());
        let has_heard = known(&cluster, 2).floor() > 0;
        assert!(!(is_ready && has_heard && serves), "it serves what was deleted");
        if is_ready && is_back(&cluster) {
            break;
        }
    }
    assert!(is_back(&cluster));
    assert_eq!(cluster.members[2].replication.shared.counters.resets_total, 1);
    assert_eq!(cluster.divergences, 0);
    end(&mut cluster, FIRST + 80..FIRST + 160);
    cluster.must_agree_within(Duration::from_secs(5));
    assert!(have_cut(&cluster));
}

#[test]
fn who_hides_while_the_others_cut_their_lists_finds_somebody_to_compare_with() {
    let mut cluster = cluster(3);
    cluster.put(0, "k", b"v");
    end(&mut cluster, FIRST..FIRST + 15);
    // It is told that it lacks a delete of one of these runs, and nobody answers it for a while.
    let lacked = Dot { origin: OriginId(FIRST + 3), seq: 1 };
    cluster.cut = vec![(0, 2), (1, 2)];
    cluster.meet();
    let (now, floor) = (cluster.now, known(&cluster, 2).floor());
    let sleeper = &mut cluster.members[2].replication;
    sleeper.with(now, |cx| {
        let _ = super::super::repair::ready::hide(cx);
    });
    sleeper.walk.reset(now.instant, (vec![lacked], floor), false);
    end(&mut cluster, FIRST + 15..FIRST + 40);
    assert!(known(&cluster, 0).floor() > 0);
    assert!(!known(&cluster, 0).is_folded(lacked.origin), "it is below the floor");
    cluster.cut.clear();
    cluster.meet();
    let is_ready = |c: &Cluster| c.members[2].replication.view().health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(10), is_ready));
    assert!(cluster.run_until(Duration::from_secs(10), |c| c.equal() && have_cut(c)));
}

#[test]
fn one_that_was_away_for_a_moment_cuts_its_list_as_the_others_did() {
    let mut cluster = cluster(3);
    end(&mut cluster, FIRST..FIRST + 20);
    cluster.run(Duration::from_secs(3));
    cluster.members[2].up = false;
    cluster.meet();
    end(&mut cluster, FIRST + 20..FIRST + 28);
    assert!(known(&cluster, 0).floor() > 0 && known(&cluster, 2).floor() == 0);
    bring_back(&mut cluster);
    assert!(cluster.run_until(Duration::from_secs(10), |c| c.equal() && have_cut(c)));
    assert_eq!((resets(&cluster), cluster.divergences), (0, 0));
}

#[test]
fn sides_that_cut_apart_end_as_one() {
    let mut cluster = cluster(4);
    cluster.cut = vec![(0, 2), (0, 3), (1, 2), (1, 3)];
    for (at, other) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        cluster.tell(at, &[other]);
        cluster.drain(at);
    }
    for run in (FIRST..FIRST + 120).step_by(2) {
        let (one, other) =
            (records(&cluster, run, 1, Some(b"a")), records(&cluster, run + 1, 1, Some(b"b")));
        for (a, b, run, records) in [(0, 1, run, &one), (2, 3, run + 1, &other)] {
            pass_on(&mut cluster, (a, b), run, records);
            pass_on(&mut cluster, (b, a), run, records);
        }
        cluster.run(Duration::from_secs(1));
    }
    assert!(known(&cluster, 0).floor() > 0 && known(&cluster, 2).floor() > 0);
    assert_ne!(known(&cluster, 0).floor(), known(&cluster, 2).floor());
    cluster.cut.clear();
    cluster.meet();
    let is_one = |c: &Cluster| {
        let is_ready = |m: &cluster::Member| m.replication.view().health() == Health::Ok;
        c.equal() && have_cut(c) && c.members.iter().all(is_ready)
    };
    assert!(cluster.run_until(Duration::from_secs(60), is_one));
    for run in FIRST..FIRST + 120 {
        let key = format!("k{run}-1");
        assert!((0..4).all(|at| cluster.value(at, &key).is_some()), "{key}");
    }
}

#[test]
fn nobody_cuts_beside_a_member_that_knows_no_floors() {
    let mut cluster = cluster(2);
    // What the oldest format says has no room for a floor.
    cluster.formats = Formats::UNTOLD;
    cluster.add(GRACE);
    cluster.meet();
    end(&mut cluster, FIRST..FIRST + 60);
    cluster.must_agree_within(Duration::from_secs(5));
    assert!((0..3).all(|at| known(&cluster, at).floor() == 0));
    assert!(known(&cluster, 0).n_folded() > 2 * BOUND.most, "far too many");
    leave_alone(&mut cluster);
    assert!(cluster.run_until(Duration::from_secs(30), have_cut), "it is remembered no more");
}

/// Tells the first member in the name of the second that its floor is this.
fn claim(cluster: &mut Cluster, floor: u64) {
    let (me, from) = (cluster.members[0].store.origin(), cluster.members[1].store.origin());
    let now = cluster.now;
    let digest = Digest {
        whole: true,
        stage: Some(2),
        floor: Some(floor),
        at: Some(now.instant.as_millis()),
        ..Digest::of_heads(from, Vec::new())
    };
    let digest = digest.for_run(me);
    cluster.members[0].replication.digested(now, &digest, Via::Datagram, 100);
}

#[test]
fn a_floor_that_is_only_told_hides_nobody() {
    let mut cluster = cluster(2);
    cluster.put(0, "k", b"v");
    cluster.run(Duration::from_secs(2));
    let ignored = |c: &Cluster| c.members[0].replication.shared.floors.ignored_total;
    claim(&mut cluster, u64::MAX);
    assert_eq!((resets(&cluster), ignored(&cluster)), (0, 1));
    // The second one answers when it is asked, and has never cut its list.
    let now_s = cluster.now.wall.0 / 1000;
    claim(&mut cluster, now_s << 32 | 7);
    cluster.run(Duration::from_secs(2));
    assert_eq!(resets(&cluster), 0);
    // And then it is silent. That it is ready, and never serves, keeps nobody from anything.
    cluster.tcp_cut.push((0, 1));
    for second in 0..20 {
        claim(&mut cluster, (now_s + second) << 32 | 7);
        cluster.run(Duration::from_secs(1));
        let health = cluster.members[0].replication.view().health();
        assert_eq!((resets(&cluster), health), (0, Health::Ok), "after {second} s");
    }
}

#[test]
fn a_list_of_one_that_has_yet_to_cut_brings_nothing_back() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster) && !known(&cluster, 0).is_folded(OriginId(FIRST)));
    let from = cluster.members[1].store.origin().0;
    for floor in [None, Some((FLOOR.0, 7, 0))] {
        let mut list = vec![(FIRST, 1, 0), (FIRST + 1, 1, 0)];
        list.extend(floor);
        let now = cluster.now;
        cluster.members[0].replication.folded(now, &Folded { from, list });
        cluster.run(Duration::from_secs(3));
        assert!(known(&cluster, 0).highest(OriginId(FIRST)) == 0);
        assert_eq!(cluster.sum(|r| r.gaps.wants_total), 0);
    }
    assert!(have_cut(&cluster));
}

#[test]
fn nothing_in_the_name_of_the_floor_is_a_write() {
    let mut cluster = cluster(2);
    let record = write(FLOOR.0, cluster.now.wall.0, 1, "forged", Some(b"v"));
    push(&mut cluster, &[0, 1], FLOOR.0, &[record]);
    let from = cluster.members[1].store.origin();
    let now = cluster.now;
    let digest = Digest::of_heads(from, vec![(FLOOR.0, 9)]);
    cluster.members[0].replication.digested(now, &digest, Via::Datagram, 100);
    cluster.run(Duration::from_secs(5));
    let heads = known(&cluster, 0).heads(0);
    assert!(heads.iter().all(|(origin, _)| *origin != FLOOR.0), "{heads:?}");
    assert_eq!(known(&cluster, 0).floor(), 0);
}

#[test]
fn thousands_of_runs_leave_memory_and_digests_as_they_were() {
    go_through(30_000);
}

#[test]
#[ignore = "takes ten minutes; the one of thousands does the same"]
fn a_million_runs_leave_memory_and_digests_as_they_were() {
    go_through(1_000_000);
}

/// So many runs, hundreds each second, each of which writes a key and deletes one.
fn go_through(n_runs: u64) {
    const A_SECOND: u64 = 256;
    const MOST: usize = 4_096;
    let mut cluster = Cluster::new(0, 0.0);
    cluster.folded = FoldedBound { most: MOST, ..FoldedBound::default() };
    (0..2).for_each(|_| cluster.add(GRACE));
    cluster.meet();
    cluster.run(Duration::from_secs(2));
    let (mut n, mut most_kept, mut most_tombstones) = (0, 0, 0);
    while n < n_runs {
        for run in FIRST + n..FIRST + n + A_SECOND {
            let stamp = |seq| Stamp {
                time: HlcTime(HlcTime::from_millis(cluster.now.wall.0).0 + run % 1024 * 2 + seq),
                origin: OriginId(run),
            };
            let (kept, gone) = (format!("kept{}", run % 97), format!("gone{run}"));
            let writes = [
                Record::new(stamp(1), 1, kept.as_bytes(), Some((b"v", None))),
                Record::new(stamp(2), 2, gone.as_bytes(), None),
            ];
            push(&mut cluster, &[0, 1], run, &writes);
        }
        n += A_SECOND;
        cluster.run(Duration::from_secs(1));
        most_kept = most_kept.max(known(&cluster, 0).n_kept());
        most_tombstones = most_tombstones.max(cluster.members[0].store.stats().n_tombstones);
    }
    cluster.run(GRACE + Duration::from_secs(60));
    cluster.must_agree_within(Duration::from_secs(5));
    // Twice the list at most, what has come since, and what was let go of last.
    assert!(most_kept < 3 * MOST + REMEMBERED_MAX, "{most_kept} entries of runs at most");
    assert!(most_tombstones < 60 * A_SECOND, "{most_tombstones} tombstones at most");
    for at in 0..2 {
        let (stats, known) = (cluster.members[at].store.stats(), known(&cluster, at));
        assert_eq!((stats.n_live, stats.n_tombstones), (97, 0));
        assert_eq!((known.n_origins(), known.refused_total()), (0, 0));
        assert!(known.n_folded() <= 3 * MOST && known.floor() > 0);
        let heads = cluster.members[at].replication.shared.peers.iter().map(|peer| peer.n_heads());
        assert!(heads.max() <= Some(1));
    }
    let len = |c: &Cluster| c.datagram_len + c.link_len;
    let before = len(&cluster);
    cluster.run(Duration::from_secs(60));
    let each_second = (len(&cluster) - before) / 60;
    assert!(each_second < 250, "{each_second} bytes a second of two idle nodes");
    assert_eq!((resets(&cluster), cluster.divergences), (0, 0));
    cluster.put_and_wait(b"v", Concern::All, Duration::from_secs(1));
    cluster.run(Duration::from_secs(1));
    assert_eq!(cluster.held, [(2, 2)]);
    eprintln!(
        "{n} runs: {most_kept} entries, {most_tombstones} tombstones, {each_second} B/s idle"
    );
}

/// A member that was let go of while it was cut off is back as the same run, and tells an old write
/// after a new one: by then numbers of it are known again.
#[test]
fn an_old_write_of_one_that_was_let_go_of_stays_deleted_when_it_is_back() {
    let mut cluster = cluster(2);
    let writer = 77;
    let old = records(&cluster, writer, 2, Some(b"old"));
    push(&mut cluster, &[0, 1], writer, &old);
    cluster.run(Duration::from_secs(1));
    delete_later(&mut cluster, 78, &old[0]);
    end(&mut cluster, FIRST..FIRST + 80);
    assert!(have_cut(&cluster) && known(&cluster, 0).is_unknown(OriginId(writer)));
    assert_eq!(cluster.value(0, "k77-1"), None);
    let new = write(writer, cluster.now.wall.0, 3, "new", Some(b"v"));
    push(&mut cluster, &[0], writer, &[new]);
    push(&mut cluster, &[0], writer, &old[..1]);
    assert_eq!(cluster.value(0, "new").as_deref(), Some(&b"v"[..]));
    assert_eq!(cluster.value(0, "k77-1"), None, "it was deleted");
}

/// A member whose clock is far behind writes before it has heard anything.
#[test]
fn a_write_of_a_new_member_whose_clock_is_behind_is_taken() {
    let mut cluster = cluster(2);
    let put = records(&cluster, 77, 1, Some(b"old"));
    push(&mut cluster, &[0, 1], 77, &put);
    delete_later(&mut cluster, 78, &put[0]);
    end(&mut cluster, FIRST..FIRST + 80);
    assert!(have_cut(&cluster));
    cluster.add(GRACE);
    cluster.meet();
    let newcomer = cluster.members[2].store.origin();
    assert!(cluster.run_until(Duration::from_secs(5), |c| c.equal()));
    let write = write(newcomer.0, 1, 1, "behind", Some(b"v"));
    pass_on(&mut cluster, (2, 0), newcomer.0, &[write]);
    assert_eq!(cluster.value(0, "behind").as_deref(), Some(&b"v"[..]));
}

/// The second member claims to hold the write of a run that was let go of, again and again, in a
/// digest like this one.
fn claim_again(cluster: &mut Cluster, digest: &Digest) {
    let (me, from) = (cluster.members[0].store.origin(), cluster.members[1].store.origin());
    let claim = Digest::of_heads(from, vec![(FIRST, 1)]).for_run(me);
    let claim = Digest { from: claim.from, heads: claim.heads, to: claim.to, ..digest.clone() };
    for _ in 0..50 {
        let now = cluster.now;
        cluster.members[0].replication.digested(now, &claim, Via::Datagram, 100);
        cluster.run(Duration::from_millis(100));
    }
}

/// What a whole digest is like that a member sends which is ready.
fn whole() -> Digest {
    Digest { whole: true, stage: Some(2), ..Digest::of_heads(OriginId(0), Vec::new()) }
}

#[test]
fn a_digest_of_one_that_has_yet_to_cut_its_list_brings_back_no_run() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster));
    let at = Some(cluster.now.instant.since(Instant::ZERO).as_millis() as u64 + 3_600_000);
    claim_again(&mut cluster, &Digest { at, floor: Some(0), ..whole() });
    assert_eq!(cluster.sum(|r| r.gaps.wants_total), 0);
}

#[test]
fn a_late_digest_brings_back_no_run_that_was_let_go_of() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster));
    claim_again(&mut cluster, &Digest { at: Some(1), ..whole() });
    // So does a late copy of a push.
    let late = write(FIRST + 1, 1_000_001, 1, &format!("k{}-1", FIRST + 1), Some(b"v"));
    push(&mut cluster, &[0], FIRST + 1, &[late]);
    cluster.run(Duration::from_secs(2));
    assert!(known(&cluster, 0).is_unknown(OriginId(FIRST + 1)));
    assert_eq!(cluster.sum(|r| r.gaps.wants_total + r.pulls.started_total), 1, "its first copy");
}

#[test]
fn a_later_copy_leaves_out_what_is_below_the_floor() {
    let mut cluster = cluster(2);
    end(&mut cluster, FIRST..FIRST + 40);
    assert!(have_cut(&cluster));
    let before = cluster.sum(|r| r.pulls.records_in_total);
    let (now, peer) = (cluster.now, cluster.members[1].store.origin());
    cluster.members[0].replication.pull_from(now, peer);
    cluster.drain(0);
    cluster.run(Duration::from_secs(2));
    let came = cluster.sum(|r| r.pulls.records_in_total) - before;
    assert!(came <= 25, "{came} of 40 records");
    assert_eq!(resets(&cluster), 0);
}
