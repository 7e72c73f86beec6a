//! Replication alone, many times, over a small network in virtual time.

use super::*;
use crate::time::WallMillis;
use crate::wire::stream::Frame;
use std::collections::BTreeMap;

pub(super) const MILLIS: Duration = Duration::from_millis(1);

pub(super) enum Event {
    Datagram { to: usize, from: usize, payload: Bytes },
    Frame { to: usize, conn: ConnId, from: usize, payload: Bytes },
    Written { to: usize, conn: ConnId, len: usize },
    Closed { to: usize, conn: ConnId },
}

pub(super) struct Member {
    pub(super) replication: Lent,
    pub(super) store: Arc<Store>,
    pub(super) up: bool,
}

/// A cluster in virtual time: datagrams take a millisecond or two, or longer, and get lost; links
/// lose nothing.
pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
    pub(super) now: Now,
    pub(super) events: BTreeMap<(Instant, u64), Event>,
    pub(super) next_event: u64,
    /// What each member has written before.
    pub(super) n_writes: u64,
    pub(super) rng: Rng,
    pub(super) loss: f64,
    /// One way of a datagram, up to a millisecond less than it takes.
    pub(super) delay: Duration,
    /// What members speak that are added from now on.
    pub(super) formats: Formats,
    /// How many folded origins members that are added from now on know by name.
    pub(super) folded: FoldedBound,
    /// Bytes past which members that are added from now on refuse writes; 0 for no limit.
    pub(super) limit: u64,
    /// Pairs that cannot talk.
    pub(super) cut: Vec<(usize, usize)>,
    /// Senders and receivers between whom no datagram gets through.
    pub(super) udp_cut: Vec<(usize, usize)>,
    /// Pairs that cannot have a connection; a dial is given up after a second.
    pub(super) tcp_cut: Vec<(usize, usize)>,
    /// Connection as its dialler and its acceptor number it.
    pub(super) conns: BTreeMap<(usize, ConnId), (usize, ConnId)>,
    pub(super) next_accepted: u64,
    pub(super) link_len: u64,
    /// Bytes of the longest frame.
    pub(super) frame_len: usize,
    pub(super) datagram_len: u64,
    pub(super) datagrams: u64,
    /// Per member, how often it has told of members that speak other formats.
    pub(super) notes: Vec<usize>,
    /// How many held a write, and had to, of each wait that was answered.
    pub(super) held: Vec<(u32, u32)>,
    /// Notes of a divergence.
    pub(super) divergences: usize,
}

pub(super) fn addr(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 7947))
}

impl Cluster {
    pub(super) fn new(n: usize, loss: f64) -> Cluster {
        Cluster::aged(n, loss, Duration::ZERO, 0)
    }

    /// One whose clocks have been running for `age`, and each member of which has taken that many
    /// writes.
    pub(super) fn aged(n: usize, loss: f64, age: Duration, n_writes: u64) -> Cluster {
        let now = Now { instant: Instant::from_millis(1), wall: WallMillis(1_000_000) }.after(age);
        let mut cluster = Cluster {
            members: Vec::new(),
            now,
            events: BTreeMap::new(),
            next_event: 0,
            n_writes,
            rng: Rng::from_seed(7),
            loss,
            delay: MILLIS,
            formats: Formats::SPOKEN,
            folded: FoldedBound::default(),
            limit: 0,
            cut: Vec::new(),
            udp_cut: Vec::new(),
            tcp_cut: Vec::new(),
            conns: BTreeMap::new(),
            next_accepted: 1,
            link_len: 0,
            frame_len: 0,
            datagram_len: 0,
            datagrams: 0,
            notes: Vec::new(),
            held: Vec::new(),
            divergences: 0,
        };
        for _ in 0..n {
            cluster.add(Duration::from_secs(3600));
        }
        cluster.meet();
        cluster.run(Duration::from_secs(2));
        cluster
    }

    pub(super) fn add(&mut self, grace: Duration) {
        let index = self.members.len() as u64;
        let origin = OriginId(1000 + index);
        let config = StoreConfig { origin, store_len_max: self.limit };
        let store = Arc::new(Store::after(config, self.n_writes));
        let config = Config {
            tombstone_grace: grace,
            expired_grace: grace,
            folded: self.folded,
            expects_peers: true,
            formats: self.formats,
            rng_seed: 99 + index,
        };
        let mut replication = Lent::new(config, Arc::clone(&store), self.now);
        replication.set_room(1300);
        self.members.push(Member { replication, store, up: true });
        self.notes.push(0);
    }

    /// What the others are told of a member.
    pub(super) fn info(&self, index: usize, reachable: bool) -> PeerInfo {
        PeerInfo {
            origin: self.members[index].store.origin(),
            name: NodeName::from(format!("n{index}").as_str()),
            addr: addr(index),
            reachable,
            formats: self.members[index].replication.shared.config.formats,
            ttl: self.members[index].replication.shared.config.formats.know_ttl(),
            names: self.members[index].replication.shared.config.formats.know_whom(),
            udp_blocked: false,
        }
    }

    /// A member learns that these are its peers, and reachable.
    pub(super) fn tell(&mut self, index: usize, peers: &[usize]) {
        let infos = peers.iter().map(|peer| self.info(*peer, true)).collect();
        self.members[index].replication.members(self.now, infos);
    }

    /// Everybody learns who is up and not cut off. The first one founds the cluster, if nobody has.
    pub(super) fn meet(&mut self) {
        if self.members.iter().all(|member| member.replication.view().stage() == Stage::New)
            && let Some(first) = self.members.first_mut()
        {
            first.replication.found(self.now);
        }
        for index in 0..self.members.len() {
            let infos = (0..self.members.len())
                .filter(|other| *other != index)
                .map(|other| self.info(other, self.members[other].up && !self.is_cut(index, other)))
                .collect();
            self.members[index].replication.members(self.now, infos);
            self.drain(index);
        }
    }

    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        !self.members[a].up
            || !self.members[b].up
            || self.cut.iter().any(|pair| *pair == (a, b) || *pair == (b, a))
    }

    fn is_tcp_cut(&self, a: usize, b: usize) -> bool {
        self.tcp_cut.iter().any(|pair| *pair == (a, b) || *pair == (b, a))
    }

    pub(super) fn at(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now.instant + delay, self.next_event), event);
    }

    pub(super) fn drain(&mut self, index: usize) {
        let is_other = self.members[index].replication.renew(self.now).is_some();
        while let Some(out) = self.members[index].replication.poll() {
            self.send(index, out);
        }
        if is_other {
            // Membership tells of another run at the same place.
            self.meet();
        }
    }

    pub(super) fn send(&mut self, from: usize, out: Out) {
        match out {
            Out::Datagram { to, payloads } => {
                for to in to {
                    let to = index_of(to);
                    self.datagrams += 1;
                    self.datagram_len += payloads.iter().map(|p| p.len() as u64).sum::<u64>();
                    let is_blocked = self.udp_cut.contains(&(from, to));
                    if is_blocked || self.is_cut(from, to) || self.rng.chance(self.loss) {
                        continue;
                    }
                    let delay = self.delay + self.rng.duration_below(MILLIS);
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
                if self.is_tcp_cut(from, to) {
                    self.at(MILLIS * 1000, Event::Closed { to: from, conn });
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
            Out::Output(Output::Note(Note::Incompatible { .. })) => self.notes[from] += 1,
            Out::Output(Output::Note(Note::Divergence { .. })) => self.divergences += 1,
            Out::Output(Output::Reply { reply: Reply::Holders { held, wanted }, .. }) => {
                self.held.push((held, wanted));
            }
            Out::Output(_) | Out::Keys(..) => {}
        }
    }

    pub(super) fn frame(&mut self, from: usize, conn: ConnId, frame: Frame) {
        let Frame::Kv(payload) = frame else { panic!("replication sends its own frames only") };
        let Some(&(to, theirs)) = self.conns.get(&(from, conn)) else { return };
        if self.is_cut(from, to) || self.is_tcp_cut(from, to) {
            self.close(from, conn);
            self.at(MILLIS, Event::Closed { to: from, conn });
            return;
        }
        let payload = payload.join();
        self.link_len += payload.len() as u64;
        self.frame_len = self.frame_len.max(payload.len());
        let len = payload.len();
        self.at(MILLIS, Event::Written { to: from, conn, len });
        self.at(self.delay + MILLIS, Event::Frame { to, conn: theirs, from, payload });
    }

    pub(super) fn close(&mut self, from: usize, conn: ConnId) {
        if let Some((to, theirs)) = self.conns.remove(&(from, conn)) {
            self.conns.remove(&(to, theirs));
            self.at(self.delay + MILLIS, Event::Closed { to, conn: theirs });
        }
    }

    /// All connections of a member end, and it has forgotten them.
    pub(super) fn drop_conns(&mut self, of: usize) {
        let conns: Vec<ConnId> =
            self.conns.keys().filter(|(at, _)| *at == of).map(|(_, conn)| *conn).collect();
        conns.into_iter().for_each(|conn| self.close(of, conn));
    }

    pub(super) fn advance(&mut self, to: Instant) {
        let delay = to.since(self.now.instant);
        // The wall clock keeps its fraction: it follows the monotonic one.
        self.now = Now {
            instant: self.now.instant + delay,
            wall: WallMillis(1_000_000 + self.now.instant.0 / 1_000_000),
        };
    }

    /// Runs for `span` or until `done`; whether it was done.
    pub(super) fn run_until(&mut self, span: Duration, done: impl Fn(&Cluster) -> bool) -> bool {
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

    pub(super) fn run(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    pub(super) fn deliver(&mut self, event: Event) {
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
                self.members[to].replication.link_written(now, conn, len);
                to
            }
            Event::Closed { to, conn } => {
                self.members[to].replication.link_closed(now, conn);
                to
            }
        };
        self.drain(to);
    }

    pub(super) fn put(&mut self, at: usize, key: &str, value: &[u8]) {
        self.members[at].store.put(self.now, key.as_bytes(), value, None).expect("room");
        self.members[at].replication.written(self.now);
        self.drain(at);
    }

    /// Has the first member write, and a client of it wait for holders at most this long.
    pub(super) fn put_and_wait(&mut self, value: &[u8], concern: Concern, limit: Duration) {
        let now = self.now;
        let written = self.members[0].store.put(now, b"k", value, None).expect("room");
        let (seq, deadline) = (written.dot.seq, now.instant + limit);
        let wait = Waiting { ticket: Ticket(1), seq, concern, deadline };
        self.members[0].replication.await_holders(now, wait);
        self.drain(0);
    }

    pub(super) fn put_lasting(&mut self, at: usize, key: &str, ttl: u32) {
        let (store, content) = (&self.members[at].store, (&b"v"[..], None));
        let put = store.put_lasting_if(self.now, key.as_bytes(), content, Some(ttl), |_| true);
        put.expect("room");
        self.members[at].replication.written(self.now);
        self.drain(at);
    }

    pub(super) fn delete(&mut self, at: usize, key: &str) {
        self.members[at].store.delete(self.now, key.as_bytes()).expect("room");
        self.members[at].replication.written(self.now);
        self.drain(at);
    }

    pub(super) fn value(&self, at: usize, key: &str) -> Option<Vec<u8>> {
        self.members[at]
            .store
            .get(self.now, key.as_bytes())
            .map(|record| record.value().unwrap().to_vec())
    }

    pub(super) fn equal(&self) -> bool {
        let mut roots = self.members.iter().filter(|m| m.up).map(|m| m.store.root());
        let first = roots.next();
        roots.all(|root| Some(root) == first)
    }

    #[track_caller]
    pub(super) fn must_agree_within(&mut self, span: Duration) {
        let start = self.now.instant;
        assert!(self.run_until(span, Cluster::equal), "not equal after {span:?}");
        let took = self.now.instant.since(start);
        assert!(took <= span);
    }

    pub(super) fn sum(&self, of: impl Fn(&Lent) -> u64) -> u64 {
        self.members.iter().map(|member| of(&member.replication)).sum()
    }
}

pub(super) fn index_of(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(v4) => {
            let [_, _, high, low] = v4.ip().octets();
            usize::from(high) << 8 | usize::from(low)
        }
        SocketAddr::V6(_) => panic!("only IPv4 here"),
    }
}
