//! Leaving: it is over when others hold what is held here.

use super::cluster::{Cluster, MILLIS};
use super::*;

fn drain(cluster: &mut Cluster, at: usize) {
    let now = cluster.now;
    cluster.members[at].replication.drain(now);
    cluster.drain(at);
}

/// Runs until it is drained, for so long at most.
fn is_drained_within(cluster: &mut Cluster, at: usize, span: Duration) -> bool {
    let end = cluster.now.instant + span;
    while cluster.now.instant < end {
        if cluster.members[at].replication.is_drained(cluster.now) {
            return true;
        }
        cluster.run(MILLIS);
    }
    false
}

#[test]
fn a_backlog_of_large_values_is_handed_over() {
    for (n, value_len) in [(2, 1 << 20), (3, 300 << 10), (12, 64 << 10)] {
        let mut cluster = Cluster::new(n, 0.05);
        let value = vec![b'v'; value_len];
        for index in 0..20 {
            cluster.put(0, &format!("k{index}"), &value);
        }
        assert!(!cluster.members[0].replication.is_drained(cluster.now));
        assert_eq!(cluster.members[0].replication.unsent(cluster.now), 20);
        drain(&mut cluster, 0);
        assert!(is_drained_within(&mut cluster, 0, Duration::from_secs(4)), "{n} members");
        assert_eq!(cluster.members[0].replication.unsent(cluster.now), 0);
        cluster.members[0].up = false;
        assert!(cluster.run_until(Duration::from_secs(2), Cluster::equal));
    }
}

#[test]
fn one_that_does_not_answer_keeps_nobody_waiting_while_another_takes_all() {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.cut = vec![(0, 2)];
    cluster.put(0, "k", b"v");
    drain(&mut cluster, 0);
    assert!(is_drained_within(&mut cluster, 0, Duration::from_secs(2)));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 0);
    // With nobody who answers it is not done, and what is left is counted.
    cluster.cut = vec![(0, 1), (0, 2)];
    cluster.put(0, "l", b"v");
    drain(&mut cluster, 0);
    assert!(!is_drained_within(&mut cluster, 0, Duration::from_secs(5)));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 1);
}

/// Three members, of whom the third has written what reached the first alone, and has died.
fn last_word() -> Cluster {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.cut = vec![(1, 2)];
    cluster.put(2, "last word", b"v");
    assert!(cluster.run_until(MILLIS * 5, |c| c.value(0, "last word").is_some()));
    cluster.members[2].up = false;
    cluster.cut.clear();
    cluster
}

#[test]
fn what_only_the_leaving_node_holds_of_a_run_that_is_over_is_handed_over() {
    let mut cluster = last_word();
    cluster.meet();
    drain(&mut cluster, 0);
    assert_eq!(cluster.value(1, "last word"), None);
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 1);
    assert!(is_drained_within(&mut cluster, 0, MILLIS * 300));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 0);
    assert!(cluster.value(1, "last word").is_some());
}

#[test]
fn what_one_wrote_that_has_just_crashed_is_handed_over_before_anybody_has_noticed() {
    let mut cluster = last_word();
    drain(&mut cluster, 0);
    assert!(cluster.members[0].replication.unsent(cluster.now) > 0);
    assert!(is_drained_within(&mut cluster, 0, MILLIS * 300));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 0);
    assert!(cluster.value(1, "last word").is_some());
}

/// Two members of whom the first holds what a third wrote that left long ago; nobody tells of that
/// in digests any more.
fn heirloom() -> Cluster {
    let mut cluster = Cluster::new(3, 0.0);
    cluster.put(2, "heirloom", b"v");
    cluster.must_agree_within(MILLIS * 100);
    cluster.members[2].up = false;
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    let origin = cluster.members[2].store.origin();
    let is_folded = |c: &Cluster| {
        c.members[..2].iter().all(|member| member.replication.shared.known.is_folded(origin))
    };
    assert!(cluster.run_until(Duration::from_secs(20), is_folded));
    cluster
}

#[test]
fn one_that_is_new_copies_the_store_of_the_last_to_leave() {
    let mut cluster = heirloom();
    cluster.members[1].up = false;
    cluster.add(Duration::from_secs(3600));
    cluster.tell(0, &[3]);
    cluster.tell(3, &[0]);
    drain(&mut cluster, 0);
    assert!(!cluster.members[0].replication.is_drained(cluster.now));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 1);
    assert!(is_drained_within(&mut cluster, 0, Duration::from_secs(2)));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 0);
    assert_eq!(cluster.members[3].replication.view().health(), Health::Ok);
    assert!(cluster.value(3, "heirloom").is_some());
}

#[test]
fn what_is_told_of_no_more_goes_to_those_who_founded_apart() {
    let mut cluster = heirloom();
    cluster.members[1].up = false;
    for at in [3, 4] {
        cluster.add(Duration::from_secs(3600));
        let now = cluster.now;
        cluster.members[at].replication.found(now);
        cluster.put(at, &format!("of {at}"), b"v");
    }
    cluster.tell(3, &[4]);
    cluster.tell(4, &[3]);
    assert!(cluster.run_until(Duration::from_secs(5), |c| c.value(3, "of 4").is_some()));
    cluster.tell(0, &[3, 4]);
    [3, 4].into_iter().for_each(|at| cluster.tell(at, &[0, 7 - at]));
    drain(&mut cluster, 0);
    assert!(!cluster.members[0].replication.is_drained(cluster.now));
    assert!(cluster.members[0].replication.unsent(cluster.now) > 0);
    assert!(is_drained_within(&mut cluster, 0, Duration::from_secs(3)));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 0);
    assert!([3, 4].into_iter().any(|at| cluster.value(at, "heirloom").is_some()));
}

#[test]
fn one_that_leaves_too_is_no_heir() {
    let mut cluster = last_word();
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    cluster.must_agree_within(Duration::from_secs(2));
    // The second has begun to leave and hands over what it held until then.
    cluster.cut = vec![(0, 3)];
    cluster.put(0, "late", b"v");
    cluster.run(MILLIS * 20);
    drain(&mut cluster, 1);
    cluster.run(MILLIS * 20);
    drain(&mut cluster, 0);
    assert!(cluster.value(1, "late").is_some());
    assert!(!cluster.members[0].replication.is_drained(cluster.now));
    // The fourth may lack the last word, too, for all that the first one knows.
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 2);
    cluster.cut.clear();
    assert!(is_drained_within(&mut cluster, 0, Duration::from_secs(2)));
    assert!(cluster.value(3, "late").is_some());
    // Where all leave, each is the heir of the others: a cluster is stopped in a moment.
    drain(&mut cluster, 3);
    assert!(is_drained_within(&mut cluster, 3, Duration::from_secs(1)));
}

#[test]
fn one_that_was_never_ready_leaves_what_it_took() {
    let mut cluster = Cluster::new(0, 0.0);
    cluster.add(Duration::from_secs(3600));
    cluster.put(0, "k", b"v");
    drain(&mut cluster, 0);
    assert!(!cluster.members[0].replication.is_drained(cluster.now));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 1);
}

#[test]
fn alone_there_is_nothing_to_wait_for() {
    let mut cluster = Cluster::new(1, 0.0);
    cluster.put(0, "k", b"v");
    drain(&mut cluster, 0);
    assert!(cluster.members[0].replication.is_drained(cluster.now));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 0);
}

#[test]
fn with_all_others_dead_their_last_acknowledgement_counts() {
    let mut cluster = Cluster::new(2, 0.0);
    cluster.put(0, "before", b"v");
    cluster.must_agree_within(MILLIS * 10);
    cluster.run(MILLIS * 10);
    cluster.members[1].up = false;
    cluster.meet();
    drain(&mut cluster, 0);
    assert!(cluster.members[0].replication.is_drained(cluster.now));
    cluster.put(0, "after", b"v");
    assert!(!cluster.members[0].replication.is_drained(cluster.now));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 1);
}

/// The first one knows of nobody but a dead one, which holds nothing, and does not give up its only
/// value.
fn keeps_its_value_beside(mut cluster: Cluster, dead: usize) {
    cluster.members[1].up = false;
    let infos = vec![cluster.info(dead, false)];
    let now = cluster.now;
    cluster.members[0].replication.members(now, infos);
    drain(&mut cluster, 0);
    assert!(!is_drained_within(&mut cluster, 0, Duration::from_secs(1)));
    assert_eq!(cluster.members[0].replication.unsent(cluster.now), 1);
}

#[test]
fn what_others_wrote_is_not_forgotten_where_nobody_answers() {
    keeps_its_value_beside(last_word(), 1);
}

#[test]
fn the_word_of_the_dead_counts_no_more_when_somebody_answers() {
    let mut cluster = heirloom();
    cluster.add(Duration::from_secs(3600));
    cluster.cut = vec![(0, 1), (1, 3)];
    cluster.tell(0, &[3]);
    cluster.tell(3, &[0]);
    cluster.put(3, "last word", b"v");
    assert!(cluster.run_until(MILLIS * 5, |c| c.value(0, "last word").is_some()));
    // Its writer may be cut off only, but nobody is there to hold the heirloom.
    cluster.members[3].up = false;
    let infos = vec![cluster.info(3, false)];
    let now = cluster.now;
    cluster.members[0].replication.members(now, infos);
    drain(&mut cluster, 0);
    assert!(!is_drained_within(&mut cluster, 0, MILLIS * 100));
    cluster.cut.clear();
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    assert!(is_drained_within(&mut cluster, 0, Duration::from_secs(2)));
    assert!(cluster.value(1, "last word").is_some());
}

#[test]
fn the_folded_are_not_forgotten_where_nobody_answers() {
    let mut cluster = heirloom();
    cluster.add(Duration::from_secs(3600));
    keeps_its_value_beside(cluster, 3);
}

#[test]
fn those_that_were_never_ready_are_no_heirs_of_each_other_when_both_leave() {
    let mut cluster = Cluster::new(0, 0.0);
    (0..2).for_each(|_| cluster.add(Duration::from_secs(3600)));
    cluster.tell(0, &[1]);
    cluster.tell(1, &[0]);
    cluster.put(0, "k", b"v");
    cluster.must_agree_within(Duration::from_secs(1));
    for at in [0, 1] {
        drain(&mut cluster, at);
        cluster.run(MILLIS * 5);
    }
    for at in [0, 1] {
        assert!(!is_drained_within(&mut cluster, at, MILLIS * 500), "{at}");
        assert_eq!(cluster.members[at].replication.unsent(cluster.now), 1, "{at}");
    }
}

#[test]
fn a_run_that_is_folded_no_more_while_its_holder_leaves_is_handed_over() {
    // The first has folded it with 5 of its writes, and the others, whom some of it never reached,
    // with none.
    let mut cluster = Cluster::new(3, 0.0);
    let lost = OriginId(0x77);
    let (now, time) = (cluster.now, cluster.members[0].store.stats().hlc);
    let write = |seq: u64| {
        let stamp = crate::kv::Stamp { time, origin: lost };
        Record::new(stamp, seq, format!("of {seq}").as_bytes(), Some((b"v", None)))
    };
    let (held, past): (Vec<_>, _) = ((1..=5).map(write).collect(), write(9));
    let first = &mut cluster.members[0].replication;
    first.with(now, |cx| receive::apply(cx, &held, true));
    first.shared.known.fold(lost);
    drain(&mut cluster, 0);
    let first = &mut cluster.members[0].replication;
    first.with(now, |cx| receive::apply(cx, &[past], true));
    assert!(!first.shared.known.is_folded(lost));
    assert!(is_drained_within(&mut cluster, 0, Duration::from_secs(4)));
    let is_held = |at: usize| (1..=5).all(|seq| cluster.value(at, &format!("of {seq}")).is_some());
    assert!(is_held(1) || is_held(2));
}
