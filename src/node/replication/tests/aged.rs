//! Members behind whom hundreds of runs lie: those who watch go on as with three.

use super::cluster::Cluster;
use super::*;
use crate::kv::{Asked, Coverage, Seen, Token, Told};
use crate::limits::TOKEN_ORIGINS_MAX;
use crate::node::replication::facts::shared_folds::FoldedThere;

const GRACE: Duration = Duration::from_secs(3_600);
/// More than a token can name.
const RUNS: u64 = 300;
const FIRST: u64 = 5_000;

/// Two members that hold a write each of so many runs that are over.
fn aged() -> Cluster {
    let mut cluster = Cluster::new(2, 0.0);
    cluster.meet();
    end(&mut cluster, FIRST..FIRST + RUNS);
    cluster
}

/// These runs have written, and are over.
fn end(cluster: &mut Cluster, runs: std::ops::Range<u64>) {
    let n = runs.end - FIRST;
    for member in &mut cluster.members {
        let known = &mut member.replication.shared.known;
        runs.clone().for_each(|run| assert!(known.observe(OriginId(run), 1, 1)));
    }
    let is_folded =
        |c: &Cluster| c.members.iter().all(|m| m.replication.shared.known.n_folded() as u64 == n);
    assert!(cluster.run_until(Duration::from_secs(60), is_folded));
    cluster.run(Duration::from_secs(5));
}

fn coverage(cluster: &Cluster, member: usize) -> Coverage {
    cluster.members[member].replication.view().coverage()
}

/// What a reader takes along that has read all of a member.
fn token(cluster: &Cluster, member: usize) -> Token {
    let mut seen = Seen::default();
    seen.told(&coverage(cluster, member).seen, 0);
    seen.token(TOKEN_ORIGINS_MAX).expect("a token")
}

fn told(cluster: &Cluster, member: usize, token: &Token) -> Told {
    let asked = Asked { prefix: b"", after: None, limit: 9 };
    let store = &cluster.members[member].store;
    store.tell(cluster.now, asked, Some(token), &coverage(cluster, member))
}

fn keys(told: &Told) -> Vec<String> {
    told.page.items.iter().map(|record| String::from_utf8_lossy(record.key()).into()).collect()
}

#[test]
fn who_watches_goes_on_at_another_member_after_hundreds_of_runs() {
    let mut cluster = aged();
    cluster.put(0, "before", b"v");
    cluster.must_agree_within(Duration::from_secs(5));
    let token = token(&cluster, 0);
    assert!(token.ended.is_some() && token.seen.named().count() <= 2, "{token:?}");
    cluster.put(0, "later", b"v");
    cluster.delete(1, "before");
    cluster.must_agree_within(Duration::from_secs(5));
    for member in 0..2 {
        let told = told(&cluster, member, &token);
        assert_eq!((keys(&told), told.is_reset), (vec!["before".into(), "later".into()], false));
    }
}

#[test]
fn a_token_from_before_more_runs_ended_is_good_still() {
    let mut cluster = aged();
    let token = token(&cluster, 0);
    end(&mut cluster, FIRST + RUNS..FIRST + 2 * RUNS);
    cluster.put(0, "later", b"v");
    cluster.must_agree_within(Duration::from_secs(5));
    for member in 0..2 {
        let told = told(&cluster, member, &token);
        assert_eq!((keys(&told), told.is_reset), (vec!["later".into()], false));
    }
}

#[test]
fn a_member_that_has_folded_more_tells_what_the_others_know() {
    let mut cluster = aged();
    let known = &mut cluster.members[0].replication.shared.known;
    assert!(known.observe(OriginId(7), 1, 1));
    known.fold(OriginId(7));
    let token = token(&cluster, 0);
    assert_eq!(token.seen.named().filter(|(origin, _)| *origin == OriginId(7)).count(), 1);
    assert!(coverage(&cluster, 1).read(&token).is_some(), "the set is one that both have had");
}

#[test]
fn a_joiner_goes_on_with_the_readers_of_the_others() {
    let mut cluster = aged();
    let token = token(&cluster, 0);
    cluster.add(GRACE);
    cluster.meet();
    let has_copied = |c: &Cluster| c.members[2].replication.shared.known.n_folded() as u64 == RUNS;
    assert!(cluster.run_until(Duration::from_secs(10), has_copied));
    cluster.put(0, "later", b"v");
    cluster.must_agree_within(Duration::from_secs(10));
    let told = told(&cluster, 2, &token);
    assert_eq!((keys(&told), told.is_reset), (vec!["later".into()], false));
}

fn is_folded(cluster: &Cluster, member: usize, run: u64) -> bool {
    cluster.members[member].replication.shared.known.is_folded(OriginId(run))
}

/// The first member has the run of one that is dead among its members.
fn remember(cluster: &mut Cluster, run: u64) {
    let dead = PeerInfo { origin: OriginId(run), addr: addr(9), ..cluster.info(1, false) };
    let (infos, now) = (vec![cluster.info(1, true), dead], cluster.now);
    cluster.members[0].replication.members(now, infos);
}

/// The first member remembers one that is dead, for a day; the second came later, and has folded
/// it.
fn remembering(cluster: &mut Cluster, run: u64) {
    remember(cluster, run);
    for member in &mut cluster.members {
        assert!(member.replication.shared.known.observe(OriginId(run), 1, 1));
    }
    assert!(cluster.run_until(Duration::from_secs(10), |c| is_folded(c, 1, run)));
}

#[test]
fn members_that_differ_by_a_dead_one_do_not_tell_all_their_runs_each_second() {
    let mut cluster = aged();
    remembering(&mut cluster, 7_000);
    cluster.run(Duration::from_secs(5));
    let len = |c: &Cluster| c.datagram_len + c.link_len;
    let before = len(&cluster);
    cluster.run(Duration::from_secs(60));
    let each_second = (len(&cluster) - before) / 60;
    assert!(each_second < 1_200, "{each_second} bytes a second");
    assert!(!is_folded(&cluster, 0, 7_000), "it is remembered");
    let hash =
        |c: &Cluster, member: usize| c.members[member].replication.shared.known.folded_hash();
    assert_ne!(hash(&cluster, 0), hash(&cluster, 1));
    // Its memory ends.
    cluster.meet();
    let agree = |c: &Cluster| hash(c, 0) == hash(c, 1);
    assert!(cluster.run_until(Duration::from_secs(10), agree));
}

#[test]
fn stores_are_compared_where_one_member_has_folded_more() {
    let mut cluster = aged();
    remembering(&mut cluster, 7_000);
    cluster.put(0, "k", b"v");
    cluster.must_agree_within(Duration::from_secs(5));
    let lost = cluster.members[1].store.entry(b"k").expect("held");
    assert!(cluster.members[1].store.remove_exact(lost.key(), lost.stamp()));
    assert_eq!(cluster.value(1, "k"), None);
    assert!(cluster.run_until(Duration::from_secs(10), |c| c.value(1, "k").is_some()));
}

#[test]
fn a_run_with_which_a_member_counted_again_is_folded_again() {
    let mut cluster = aged();
    remember(&mut cluster, FIRST);
    cluster.run(Duration::from_secs(3));
    assert!(!is_folded(&cluster, 0, FIRST) && is_folded(&cluster, 1, FIRST));
    cluster.meet();
    assert!(cluster.run_until(Duration::from_secs(20), |c| is_folded(c, 0, FIRST)));
}

#[test]
fn what_a_peer_holds_is_proved_again_where_a_list_was_lost() {
    let mut cluster = aged();
    remembering(&mut cluster, 7_000);
    cluster.run(Duration::from_secs(5));
    // The second takes it that the first has all of its runs; of what it told, nothing arrived.
    let (first, second) = (cluster.members[0].store.origin(), cluster.members[1].store.origin());
    let shared = &mut cluster.members[1].replication.shared;
    let there = FoldedThere::all(&shared.known);
    shared.peers.get_mut(first).expect("a peer").folded_there = Some(there);
    let peer = cluster.members[0].replication.shared.peers.get_mut(second).expect("a peer");
    (peer.folds_held, peer.folded_held) = (0, None);
    peer.heads.clear();
    let is_proved = |c: &Cluster| {
        let shared = &c.members[0].replication.shared;
        shared.peers.get(second).is_some_and(|peer| peer.folds_held == shared.known.n_folds())
    };
    assert!(cluster.run_until(Duration::from_secs(40), is_proved));
}
