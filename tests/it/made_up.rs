//! Members that nobody is: made up by a stranger, by datagrams to a cluster without a key.

use crate::agents::{Node, until};
use bytes::Bytes;
use gossipykv::wire::message::{AddrBytes, Alive, Message};
use std::net::{Ipv4Addr, UdpSocket};

/// What each of these tells of itself: minimum, maximum, current; the last three are delegate
/// versions.
const VERSIONS: [(&str, [u8; 6]); 5] = [
    ("beyond-itself", [1, 5, 2, 2, 5, 174]),
    ("of-the-future", [1, 5, 7, 0, 5, 0]),
    ("insists", [3, 5, 3, 0, 5, 0]),
    ("of-the-past", [1, 1, 1, 0, 0, 0]),
    ("insists-on-a-delegate", [1, 5, 2, 6, 9, 6]),
];

/// An alive message about a member at an address where nobody answers.
fn alive(name: &str, versions: [u8; 6], port: u16) -> Bytes {
    Message::Alive(Alive {
        incarnation: 1,
        node: name.into(),
        addr: Some(AddrBytes::from_ip(Ipv4Addr::LOCALHOST.into())),
        port,
        meta: None,
        vsn: Some(Bytes::copy_from_slice(&versions)),
    })
    .encode()
}

#[test]
fn a_member_whose_versions_fit_nobody_keeps_no_node_out() {
    let settings = [("GOSSIPYKV_PROFILE", "lan")];
    let [a, b] = Node::cluster::<2>(&[], &settings);
    assert_eq!(a.run(&["kv", "put", "before", "1"]).code, Some(0));
    // Bound and never read: no ping is answered, and no refusal comes back.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = silent.local_addr().expect("its address").port();
    let names = || VERSIONS.iter().map(|(name, _)| *name);
    for node in [&a, &b] {
        for (name, versions) in VERSIONS {
            silent.send_to(&alive(name, versions, port), node.gossip).expect("sent");
        }
        until("they are told of", || names().all(|name| node.sees(name, "alive")).then_some(()));
    }

    let c = Node::start("n2", &["--join", &a.gossip.to_string()], &settings);
    c.await_ready();
    assert_eq!(c.get("/kv/before"), Some((200, r#"{"before":"1"}"#.to_owned())));
    for node in [&a, &b] {
        let is_buried = |name| node.get("/members").is_some_and(|(_, all)| !all.contains(name));
        assert!(!names().any(is_buried), "they were known when the node came");
        assert_eq!(node.metric("merges_refused_total"), 0.0);
        until("it is seen", || node.sees("n2", "alive").then_some(()));
    }
}
