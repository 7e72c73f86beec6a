//! Readiness: who copies from whom, and what counts as a copy.

use super::*;

fn stage(cluster: &Cluster, index: usize) -> Stage {
    cluster.members[index].replication.view().stage()
}

fn is_ready(cluster: &Cluster, index: usize) -> bool {
    cluster.members[index].replication.view().health() == Health::Ok
}

fn n_keys(cluster: &Cluster, index: usize) -> u64 {
    cluster.members[index].store.stats().n_live
}

/// One node that is ready and holds this many keys.
fn one_with(n: usize) -> Cluster {
    let mut cluster = Cluster::new(1, 0.0);
    for index in 0..n {
        cluster.put(0, &format!("k{index}"), &[b'v'; 100]);
    }
    cluster
}

#[test]
fn those_that_start_together_copy_from_the_one_that_is_ready_only() {
    for seed in 0..20 {
        let mut cluster = one_with(3000);
        cluster.rng = Rng::from_seed(seed);
        for _ in 0..5 {
            cluster.add(Duration::from_secs(3600));
        }
        cluster.meet();
        for _ in 0..3000 {
            cluster.run(MILLIS);
            for joiner in 1..6 {
                let complete = n_keys(&cluster, joiner) == 3000;
                assert!(!is_ready(&cluster, joiner) || complete, "seed {seed}: ready without all");
            }
            if (1..6).all(|joiner| is_ready(&cluster, joiner)) {
                break;
            }
        }
        assert!((1..6).all(|joiner| stage(&cluster, joiner) == Stage::Copied), "seed {seed}");
    }
}

#[test]
fn new_nodes_among_themselves_never_become_ready_without_a_founder() {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..3 {
        cluster.add(Duration::from_secs(3600));
    }
    for index in 0..3 {
        let others: Vec<usize> = (0..3).filter(|other| *other != index).collect();
        cluster.tell(index, &others);
        cluster.drain(index);
    }
    cluster.put(1, "k", b"taken while starting");
    cluster.run(Duration::from_secs(60));
    assert!((0..3).all(|index| stage(&cluster, index) == Stage::New));
    assert!(cluster.equal(), "plain writes merge all the same");
    let now = cluster.now;
    cluster.members[2].replication.found(now);
    cluster.drain(2);
    assert!(cluster.run_until(Duration::from_secs(2), |c| (0..3).all(|index| is_ready(c, index))));
    assert_eq!(cluster.value(0, "k").as_deref(), Some(&b"taken while starting"[..]));
}

#[test]
fn a_peer_counts_as_new_for_a_moment_only_while_this_node_may_found() {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..2 {
        cluster.add(Duration::from_secs(3600));
    }
    for (index, other) in [(0, 1), (1, 0)] {
        cluster.tell(index, &[other]);
        cluster.drain(index);
    }
    let knows = |c: &Cluster| c.members[0].replication.view().peers_are_new(c.now.instant).is_ok();
    assert!(cluster.run_until(Duration::from_secs(2), knows));
    // It may have founded since, and telling so may have been lost: it is asked again.
    for _ in 0..100 {
        cluster.run(MILLIS * 50);
        let now = cluster.now;
        cluster.members[0].replication.greet(now);
        cluster.drain(0);
        assert!(knows(&cluster));
    }
    cluster.members[1].up = false;
    cluster.run(Duration::from_secs(2));
    assert!(!knows(&cluster), "silence is no news");
}

#[test]
fn a_founder_joins_a_cluster_of_which_it_lacks_only_what_is_folded() {
    let mut cluster = one_with(0);
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    assert!(cluster.run_until(Duration::from_secs(2), |c| is_ready(c, 1)));
    // Somebody's second write, whose first is lost: no head tells of it.
    let gone = crate::kv::Stamp { time: crate::kv::HlcTime(1), origin: OriginId(7) };
    let record = Record::new(gone, 2, b"k", Some((b"v", None)));
    for at in 0..2 {
        let now = cluster.now;
        let replication = &mut cluster.members[at].replication;
        replication.with(now, |cx| receive::apply(cx, std::slice::from_ref(&record), true));
        replication.shared.known.fold(OriginId(7));
    }
    cluster.add(Duration::from_secs(3600));
    let now = cluster.now;
    cluster.members[2].replication.found(now);
    assert!(is_ready(&cluster, 2));
    cluster.meet();
    assert!(cluster.run_until(Duration::from_secs(1), |c| !is_ready(c, 2)), "it copies first");
    let has_all = |c: &Cluster| is_ready(c, 2) && c.value(2, "k").is_some();
    assert!(cluster.run_until(Duration::from_secs(2), has_all));
}

#[test]
fn a_founder_about_to_join_another_cluster_copies_from_any_of_it_that_is_ready() {
    let mut cluster = one_with(20_000);
    cluster.add(Duration::from_secs(3600));
    cluster.add(Duration::from_secs(3600));
    // It meets one that is new as well, and will copy from the first one.
    cluster.tell(2, &[1]);
    cluster.tell(1, &[2]);
    [1, 2].into_iter().for_each(|at| cluster.drain(at));
    cluster.run(MILLIS * 20);
    cluster.cut = vec![(1, 2), (0, 2)];
    cluster.meet();
    let now = cluster.now;
    cluster.members[2].replication.found(now);
    assert!(cluster.run_until(Duration::from_secs(5), |c| is_ready(c, 1)));
    cluster.cut.clear();
    cluster.meet();
    let begins = |c: &Cluster| n_keys(c, 2) > 100 && !is_ready(c, 2);
    assert!(cluster.run_until(Duration::from_secs(10), begins));
    cluster.members[0].up = false;
    cluster.meet();
    assert!(cluster.run_until(Duration::from_secs(8), |c| is_ready(c, 2)));
    assert_eq!(n_keys(&cluster, 2), 20_000);
}

#[test]
fn a_copy_that_breaks_off_is_none() {
    let mut cluster = one_with(20_000);
    for _ in 0..2 {
        cluster.add(Duration::from_secs(3600));
    }
    cluster.meet();
    assert!(cluster.run_until(Duration::from_secs(5), |c| n_keys(c, 1) > 1000));
    assert!(!is_ready(&cluster, 1) && !is_ready(&cluster, 2));
    // The only one that has all is gone: the two hold parts, and take neither for the whole.
    cluster.members[0].up = false;
    cluster.meet();
    cluster.run(Duration::from_secs(60));
    assert!(!is_ready(&cluster, 1) && !is_ready(&cluster, 2));
}

#[test]
fn of_two_clusters_founded_apart_one_founder_joins_the_other_then_the_other_way() {
    let mut cluster = one_with(2000);
    cluster.add(Duration::from_secs(3600));
    let now = cluster.now;
    cluster.members[1].replication.found(now);
    for index in 0..2000 {
        cluster.put(1, &format!("other{index}"), b"v");
    }
    assert!(is_ready(&cluster, 0) && is_ready(&cluster, 1));
    cluster.meet();
    let mut hidden = [false; 2];
    for _ in 0..5000 {
        cluster.run(MILLIS);
        hidden = [0, 1].map(|index| hidden[index] || !is_ready(&cluster, index));
        assert!(is_ready(&cluster, 0) || is_ready(&cluster, 1), "one of them serves at any time");
        if hidden == [true; 2] && is_ready(&cluster, 0) && is_ready(&cluster, 1) {
            break;
        }
    }
    assert!(cluster.equal());
    assert_eq!(hidden, [true; 2], "each was not ready while it lacked what the other had");
}

#[test]
fn whoever_answers_at_an_address_must_be_the_run_that_was_meant() {
    let mut cluster = one_with(100);
    cluster.add(Duration::from_secs(3600));
    // The newcomer is told of a dead run's row with the newcomer's own address.
    let mut dead = PeerInfo {
        origin: OriginId(7),
        name: NodeName::from("dead"),
        addr: addr(1),
        reachable: true,
        udp_blocked: false,
        formats: Formats::SPOKEN,
        ttl: true,
        names: true,
    };
    let now = cluster.now;
    let joiner = &mut cluster.members[1].replication;
    joiner.members(now, vec![dead.clone()]);
    let heads = message::Digest::of_heads(OriginId(7), vec![(7, 0)]);
    let stage = Some(Stage::Copied.code());
    let digest = message::Digest { whole: true, stage, ..heads };
    joiner.digested(now, &digest, Via::Datagram, 100);
    cluster.drain(1);
    cluster.run(Duration::from_secs(10));
    assert!(!is_ready(&cluster, 1), "it has copied from itself");
    dead.reachable = false;
    cluster.members[1].replication.members(now, vec![dead]);
    cluster.meet();
    assert!(cluster.run_until(Duration::from_secs(5), |c| is_ready(c, 1)));
    assert_eq!(n_keys(&cluster, 1), 100);
}

/// What a peer tells of itself, for `to`, as of this millisecond of its clock.
fn told(from: OriginId, stage: Stage, (to, at): (Option<OriginId>, u64)) -> message::Digest {
    message::Digest {
        whole: true,
        stage: Some(stage.code()),
        to: to.map(|to| to.0),
        at: Some(at),
        ..message::Digest::of_heads(from, Vec::new())
    }
}

#[test]
fn a_late_digest_makes_no_peer_with_data_look_new() {
    let mut cluster = one_with(10);
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    let now = cluster.now;
    let (me, peer) = (cluster.members[1].store.origin(), cluster.members[0].store.origin());
    let joiner = &mut cluster.members[1].replication;
    let looks_new = |joiner: &Lent| joiner.view().peers_are_new(now.instant).is_ok();
    joiner.digested(now, &told(peer, Stage::Copied, (Some(me), 500)), Via::Datagram, 100);
    assert!(!looks_new(joiner));
    // What it said as it was new: a copy that comes late, and one for who was here before.
    let late =
        [told(peer, Stage::New, (Some(me), 499)), told(peer, Stage::New, (Some(OriginId(9)), 501))];
    for digest in &late {
        joiner.digested(now, digest, Via::Datagram, 100);
        assert!(!looks_new(joiner), "{digest:?}");
    }
    // One that does not say when is taken as it comes: builds from before cannot.
    let untold = message::Digest { at: None, ..told(peer, Stage::New, (None, 0)) };
    joiner.digested(now, &untold, Via::Datagram, 100);
    assert!(looks_new(joiner));
}

#[test]
fn who_founds_in_the_same_moment_is_not_of_another_cluster() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(0, 0.0);
        cluster.rng = Rng::from_seed(seed);
        for _ in 0..2 {
            cluster.add(Duration::from_secs(3600));
        }
        for index in 0..2 {
            cluster.tell(index, &[1 - index]);
            cluster.drain(index);
        }
        cluster.run(Duration::from_secs(1));
        // What the first tells of its stage is lost, and it takes writes at once.
        (cluster.udp_cut, cluster.tcp_cut) = (vec![(0, 1)], vec![(0, 1)]);
        for index in 0..2 {
            let now = cluster.now;
            cluster.members[index].replication.found(now);
            cluster.drain(index);
        }
        cluster.run(MILLIS * 20);
        (cluster.udp_cut, cluster.tcp_cut) = (Vec::new(), Vec::new());
        for number in 0..2000 {
            cluster.put(0, &format!("k{number}"), b"v");
            cluster.run(MILLIS);
            let founded = |index| stage(&cluster, index) == Stage::Founded;
            assert!((0..2).all(founded), "seed {seed}: {number}");
        }
        assert!(cluster.run_until(Duration::from_secs(2), |c| n_keys(c, 1) == 2000));
    }
}

#[test]
fn who_never_held_a_whole_copy_is_not_reset_but_copies() {
    let mut cluster = Cluster::new(0, 0.0);
    (0..3).for_each(|_| cluster.add(Duration::from_secs(2)));
    for (index, other) in [(0, 1), (1, 0)] {
        cluster.tell(index, &[other]);
        cluster.drain(index);
    }
    cluster.put(0, "k", b"v");
    cluster.run(Duration::from_secs(1));
    cluster.delete(0, "k");
    cluster.run(Duration::from_secs(1));
    let tombstone = cluster.members[0].store.entry(b"k").expect("a delete");
    cluster.members[0].replication.with(cluster.now, |cx| cx.known.forget(&tombstone));

    // A third one that clients write to pulls from one that has never been ready either, and has
    // forgotten a delete.
    for (index, others) in [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])] {
        cluster.tell(index, &others);
    }
    cluster.put(2, "own", b"v");
    let first = cluster.members[0].store.origin();
    cluster.members[2].replication.pull_from(cluster.now, first);
    (0..3).for_each(|index| cluster.drain(index));
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.members[2].replication.pulls.completed_total, 1);
    let stages = [0, 1, 2].map(|index| stage(&cluster, index));
    assert_eq!(stages, [Stage::New; 3], "nobody takes itself for whole, for want of a copy");
}
