//! Members that speak different ranges of formats, side by side.

use super::*;

const OLD: Formats = Formats::UNTOLD;
const NOW: Formats = Formats { first: 2, last: 3 };
const NEXT: Formats = Formats { first: 3, last: 4 };

/// Members that speak these, in order.
fn mixed(formats: &[Formats], loss: f64) -> Cluster {
    let mut cluster = Cluster::new(0, loss);
    for formats in formats {
        cluster.formats = *formats;
        cluster.add(Duration::from_secs(3600));
    }
    cluster.meet();
    cluster.run(Duration::from_secs(2));
    cluster
}

fn busy(cluster: &mut Cluster, n: usize) {
    let n_members = cluster.members.len();
    for index in 0..n {
        cluster.put(index % n_members, &format!("k{}", index % 50), &vec![index as u8; index * 7]);
        if index % 10 == 0 {
            cluster.put(index % n_members, "large", &vec![index as u8; 200_000]);
        }
        cluster.run(MILLIS * 2);
    }
}

/// Nobody got what it cannot read.
fn check_readable(cluster: &Cluster) {
    for member in &cluster.members {
        let counters = &member.replication.shared.counters;
        assert_eq!(counters.unreadable_total, 0);
        assert_eq!(counters.fields_passed_over_total + counters.kinds_passed_over_total, 0);
    }
}

#[test]
fn neighbouring_versions_replicate_and_nobody_gets_what_it_cannot_read() {
    for formats in [[OLD, NOW, OLD], [NOW, NEXT, NOW], [NEXT, NOW, NEXT]] {
        let mut cluster = mixed(&formats, 0.2);
        busy(&mut cluster, 300);
        cluster.must_agree_within(Duration::from_secs(5));
        // The safety net and a joiner's copy.
        let record = cluster.members[0].store.entry(b"k7").expect("held");
        cluster.members[0].store.remove_exact(b"k7", record.stamp());
        cluster.must_agree_within(Duration::from_secs(10));
        cluster.formats = formats[1];
        cluster.add(Duration::from_secs(3600));
        cluster.meet();
        cluster.must_agree_within(Duration::from_secs(5));
        check_readable(&cluster);
        let ready =
            |c: &Cluster| c.members.iter().all(|m| m.replication.view().health() == Health::Ok);
        assert!(cluster.run_until(Duration::from_secs(5), ready));
    }
}

#[test]
fn what_two_versions_cannot_tell_each_other_goes_through_one_between_them() {
    let mut cluster = mixed(&[OLD, NEXT, NOW], 0.1);
    busy(&mut cluster, 200);
    cluster.must_agree_within(Duration::from_secs(5));
    check_readable(&cluster);
    assert_eq!(cluster.members.iter().map(|m| m.replication.view().n_peers()).sum::<usize>(), 4);
}

#[test]
fn rumors_cross_versions() {
    let formats: Vec<Formats> = [OLD, NOW, NOW].into_iter().cycle().take(15).collect();
    let mut cluster = mixed(&formats, 0.1);
    busy(&mut cluster, 60);
    cluster.must_agree_within(Duration::from_secs(5));
    check_readable(&cluster);
}

#[test]
fn those_that_share_no_format_are_no_peers_and_never_take_themselves_for_a_cluster() {
    let mut cluster = mixed(&[OLD, OLD, NEXT], 0.0);
    cluster.put(0, "k", b"v");
    cluster.put(2, "mine", b"v");
    cluster.run(Duration::from_secs(62));
    check_readable(&cluster);
    let now = cluster.now;
    let newcomer = &mut cluster.members[2].replication;
    assert_eq!(newcomer.view().health(), Health::Starting);
    assert_eq!(newcomer.view().n_peers(), 0);
    assert_eq!(newcomer.view().incompatible().count(), 2);
    assert_eq!(newcomer.shared.counters.datagrams_out + newcomer.links.dialled_total, 0);
    assert!(newcomer.user_state(now, OLD).is_empty());
    assert_eq!(cluster.notes[2], 2, "one at once, one after a minute");
    let old = &cluster.members[0].replication;
    assert_eq!((old.view().n_peers(), old.view().incompatible().count()), (1, 1));
    assert_eq!(cluster.value(1, "k").as_deref(), Some(&b"v"[..]));
}

#[test]
fn new_ones_of_an_old_format_do_not_copy_each_other_beside_those_that_they_do_not_understand() {
    let mut cluster = mixed(&[NEXT, OLD, OLD], 0.0);
    cluster.put(0, "k", b"v");
    cluster.put(1, "mine", b"v");
    cluster.run(Duration::from_secs(10));
    assert_eq!(cluster.members[0].replication.view().health(), Health::Ok);
    for stranger in &cluster.members[1..] {
        assert_eq!(stranger.replication.view().health(), Health::Starting);
        assert_eq!(stranger.replication.view().incompatible().count(), 1);
    }
}

#[test]
fn who_does_not_know_what_expires_is_no_peer_as_long_as_any_of_it_is_held() {
    let mut cluster = Cluster::new(0, 0.0);
    for formats in [NOW, NOW, OLD] {
        cluster.formats = formats;
        cluster.add(Duration::from_secs(5));
    }
    cluster.meet();
    cluster.run(Duration::from_secs(2));
    cluster.put(0, "k", b"v");
    cluster.must_agree_within(Duration::from_secs(5));
    // HTTP would have refused it; a member that joins later meets it all the same.
    cluster.put_lasting(0, "lasting", 3);
    cluster.run(MILLIS * 1_500);
    cluster.put(0, "later", b"v");
    cluster.put(2, "its", b"v");
    cluster.run(MILLIS * 1_000);
    let seen = |at: usize, key: &str| cluster.value(at, key).is_some();
    assert!(seen(1, "lasting") && seen(1, "later") && seen(0, "its"));
    assert!(!seen(2, "lasting") && !seen(2, "later"), "it gets nothing");
    for at in [0, 1] {
        let view = cluster.members[at].replication.view();
        assert_eq!((view.n_peers(), view.incompatible().count()), (1, 1));
    }
    // It claims nothing that it could not read: nobody would copy that from it.
    let dot = cluster.members[0].store.entry(b"lasting").expect("held").dot();
    assert!(!cluster.members[2].replication.view().covers(dot));
    // When it has expired, and that is forgotten, they are peers again.
    let all = |cluster: &Cluster| {
        cluster.members.iter().all(|member| member.replication.view().n_peers() == 2)
    };
    assert!(cluster.run_until(Duration::from_secs(60), all));
    assert!(!cluster.members[0].store.holds_lasting());
    cluster.must_agree_within(Duration::from_secs(60));
    assert!(cluster.value(2, "later").is_some() && cluster.value(2, "lasting").is_none());
}

#[test]
fn a_message_is_fitted_to_its_reader() {
    let push = message::Push { of: 1, settles: vec![(1, 1)], from: 1, urgent: false };
    let payload = KvMessage::Push(push, Vec::new()).payload();
    let format = |formats| fit(&payload, formats).and_then(|p| message::format_of(&p.join()));
    assert_eq!([format(OLD), format(NOW), format(NEXT)], [Some(2), Some(2), Some(3)]);
    assert_eq!(fit(&Payload::from(&b"foreign"[..]), NOW), None);
}

#[test]
fn a_link_survives_what_it_does_not_know() {
    let mut cluster = Cluster::new(2, 0.0);
    let conn = ConnId(77);
    let replication = &mut cluster.members[0].replication;
    replication.frame(cluster.now, conn, addr(1), &Bytes::from_static(b"\xc8\x03\x63\x91\x01"));
    replication.frame(
        cluster.now,
        conn,
        addr(1),
        &Bytes::from_static(b"\xc8\x03\x02\x94\x01\x02\x03\xc3"),
    );
    assert!(replication.links.is_open(conn));
    assert_eq!(replication.shared.counters.kinds_passed_over_total, 1);
    assert_eq!(replication.shared.counters.fields_passed_over_total, 1);
    assert_eq!(replication.shared.counters.unreadable_total, 0);
    replication.frame(cluster.now, conn, addr(1), &Bytes::from_static(b"\xc8\x09\x02"));
    assert!(!replication.links.is_open(conn), "a format that was never told");
}
