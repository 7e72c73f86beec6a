//! Replication alone, many times, over a small network of our own: who the peers are is given.

use super::*;
use crate::kv::StoreConfig;
use crate::time::WallMillis;
use crate::wire::message::NodeName;
use crate::wire::stream::Frame;
use std::collections::BTreeMap;

const MILLIS: Duration = Duration::from_millis(1);

enum Event {
    Datagram { to: usize, from: usize, payload: Bytes },
    Frame { to: usize, conn: ConnId, from: usize, payload: Bytes },
    Written { to: usize, conn: ConnId, len: usize },
    Closed { to: usize, conn: ConnId },
}

struct Member {
    replication: Replication,
    store: Arc<Store>,
    up: bool,
}

/// A cluster in virtual time: datagrams take a millisecond or two and get lost, links do not lose.
struct Cluster {
    members: Vec<Member>,
    now: Now,
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    rng: Rng,
    loss: f64,
    /// Pairs that cannot talk.
    cut: Vec<(usize, usize)>,
    /// Connection as its dialler and its acceptor number it.
    conns: BTreeMap<(usize, ConnId), (usize, ConnId)>,
    next_accepted: u64,
    link_len: u64,
    datagram_len: u64,
    datagrams: u64,
}

fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 7947))
}

impl Cluster {
    fn new(n: usize, loss: f64) -> Cluster {
        let now = Now { instant: Instant::from_millis(1), wall: WallMillis(1_000_000) };
        let mut cluster = Cluster {
            members: Vec::new(),
            now,
            events: BTreeMap::new(),
            next_event: 0,
            rng: Rng::from_seed(7),
            loss,
            cut: Vec::new(),
            conns: BTreeMap::new(),
            next_accepted: 1,
            link_len: 0,
            datagram_len: 0,
            datagrams: 0,
        };
        for _ in 0..n {
            cluster.add(Duration::from_secs(3600));
        }
        cluster.meet();
        cluster.run(Duration::from_secs(2));
        cluster
    }

    fn add(&mut self, grace: Duration) {
        let index = self.members.len() as u64;
        let origin = OriginId(1000 + index);
        let store = Arc::new(Store::new(StoreConfig { origin, store_len_max: 0 }));
        let config = Config { tombstone_grace: grace, expects_peers: true, rng_seed: 99 + index };
        let mut replication = Replication::new(config, Arc::clone(&store), self.now);
        replication.set_room(1300);
        self.members.push(Member { replication, store, up: true });
    }

    /// Everybody learns who is up and not cut off.
    fn meet(&mut self) {
        for index in 0..self.members.len() {
            let infos = (0..self.members.len())
                .filter(|other| *other != index)
                .map(|other| PeerInfo {
                    origin: self.members[other].store.origin(),
                    name: NodeName::from(format!("n{other}").as_str()),
                    addr: addr(other),
                    reachable: self.members[other].up && !self.is_cut(index, other),
                })
                .collect();
            self.members[index].replication.members(self.now, infos);
            self.drain(index);
        }
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        !self.members[a].up
            || !self.members[b].up
            || self.cut.iter().any(|pair| *pair == (a, b) || *pair == (b, a))
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now.instant + delay, self.next_event), event);
    }

    fn drain(&mut self, index: usize) {
        while let Some(out) = self.members[index].replication.poll() {
            self.send(index, out);
        }
    }

    fn send(&mut self, from: usize, out: Out) {
        match out {
            Out::Datagram { to, payloads } => {
                for to in to {
                    let to = index_of(to);
                    self.datagrams += 1;
                    self.datagram_len += payloads.iter().map(|p| p.len() as u64).sum::<u64>();
                    if self.is_cut(from, to) || self.rng.chance(self.loss) {
                        continue;
                    }
                    let delay = MILLIS + self.rng.duration_below(MILLIS);
                    for payload in payloads.clone() {
                        self.at(delay, Event::Datagram { to, from, payload });
                    }
                }
            }
            Out::Output(Output::Dial { conn, peer, frame, .. }) => {
                let to = index_of(peer);
                if self.is_cut(from, to) {
                    self.at(MILLIS * 5, Event::Closed { to: from, conn });
                    return;
                }
                let accepted = ConnId(self.next_accepted);
                self.next_accepted += 2;
                self.conns.insert((from, conn), (to, accepted));
                self.conns.insert((to, accepted), (from, conn));
                self.frame(from, conn, frame);
            }
            Out::Output(Output::Send { conn, frame }) => self.frame(from, conn, frame),
            Out::Output(Output::Close { conn }) => self.close(from, conn),
            Out::Output(_) | Out::Keys(..) => {}
        }
    }

    fn frame(&mut self, from: usize, conn: ConnId, frame: Frame) {
        let Frame::Kv(payload) = frame else { panic!("replication sends its own frames only") };
        let Some(&(to, theirs)) = self.conns.get(&(from, conn)) else { return };
        if self.is_cut(from, to) {
            self.close(from, conn);
            self.at(MILLIS, Event::Closed { to: from, conn });
            return;
        }
        self.link_len += payload.len() as u64;
        let len = payload.len();
        self.at(MILLIS, Event::Written { to: from, conn, len });
        self.at(MILLIS * 2, Event::Frame { to, conn: theirs, from, payload });
    }

    fn close(&mut self, from: usize, conn: ConnId) {
        if let Some((to, theirs)) = self.conns.remove(&(from, conn)) {
            self.conns.remove(&(to, theirs));
            self.at(MILLIS * 2, Event::Closed { to, conn: theirs });
        }
    }

    fn advance(&mut self, to: Instant) {
        let delay = to.since(self.now.instant);
        // The wall clock keeps its fraction: it follows the monotonic one.
        self.now = Now {
            instant: self.now.instant + delay,
            wall: WallMillis(1_000_000 + self.now.instant.0 / 1_000_000),
        };
    }

    /// Runs for `span` or until `done`; whether it was done.
    fn run_until(&mut self, span: Duration, done: impl Fn(&Cluster) -> bool) -> bool {
        let end = self.now.instant + span;
        let mut next_look = self.now.instant;
        loop {
            if self.now.instant >= next_look {
                if done(self) {
                    return true;
                }
                next_look = self.now.instant + MILLIS;
            }
            let deadline = |member: &Member| {
                if member.up { member.replication.deadline() } else { Instant::NEVER }
            };
            let timer = self.members.iter().map(deadline).min().unwrap_or(Instant::NEVER);
            let event = self.events.first_key_value().map_or(Instant::NEVER, |(key, _)| key.0);
            let next = timer.min(event);
            if next > end {
                self.advance(end);
                return done(self);
            }
            self.advance(next.max(self.now.instant));
            if event <= timer {
                if let Some((_, event)) = self.events.pop_first() {
                    self.deliver(event);
                }
                continue;
            }
            for index in 0..self.members.len() {
                let member = &mut self.members[index];
                if member.up && member.replication.deadline() <= self.now.instant {
                    member.replication.timeout(self.now);
                    self.drain(index);
                }
            }
        }
    }

    fn run(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    fn deliver(&mut self, event: Event) {
        let now = self.now;
        let to = match event {
            Event::Datagram { to, from, payload } => {
                if self.members[to].up {
                    self.members[to].replication.datagram(now, addr(from), &payload);
                }
                to
            }
            Event::Frame { to, conn, from, payload } => {
                if self.members[to].up {
                    self.members[to].replication.frame(now, conn, addr(from), &payload);
                }
                to
            }
            Event::Written { to, conn, len } => {
                self.members[to].replication.link_written(conn, len);
                to
            }
            Event::Closed { to, conn } => {
                self.members[to].replication.link_closed(now, conn);
                to
            }
        };
        self.drain(to);
    }

    fn put(&mut self, at: usize, key: &str, value: &[u8]) {
        self.members[at].store.put(self.now, key.as_bytes(), value, None).expect("room");
        self.members[at].replication.written(self.now);
        self.drain(at);
    }

    fn delete(&mut self, at: usize, key: &str) {
        self.members[at].store.delete(self.now, key.as_bytes()).expect("room");
        self.members[at].replication.written(self.now);
        self.drain(at);
    }

    fn value(&self, at: usize, key: &str) -> Option<Vec<u8>> {
        self.members[at].store.get(key.as_bytes()).map(|record| record.value().unwrap().to_vec())
    }

    fn equal(&self) -> bool {
        let mut roots = self.members.iter().filter(|m| m.up).map(|m| m.store.root());
        let first = roots.next();
        roots.all(|root| Some(root) == first)
    }

    #[track_caller]
    fn must_agree_within(&mut self, span: Duration) {
        let start = self.now.instant;
        assert!(self.run_until(span, Cluster::equal), "not equal after {span:?}");
        let took = self.now.instant.since(start);
        assert!(took <= span);
    }

    fn sum(&self, of: impl Fn(&Replication) -> u64) -> u64 {
        self.members.iter().map(|member| of(&member.replication)).sum()
    }
}

fn index_of(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(v4) => {
            let [_, _, high, low] = v4.ip().octets();
            usize::from(high) << 8 | usize::from(low)
        }
        SocketAddr::V6(_) => panic!("only IPv4 here"),
    }
}

#[test]
fn a_write_reaches_all_in_one_hop() {
    let mut cluster = Cluster::new(5, 0.0);
    cluster.put(0, "k", b"v");
    cluster.must_agree_within(MILLIS * 3);
    assert_eq!(cluster.value(4, "k").as_deref(), Some(&b"v"[..]));
    assert!(cluster.members.iter().all(|m| m.replication.health() == Health::Ok));
}

#[test]
fn loss_is_repaired_in_milliseconds() {
    for (loss, limit) in [(0.1, 100), (0.3, 300)] {
        let mut cluster = Cluster::new(3, loss);
        let mut took = Vec::new();
        for index in 0..400 {
            cluster.put(index % 3, &format!("k{index}"), b"value");
            let start = cluster.now.instant;
            assert!(cluster.run_until(Duration::from_secs(5), Cluster::equal));
            took.push(cluster.now.instant.since(start));
            cluster.run(MILLIS * 3);
        }
        took.sort();
        assert!(took[395] <= MILLIS * limit, "p99 {:?} at loss {loss}", took[395]);
    }
}

#[test]
fn a_burst_is_coalesced_and_complete() {
    let mut cluster = Cluster::new(3, 0.05);
    cluster.datagrams = 0;
    for index in 0..20_000 {
        cluster.put(index % 2, &format!("k{}", index % 7000), &[b'x'; 32]);
        if index % 40 == 0 {
            cluster.run(MILLIS);
        }
    }
    cluster.must_agree_within(Duration::from_millis(500));
    assert!(cluster.datagrams < 20_000, "{} datagrams for 40,000 deliveries", cluster.datagrams);
}

#[test]
fn values_of_any_size_arrive() {
    let mut cluster = Cluster::new(3, 0.1);
    for (index, len) in [0, 1, 1200, 1300, 1400, 4096, 65_536, 1 << 20].into_iter().enumerate() {
        cluster.put(index % 3, &format!("k{index}"), &vec![index as u8; len]);
        cluster.must_agree_within(Duration::from_millis(200));
    }
}

#[test]
fn halves_merge_after_a_partition() {
    let mut cluster = Cluster::new(4, 0.0);
    cluster.cut = vec![(0, 2), (0, 3), (1, 2), (1, 3)];
    cluster.meet();
    for index in 0..5000 {
        cluster.put(0, &format!("a{index}"), b"left");
        cluster.put(3, &format!("b{index}"), b"right");
        cluster.put(1, "both", format!("left {index}").as_bytes());
        cluster.put(2, "both", format!("right {index}").as_bytes());
        if index % 100 == 0 {
            cluster.run(MILLIS);
        }
    }
    cluster.run(Duration::from_secs(60));
    assert!(!cluster.equal());
    cluster.cut.clear();
    cluster.meet();
    cluster.must_agree_within(Duration::from_secs(3));
    cluster.run(Duration::from_secs(5));
    assert_eq!(cluster.sum(|r| r.buckets.leaves_repaired_total), 0);
}

#[test]
fn a_joiner_copies_everything_and_is_ready_only_then() {
    let mut cluster = Cluster::new(2, 0.0);
    for index in 0..30_000 {
        cluster.put(0, &format!("k{index}"), b"value");
    }
    cluster.delete(0, "k7");
    cluster.must_agree_within(Duration::from_secs(2));
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    assert_eq!(cluster.members[2].replication.health(), Health::Starting);
    let ready = |c: &Cluster| c.members[2].replication.health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(3), ready));
    assert!(cluster.equal());
    assert_eq!(cluster.value(2, "k7"), None);
    assert!(cluster.members[2].store.entry(b"k7").is_some_and(|record| record.is_tombstone()));
}

#[test]
fn tombstones_are_forgotten_when_all_hold_them_and_copies_do_not_return() {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..3 {
        cluster.add(Duration::from_secs(30));
    }
    cluster.meet();
    for index in 0..100 {
        cluster.put(0, &format!("k{index}"), b"v");
    }
    cluster.must_agree_within(Duration::from_secs(10));
    // The third sleeps while everything is deleted, and is forgotten by the others.
    cluster.cut = vec![(0, 2), (1, 2)];
    cluster.meet();
    for index in 0..100 {
        cluster.delete(1, &format!("k{index}"));
    }
    cluster.run(Duration::from_secs(90));
    let tombstones = |c: &Cluster, at: usize| c.members[at].store.stats().n_tombstones;
    assert_eq!(tombstones(&cluster, 0), 100, "a known member has not acknowledged");
    let only = |at: usize, c: &Cluster| PeerInfo {
        origin: c.members[at].store.origin(),
        name: NodeName::from(format!("n{at}").as_str()),
        addr: addr(at),
        reachable: true,
    };
    let (zero, one) = (only(0, &cluster), only(1, &cluster));
    cluster.members[0].replication.members(cluster.now, vec![one]);
    cluster.members[1].replication.members(cluster.now, vec![zero]);
    assert!(
        cluster.run_until(Duration::from_secs(60), |c| tombstones(c, 0) + tombstones(c, 1) == 0)
    );
    // It wakes with all its copies.
    cluster.put(2, "own", b"written in the dark");
    cluster.cut.clear();
    cluster.meet();
    let done = |c: &Cluster| c.equal() && c.members[2].replication.health() == Health::Ok;
    assert!(cluster.run_until(Duration::from_secs(10), done));
    for at in 0..3 {
        assert_eq!(cluster.value(at, "k5"), None, "node {at}");
        assert!(cluster.value(at, "own").is_some(), "node {at}");
    }
    assert_eq!(cluster.sum(|r| r.counters.resets_total), 1);
}

#[test]
fn a_delete_of_a_run_that_is_over_waits_for_a_joiner_to_hold_it() {
    let mut cluster = Cluster::new(0, 0.0);
    for _ in 0..3 {
        cluster.add(Duration::from_secs(30));
    }
    cluster.meet();
    cluster.delete(2, "k");
    cluster.run(Duration::from_secs(3));
    // The writer goes for good, and its origin is folded.
    cluster.members[2].up = false;
    let tell = |cluster: &mut Cluster, others: &[(usize, &[usize])]| {
        for (me, others) in others {
            let info = |at: &usize| PeerInfo {
                origin: cluster.members[*at].store.origin(),
                name: NodeName::from(format!("n{at}").as_str()),
                addr: addr(*at),
                reachable: true,
            };
            let infos = others.iter().map(info).collect();
            cluster.members[*me].replication.members(cluster.now, infos);
        }
    };
    tell(&mut cluster, &[(0, &[1]), (1, &[0])]);
    cluster.run(Duration::from_secs(5));
    assert!(cluster.members[..2].iter().all(|m| m.replication.known.n_folded() == 1));
    // Another has come, answers pings, and has said nothing of what it holds.
    cluster.add(Duration::from_secs(30));
    cluster.cut = vec![(0, 3), (1, 3)];
    tell(&mut cluster, &[(0, &[1, 3]), (1, &[0, 3])]);
    cluster.run(Duration::from_secs(90));
    let tombstones = |c: &Cluster, at: usize| c.members[at].store.stats().n_tombstones;
    assert_eq!((tombstones(&cluster, 0), tombstones(&cluster, 1)), (1, 1));
    cluster.cut.clear();
    tell(&mut cluster, &[(3, &[0, 1])]);
    let none = |c: &Cluster| tombstones(c, 0) + tombstones(c, 1) + tombstones(c, 3) == 0;
    assert!(cluster.run_until(Duration::from_secs(60), none));
}

#[test]
fn whatever_is_lost_by_a_fault_is_found_and_mended() {
    let mut cluster = Cluster::new(3, 0.0);
    for index in 0..2000 {
        cluster.put(0, &format!("k{index}"), b"v");
    }
    cluster.must_agree_within(Duration::from_secs(1));
    cluster.run(Duration::from_secs(3));
    let record = cluster.members[1].store.entry(b"k77").expect("held");
    assert!(cluster.members[1].store.remove_exact(b"k77", record.stamp()));
    assert!(!cluster.equal());
    let before = cluster.link_len + cluster.datagram_len;
    cluster.must_agree_within(Duration::from_secs(15));
    assert!(cluster.value(1, "k77").is_some());
    assert!(cluster.sum(|r| r.buckets.leaves_repaired_total) >= 1);
    assert!(cluster.link_len + cluster.datagram_len - before < 64 << 10);
}

#[test]
fn a_thousand_restarts_leave_digests_flat() {
    let mut cluster = Cluster::new(2, 0.0);
    for restart in 0..40 {
        cluster.add(Duration::from_secs(3600));
        cluster.meet();
        let index = cluster.members.len() - 1;
        cluster.put(index, &format!("k{restart}"), b"v");
        cluster.run(Duration::from_secs(1));
        cluster.members[index].up = false;
        let infos = |me: usize, c: &Cluster| {
            let other = 1 - me;
            vec![PeerInfo {
                origin: c.members[other].store.origin(),
                name: NodeName::from(format!("n{other}").as_str()),
                addr: addr(other),
                reachable: true,
            }]
        };
        for me in 0..2 {
            let infos = infos(me, &cluster);
            cluster.members[me].replication.members(cluster.now, infos);
        }
    }
    cluster.run(Duration::from_secs(10));
    assert!(cluster.equal());
    for member in &cluster.members[..2] {
        assert!(member.replication.known.n_origins() <= 2);
        assert_eq!(member.replication.known.n_folded(), 40);
        assert!(member.replication.user_state().len() < 100);
    }
    // A joiner of today gets all of it, and writes of the folded stay covered.
    cluster.add(Duration::from_secs(3600));
    cluster.meet();
    cluster.must_agree_within(Duration::from_secs(2));
}

#[test]
fn many_members_are_all_reached() {
    for (n, loss) in [(30, 0.0), (30, 0.25), (100, 0.05)] {
        let mut cluster = Cluster::new(n, loss);
        for index in 0..20 {
            cluster.put(index % n, &format!("k{index}"), b"value");
            cluster.must_agree_within(Duration::from_secs(4));
        }
    }
}

#[test]
fn write_concern_answers_when_they_hold_it() {
    use crate::node::command::Concern;
    let mut cluster = Cluster::new(3, 0.0);
    let now = cluster.now;
    let written = cluster.members[0].store.put(now, b"k", b"v", None).expect("room");
    let wait = Waiting {
        ticket: Ticket(1),
        seq: written.dot.seq,
        concern: Concern::All,
        deadline: now.instant + Duration::from_secs(2),
    };
    cluster.members[0].replication.await_holders(now, wait);
    cluster.drain(0);
    assert!(cluster.run_until(MILLIS * 10, |c| !c.members[0].replication.holders.is_waiting()));
    // With nobody to hold it, the wait ends at its deadline and the write stands.
    cluster.cut = vec![(0, 1), (0, 2)];
    let now = cluster.now;
    let written = cluster.members[0].store.put(now, b"k", b"w", None).expect("room");
    let wait = Waiting {
        ticket: Ticket(2),
        seq: written.dot.seq,
        concern: Concern::Majority,
        deadline: now.instant + MILLIS * 50,
    };
    cluster.members[0].replication.await_holders(now, wait);
    cluster.drain(0);
    assert!(!cluster.run_until(MILLIS * 40, |c| !c.members[0].replication.holders.is_waiting()));
    assert!(cluster.run_until(MILLIS * 11, |c| !c.members[0].replication.holders.is_waiting()));
}
