//! Whole nodes in one process: real sockets on loopback, real threads, no HTTP.

use gossipykv::discovery;
use gossipykv::node::command::{Bridge, Command, Health, MemberStatus, MemberView, Reply};
use gossipykv::node::formats::Formats;
use gossipykv::runtime::{Agent, Config, NodeSettings, start};
use gossipykv::swim;
use gossipykv::wire::keyring::{Key, Keyring};
use gossipykv::wire::message::NodeName;
use gossipykv::wire::packet::Security;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Long enough for anything here, on a machine busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

struct Member {
    agent: Agent,
    bridge: Arc<dyn Bridge>,
}

impl Member {
    fn start(name: &str, bind: &str, security: &Security, seeds: &[SocketAddr]) -> Member {
        let bind: SocketAddr = bind.parse().expect("an address");
        let ip = if bind.ip().is_unspecified() { [127, 0, 0, 1].into() } else { bind.ip() };
        let agent = start(Config {
            bind,
            node: NodeSettings {
                name: NodeName::from(name),
                advertise: SocketAddr::new(ip, 0),
                swim: swim::Config::local(),
                security: security.clone(),
                tombstone_grace: Duration::from_secs(3600),
                expired_grace: Duration::from_secs(600),
                bootstrap: false,
                formats: Formats::SPOKEN,
                store_len_max: 0,
            },
            discovery: discovery::Config {
                seeds: seeds.iter().map(|seed| seed.to_string().parse().expect("a seed")).collect(),
                ..discovery::Config::default()
            },
        })
        .expect("a node");
        let bridge = agent.bridge();
        Member { agent, bridge }
    }

    /// Where it can be dialled.
    fn addr(&self) -> SocketAddr {
        let addr = self.agent.gossip_addr();
        if addr.ip().is_unspecified() { ([127, 0, 0, 1], addr.port()).into() } else { addr }
    }

    fn ask(&self, command: Command) -> Reply {
        let (answer, answered) = channel();
        let reply_to = Box::new(move |reply| answer.send(reply).expect("somebody waits"));
        self.bridge.send(command, reply_to).expect("room");
        answered.recv_timeout(PATIENCE).expect("an answer")
    }

    fn members(&self) -> Vec<MemberView> {
        let Reply::Members(members) = self.ask(Command::Members) else { panic!("members") };
        members
    }

    fn sees(&self, name: &str, state: MemberStatus) -> bool {
        self.members().iter().any(|member| member.name == name && member.state == state)
    }

    fn put(&self, key: &str, value: &[u8]) {
        self.bridge.store().put(self.bridge.now(), key.as_bytes(), value, None).expect("a write");
        self.bridge.written();
    }

    fn value(&self, key: &str) -> Option<Vec<u8>> {
        let record = self.bridge.store().get(self.bridge.now(), key.as_bytes())?;
        record.value().map(<[u8]>::to_vec)
    }

    fn leave(self) {
        let deadline = self.bridge.now().instant + Duration::from_secs(5);
        assert_eq!(self.ask(Command::Leave { deadline }), Reply::Left { unsent: 0 });
        assert_eq!(self.bridge.health(), Health::Leaving);
        self.agent.shutdown();
    }
}

/// Waits until `holds`.
#[track_caller]
fn until(member: &Member, what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = member.bridge.now().instant + PATIENCE;
    while !holds() {
        assert!(member.bridge.now().instant < give_up, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Nodes that all know each other.
fn cluster<const N: usize>(binds: [&str; N], security: &Security) -> [Member; N] {
    let mut seeds = Vec::new();
    let members = std::array::from_fn(|index| {
        let member = Member::start(&format!("n{index}"), binds[index], security, &seeds);
        seeds.push(member.addr());
        member
    });
    for member in &members {
        until(member, "all are alive and ready", || {
            member.bridge.health() == Health::Ok
                && (0..N).all(|index| member.sees(&format!("n{index}"), MemberStatus::Alive))
        });
    }
    members
}

fn keyed() -> Security {
    let key = Key::from_bytes(&[7; 32]).expect("an AES key");
    Security {
        label: b"test"[..].into(),
        keyring: Keyring::new([key]).expect("one key"),
        ..Security::default()
    }
}

const LOOPBACK: [&str; 3] = ["127.0.0.1:0"; 3];

#[test]
fn three_nodes_share_writes_and_deletes() {
    for security in [Security::default(), keyed()] {
        let [a, b, c] = cluster(LOOPBACK, &security);
        for (key, len) in [("small", 10), ("larger than a datagram", 5000), ("large", 3 << 20)] {
            let value = vec![b'v'; len];
            a.put(key, &value);
            for other in [&b, &c] {
                until(other, key, || other.value(key).is_some());
                assert!(other.value(key).as_ref() == Some(&value));
            }
        }
        b.bridge.store().delete(b.bridge.now(), b"small").expect("a write");
        b.bridge.written();
        for other in [&a, &c] {
            until(other, "the delete", || other.value("small").is_none());
        }
    }
}

#[test]
fn a_joiner_gets_what_was_written_before() {
    let [a, b] = cluster(["127.0.0.1:0"; 2], &Security::default());
    for n in 0..5000 {
        a.put(&format!("key {n}"), format!("value {n}").as_bytes());
    }
    let c = Member::start("n2", "127.0.0.1:0", &Security::default(), &[b.addr()]);
    until(&c, "it is ready", || c.bridge.health() == Health::Ok);
    until(&c, "it has everything", || {
        (0..5000).all(|n| c.value(&format!("key {n}")) == Some(format!("value {n}").into()))
    });
}

#[test]
fn a_node_that_leaves_has_left_and_its_last_write_stays() {
    let [a, b, c] = cluster(LOOPBACK, &Security::default());
    a.put("last", b"words");
    a.leave();
    for other in [&b, &c] {
        assert_eq!(other.value("last").as_deref(), Some(&b"words"[..]));
        until(other, "it has left", || other.sees("n0", MemberStatus::Left));
    }
}

#[test]
fn a_node_that_vanishes_is_found_dead_and_comes_back_under_its_name() {
    let [a, b, c] = cluster(LOOPBACK, &Security::default());
    let addr = a.addr();
    a.agent.shutdown();
    for other in [&b, &c] {
        until(other, "it is dead", || other.sees("n0", MemberStatus::Dead));
    }
    b.put("meanwhile", b"1");
    let a = Member::start("n0", &addr.to_string(), &Security::default(), &[b.addr()]);
    until(&a, "it has what was written meanwhile", || a.value("meanwhile").is_some());
    for other in [&b, &c] {
        until(other, "it is alive again", || other.sees("n0", MemberStatus::Alive));
    }
}

#[test]
fn each_family_and_both_together_form_clusters() {
    if std::net::UdpSocket::bind("[::]:0").is_err() {
        return;
    }
    for binds in [["127.0.0.1:0", "[::]:0", "[::]:0"], ["[::1]:0"; 3]] {
        let [a, b, c] = cluster(binds, &Security::default());
        a.put("key", b"1");
        for other in [&b, &c] {
            until(other, "the write", || other.value("key").is_some());
        }
    }
}

#[test]
fn nodes_of_another_key_or_label_stay_strangers() {
    let [a, b] = cluster(["127.0.0.1:0"; 2], &keyed());
    let other_label = Security { label: b"other"[..].into(), ..keyed() };
    let strangers = [Security::default(), other_label].map(|security| {
        let stranger = Member::start("stranger", "127.0.0.1:0", &security, &[a.addr(), b.addr()]);
        let Reply::Stats(_) = stranger.ask(Command::Stats) else { panic!("samples") };
        stranger
    });
    for stranger in &strangers {
        // It has tried, and was told off.
        until(stranger, "a join fails", || {
            let Reply::Stats(samples) = stranger.ask(Command::Stats) else { panic!("samples") };
            samples.iter().any(|s| s.name == "push_pulls_failed_total" && s.value >= 2.0)
        });
        assert_eq!(stranger.members().len(), 1);
    }
    assert_eq!((a.members().len(), b.members().len()), (2, 2));
}
