//! The harness on programs that are not ours: what it says about others must be true before it
//! says anything about us.

use crate::harness::{
    ANSWERING, Dns, Fake, JOIN_MAX, Net, Node, Peer, PeerOptions, Range, Serf, State, Weather,
    cluster_of, eventually, in_namespace, lan, needs, security,
};
use gossipykv::wire::message::{IndirectPing, Message, Suspect};
use rustix::process::Signal;
use serde_json::json;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// A key of each size AES has.
pub const KEYS: [&str; 3] = [
    "MDEyMzQ1Njc4OWFiY2RlZg==",
    "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u",
    "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=",
];

fn go_cluster(range: &Range, options: &PeerOptions) -> [Peer; 3] {
    let mut peers = [1, 2, 3].map(|host| Peer::start(range, host, options.clone()));
    let [a, b, c] = &mut peers;
    cluster_of(&mut [a, b, c], JOIN_MAX);
    peers
}

#[test]
fn go_members_meet_update_and_talk() {
    needs!(Go);
    for keys in [vec![], vec![KEYS[0].to_owned()], vec![KEYS[1].to_owned()]] {
        let range = Range::claim();
        let options = PeerOptions { keys, ..PeerOptions::default() };
        let [mut a, b, c] = go_cluster(&range, &options);
        let mark = b.mark();
        a.tell(json!({"do": "meta", "payload": "bmV3"}));
        b.event("an update", mark, JOIN_MAX, |event| {
            event["event"] == "update" && event["member"]["meta"] == "bmV3"
        });
        let (row, _) = eventually("new meta in c's table", JOIN_MAX, || {
            c.holds("g1", State::Alive)
                .and_then(|row| if row.meta == b"new" { Ok(row) } else { Err(format!("{row:?}")) })
        });
        assert!(row.incarnation >= 2, "{row:?}");
        a.send("udp", "g2", b"by datagram");
        a.send("tcp", "g2", b"by stream");
        let expected: Vec<&[u8]> = vec![b"by datagram", b"by stream"];
        eventually("both user messages", JOIN_MAX, || {
            let mut messages = b.messages();
            messages.sort();
            if messages == expected { Ok(()) } else { Err(format!("{messages:?}")) }
        });
    }
}

#[test]
fn go_members_die_and_leave() {
    needs!(Go);
    let range = Range::claim();
    let [a, b, mut c] = go_cluster(&range, &PeerOptions::default());
    c.leave();
    for peer in [&a, &b] {
        eventually("g3 has left", JOIN_MAX, || peer.holds("g3", State::Left));
    }
    b.process().signal(Signal::KILL);
    // Alone with the suspicion, a confirms nothing and waits for nobody: 4 s after its probe.
    let (_, took) =
        eventually("g2 is dead", Duration::from_secs(12), || a.holds("g2", State::Dead));
    assert!(took >= Duration::from_secs(4), "dead after {took:?}, before a suspicion can end");
}

#[test]
fn go_members_refute_and_relay() {
    needs!(Go);
    let range = Range::claim();
    let [a, b, c] = go_cluster(&range, &PeerOptions::default());
    let fake = Fake::bind(range.gossip(200), security(&[]));

    let before = b.holds("g2", State::Alive).expect("itself").incarnation;
    let suspect = Suspect { incarnation: before, node: "g2".into(), from: "nobody-we-know".into() };
    fake.send(a.gossip(), &[Message::Suspect(suspect)]);
    for peer in [&a, &b, &c] {
        eventually("the refutation", JOIN_MAX, || {
            let row = peer.holds("g2", State::Alive)?;
            if row.incarnation > before { Ok(()) } else { Err(format!("{row:?}")) }
        });
    }

    let target = b.gossip();
    let std::net::IpAddr::V4(ip) = target.ip() else { panic!("the range is IPv4") };
    fake.send(
        a.gossip(),
        &[Message::IndirectPing(IndirectPing {
            seq_no: 77,
            target: Some(ip.octets().to_vec().into()),
            port: target.port(),
            node: "g2".into(),
            nack: true,
            ..IndirectPing::default()
        })],
    );
    fake.receive("the relayed ack", JOIN_MAX, |from, message| match message {
        Message::Ack(ack) if ack.seq_no == 77 => {
            assert_eq!(from, a.gossip());
            Some(())
        }
        _ => None,
    });
}

#[test]
fn serf_and_go_share_a_cluster_and_serf_works() {
    needs!(Go, Serf);
    let range = Range::claim();
    let handler = ["-event-handler", ANSWERING];
    let [mut s1, mut s2] = [1, 2].map(|host| Serf::start(&range, host, &handler));
    let flags = ["-delegate-min=2", "-delegate-max=5", "-delegate-cur=5"].map(String::from);
    let options = PeerOptions { flags: flags.into(), ..PeerOptions::default() };
    let mut g3 = Peer::start(&range, 3, options);
    cluster_of(&mut [&mut s1, &mut s2, &mut g3], JOIN_MAX);
    let answer = s1.run(&["query", "which"]).expect("a query");
    assert_eq!(answer.matches("answered").count(), 2, "{answer}");
    s1.run(&["event", "hello", "there"]).expect("an event");
    eventually("the Go member hears Serf's event", JOIN_MAX, || {
        let heard = g3.messages().iter().any(|message| message.windows(5).any(|w| w == b"hello"));
        if heard { Ok(()) } else { Err(format!("{:?}", g3.messages())) }
    });
    drop(g3);
    eventually("Serf says failed", Duration::from_secs(20), || s1.holds("g3", State::Dead));
    for name in ["s1", "s2"] {
        s1.holds(name, State::Alive).expect("the Serf agents stay");
    }
}

#[test]
fn dnsmasq_changes_its_records() {
    needs!(Dnsmasq);
    let range = Range::claim();
    let mut dns = Dns::start(&range, &[]);
    dns.serve(&[range.gossip(1), range.gossip(2)]);
    dns.serve(&[range.gossip(1)]);
    assert_eq!(dns.address(), range.dns());
}

#[test]
fn a_network_of_our_own_loses_what_it_is_told_to() {
    needs!(Go, Namespaces);
    let mut net = Net::create();
    let [mut a, mut b] = [1, 2].map(|host| {
        let (namespace, ip) = net.add_host(host);
        let options = PeerOptions { namespace: Some(namespace), ..PeerOptions::default() };
        Peer::start_at(&format!("g{host}"), (ip, 7947).into(), options)
    });
    cluster_of(&mut [&mut a, &mut b], JOIN_MAX);
    assert_eq!(net.n_lost(), 0);
    let means = net.set(&Weather { loss_percent: 99, ..Weather::default() });
    let within = lan::probed_by_all(2) + lan::SLACK;
    eventually("the suspicion", within, || a.holds("g2", State::Suspect));
    assert!(net.n_lost() > 0, "{means} counts what it loses");
}

/// What arrives at host 2 of numbered datagrams that host 1 sends in this weather.
fn arrivals(net: &Net, hosts: &[(String, Ipv4Addr)], weather: &Weather) -> Vec<u16> {
    net.set(weather);
    let socket = |(namespace, ip): &(String, Ipv4Addr)| {
        in_namespace(Some(namespace), || UdpSocket::bind((*ip, 7000)).expect("a free port"))
    };
    let (from, to) = (socket(&hosts[0]), socket(&hosts[1]));
    to.set_read_timeout(Some(Duration::from_millis(500))).expect("above zero");
    for number in 0..100_u16 {
        let mut datagram = [0; 200];
        datagram[..2].copy_from_slice(&number.to_be_bytes());
        // Sent into a cut, it is refused at once or vanishes, as the system likes.
        let _ = from.send_to(&datagram, (hosts[1].1, 7000));
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut datagram = [0; 200];
    let mut arrived = Vec::new();
    while to.recv(&mut datagram).is_ok() {
        arrived.push(u16::from_be_bytes([datagram[0], datagram[1]]));
    }
    arrived
}

#[test]
fn a_network_of_our_own_has_every_weather() {
    needs!(Namespaces);
    let mut net = Net::create();
    let hosts = [1, 2].map(|host| net.add_host(host));
    let calm = Weather::default();
    let all: Vec<u16> = (0..100).collect();
    assert_eq!(arrivals(&net, &hosts, &calm), all);

    let cut = |from, to| Weather { cut: [(from, to)].into(), ..Weather::default() };
    assert_eq!(arrivals(&net, &hosts, &cut(2, 1)), all, "the other way is cut");
    assert_eq!(arrivals(&net, &hosts, &cut(1, 2)), Vec::<u16>::new());
    assert_eq!(net.n_lost(), 100);
    let lossy = arrivals(&net, &hosts, &Weather { loss_percent: 20, ..calm.clone() });
    assert!((60..98).contains(&lossy.len()), "{} of 100", lossy.len());
    assert!(lossy.is_sorted(), "{lossy:?}");
    let late = arrivals(&net, &hosts, &Weather { late_percent: 10, ..calm.clone() });
    assert!(late.len() > 70, "{} of 100", late.len());
    assert!(!late.is_sorted(), "nobody was overtaken");
    let twice = arrivals(&net, &hosts, &Weather { twice_percent: 20, ..calm.clone() });
    assert!((102..150).contains(&twice.len()), "{} of 100", twice.len());
    assert_eq!(arrivals(&net, &hosts, &calm), all, "calm again");
}
