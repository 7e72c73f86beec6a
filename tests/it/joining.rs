//! Joining and founding as processes: who is not wanted, whose name is another's, who has moved.

use crate::agents::{Node, pause, until};
use rustix::process::Signal;
use serde_json::Value;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Longer than a node took that founded its cluster on silence.
const LONG: Duration = Duration::from_secs(9);

/// It says why it is not ready, in a sentence that contains all of these, and goes on to.
#[track_caller]
fn sticks(node: &Node, for_long: Duration, why: &[&str]) {
    let mut last = String::new();
    until(&format!("{why:?}"), || {
        let (status, _, told) = node.health();
        assert_eq!(status, 503, "{told}");
        last = told;
        why.iter().all(|part| last.contains(part)).then_some(())
    });
    pause(for_long);
    let (status, state, told) = node.health();
    assert_eq!((status, &state[..]), (503, "starting"), "{told}");
    assert!(why.iter().all(|part| told.contains(part)), "{told:?} lacks one of {why:?}");
}

fn count(node: &Node, message: &str) -> usize {
    let log = node.process.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).count()
}

/// An address on this machine that nobody else uses.
fn place(n: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{high}.{low}:7947", 100 + n)
}

const KEY: (&str, &str) = ("GOSSIPYKV_ENCRYPT_KEYS", "MDEyMzQ1Njc4OWFiY2RlZg==");
const OTHER_KEY: (&str, &str) = ("GOSSIPYKV_ENCRYPT_KEYS", "ZmVkY2JhOTg3NjU0MzIxMA==");
const LABEL: (&str, &str) = ("GOSSIPYKV_LABEL", "blue");
const OTHER_LABEL: (&str, &str) = ("GOSSIPYKV_LABEL", "green");

/// The first node of a roll to other gossip settings is not ready, and says why.
#[track_caller]
fn roll_sticks(old: &[(&str, &str)], new: &[(&str, &str)], why: &str) {
    let first = Node::start("first", &[], old);
    first.await_ready();
    let seed = first.gossip.to_string();
    let rolled = Node::start("rolled", &["--join", &seed], new);
    sticks(&rolled, LONG, &[&seed, why]);
}

#[test]
fn a_roll_to_another_key_sticks() {
    roll_sticks(&[KEY], &[OTHER_KEY], "its gossip key is another");
}

#[test]
fn a_roll_from_encrypted_to_plain_sticks() {
    roll_sticks(&[KEY], &[], "its gossip key is another");
}

#[test]
fn a_roll_from_plain_to_encrypted_sticks() {
    roll_sticks(&[], &[KEY], "its gossip key is another");
}

#[test]
fn a_roll_to_another_label_sticks() {
    roll_sticks(&[LABEL, KEY], &[OTHER_LABEL, KEY], "its label is another");
    roll_sticks(&[], &[LABEL], "its label is another");
}

#[test]
fn a_closed_port_is_no_sign_of_an_empty_cluster() {
    // A datagram socket alone: nobody listens for connections there.
    let closed = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let seed = closed.local_addr().expect("its address").to_string();
    let node = Node::start("alone", &["--join", &seed], &[]);
    sticks(&node, LONG, &[&seed, "refused"]);
}

/// A DNS server that answers every question with this code, or not at all.
fn dns(code: Option<u8>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = socket.local_addr().expect("its address");
    let serve = move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let Some(code) = code else { continue };
            (buffer[2], buffer[3]) = (buffer[2] | 0x80, code);
            // The question alone comes back: a name, its type and its class.
            let name_len = buffer[12..len].iter().position(|byte| *byte == 0);
            let Some(end) = name_len.map(|len| 12 + len + 5) else { continue };
            buffer[6..12].fill(0);
            let _ = socket.send_to(&buffer[..end], from);
        }
    };
    std::thread::Builder::new().name("dns".to_owned()).spawn(serve).expect("a thread");
    addr
}

#[test]
fn dns_that_fails_is_no_sign_of_an_empty_cluster() {
    for (code, why) in [(Some(2), "Server Failure"), (Some(5), "Query Refused"), (None, "answer")] {
        let server = dns(code).to_string();
        let flags = ["--discover-srv", "_gossip._tcp.kv.test", "--dns", &server];
        let node = Node::start("alone", &flags, &[]);
        sticks(&node, LONG, &[why]);
    }
}

#[test]
fn dns_that_says_nobody_lets_the_first_node_begin() {
    let server = dns(Some(3)).to_string();
    let flags = ["--discover-srv", "_gossip._tcp.kv.test", "--dns", &server];
    Node::start("first", &flags, &[]).await_ready();
}

#[test]
fn the_own_address_as_the_only_seed_is_no_evidence() {
    let own = place(1);
    let node = Node::start("alone", &["--bind", &own, "--join", &own], &[]);
    sticks(&node, LONG, &["the only address found is our own", &own]);
}

/// The second of a name stays out, both say where the other is, and the owner is as it was.
#[track_caller]
fn collides(owner: &Node, second: &Node) {
    let (here, there) = (owner.gossip.to_string(), second.gossip.to_string());
    sticks(second, Duration::from_secs(12), &["a", "taken by", &here]);
    assert_eq!(owner.health().0, 200);
    for node in [owner, second] {
        assert_eq!(count(node, "two nodes claim one name"), 1, "{}", node.process.log());
        let log = node.process.log();
        let line = log.lines().find(|line| line.contains("two nodes claim one name"));
        let line = line.expect("it is there");
        assert!(line.contains(&here) && line.contains(&there), "{line}");
    }
    assert_eq!(count(second, "joined through"), 0, "{}", second.process.log());
}

#[test]
fn of_two_nodes_with_one_name_the_second_stays_out() {
    let owner = Node::start("a", &[], &[]);
    owner.await_ready();
    let second = Node::start("a", &["--join", &owner.gossip.to_string()], &[]);
    collides(&owner, &second);
    drop(second);
    // Through another member, and although the owner looks for the second.
    let at = place(2);
    let other = Node::start("b", &["--join", &format!("{},{at}", owner.gossip)], &[]);
    other.await_ready();
    let flags = ["--bind", &at, "--join", &other.gossip.to_string()];
    let second = Node::start("a", &flags, &[]);
    sticks(&second, Duration::from_secs(5), &["taken by", &owner.gossip.to_string()]);
    assert!(sees_at(&other, "a", &owner.gossip.to_string()));
    assert_eq!((owner.health().0, other.health().0), (200, 200));
    // The owner goes, and the name is free.
    drop(owner);
    until("the second is in", || sees_at(&other, "a", &at).then_some(()));
    second.await_ready();
}

#[test]
fn members_that_return_elsewhere_are_found_within_two_seconds() {
    let a = Node::start("a", &[], &[]);
    let seed = a.gossip.to_string();
    let join = ["--join", &seed[..]];
    let stay = Node::start("b", &join, &[]);
    let gone: Vec<Node> = ["c", "d", "e"].map(|name| Node::start(name, &join, &[])).into();
    for node in &gone {
        node.await_ready();
    }
    for node in &gone {
        node.process.signal(Signal::KILL);
    }
    drop(gone);
    let back = ["c", "d", "e"].map(|name| Node::start(name, &join, &[]));
    let all: Vec<&Node> = [&a, &stay].into_iter().chain(&back).collect();
    let clock = gossipykv::runtime::clock::Clock::start();
    let begin = clock.instant();
    until("all see all where they are", || {
        let places: Vec<(&str, String)> = ["a", "b", "c", "d", "e"]
            .into_iter()
            .zip(all.iter().map(|node| node.gossip.to_string()))
            .collect();
        all.iter().all(|node| places.iter().all(|(name, at)| sees_at(node, name, at))).then_some(())
    });
    let took = clock.instant().since(begin);
    println!("all see all {took:?} after the last has started");
    assert!(took < Duration::from_secs(6), "{took:?}");
    for node in all {
        node.await_ready();
    }
}

/// Whether a node takes a member for alive, there.
fn sees_at(node: &Node, name: &str, at: &str) -> bool {
    let Some((200, members)) = node.get("/members") else { return false };
    let members: Value = serde_json::from_str(&members).expect("JSON");
    let mut members = members["members"].as_array().expect("members").iter();
    members.any(|m| m["name"] == name && m["address"] == at && m["state"] == "alive")
}

#[test]
fn a_new_node_at_the_address_of_a_crashed_one_copies_from_others() {
    let a = Node::start("a", &[], &[]);
    a.await_ready();
    for n in 0..200 {
        let put = a.run(&["kv", "put", &format!("key-{n}"), "value"]);
        assert_eq!(put.code, Some(0), "{put:?}");
    }
    let seed = a.gossip.to_string();
    for round in 0..5 {
        let crashed = Node::start(&format!("old-{round}"), &["--join", &seed], &[]);
        crashed.await_ready();
        let at = crashed.gossip.to_string();
        crashed.process.signal(Signal::KILL);
        let (ended, _) = crashed.process.end();
        assert_eq!(ended.code, None);
        let flags = ["--bind", &at, "--join", &seed];
        let node = Node::start(&format!("new-{round}"), &flags, &[]);
        node.await_ready();
        for n in 0..200 {
            let (status, _) = node.get(&format!("/kv/key-{n}")).expect("an answer");
            assert_eq!(status, 200, "key-{n} in round {round}");
        }
    }
}

/// Connections to the address returned are passed on to these, in turn: a balancer.
fn balancer(behind: Vec<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address");
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        let pass_on = move || {
            // The end of either end is the end of the connection.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        };
        std::thread::Builder::new().name("copy".to_owned()).spawn(pass_on).expect("a thread");
    };
    let serve = move || {
        for (inbound, to) in listener.incoming().zip(behind.iter().cycle()) {
            let (Ok(inbound), Ok(outbound)) = (inbound, TcpStream::connect(to)) else { continue };
            let again = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
            copy(again(&inbound), again(&outbound));
            copy(outbound, inbound);
        }
    };
    std::thread::Builder::new().name("balancer".to_owned()).spawn(serve).expect("a thread");
    at
}

/// Time for another look of a node with peers, which are at most 12 s apart.
const LOOK: Duration = Duration::from_secs(13);

#[test]
fn a_seed_that_is_no_members_own_address_is_joined_once() {
    let [a, b] = Node::cluster::<2>(&[], &[]);
    let level = [("GOSSIPYKV_LOG_LEVEL", "debug")];
    let start = |name, behind| {
        let seed = balancer(behind).to_string();
        (Node::start(name, &["--join", &seed], &level), seed)
    };
    let nodes = [start("c", vec![a.gossip]), start("d", vec![a.gossip, b.gossip])];
    for (node, _) in &nodes {
        node.await_ready();
    }
    for _ in 0..2 {
        pause(LOOK);
    }
    for (node, seed) in &nodes {
        // A member that has heard of the node may have been joined as well.
        let told = ["joined through", "joined through again"].map(|message| {
            let log = node.process.log();
            let is_it = |line: &&str| line.contains(&format!("{message:?}")) && line.contains(seed);
            log.lines().filter(is_it).count()
        });
        assert_eq!(told, [1, 0], "{}", node.process.log());
    }
}
