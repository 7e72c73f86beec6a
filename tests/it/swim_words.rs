//! Membership messages as words, and back.
//!
//! ```text
//! ping 7 b src=a@10.0.0.1:7946        ack 7      nack 7
//! indirect 7 c@10.0.0.3:7946 nack src=a@10.0.0.1:7946
//! alive c 3 10.0.0.3:7946 meta=x vsn=1.5.2.0.5.0
//! suspect c 3 by a                    dead c 3 by a
//! c dead 3 10.0.0.3:7946              (an entry of a push-pull; the state may be a number)
//! ```
//!
//! An address is `10.0.0.3:7946`, with `map/` before it in 16 bytes, or `hex/0102:7946`, or `nil`.
//! The versions of our own kind and an empty meta are left out; `vsn=nil` says that there are none.

use bytes::Bytes;
use gossipykv::swim::{MemberState, VSN};
use gossipykv::wire::message::{
    Ack, AddrBytes, Alive, Dead, IndirectPing, Message, Nack, NodeName, Ping, PushNodeState,
    Suspect,
};
use std::net::{IpAddr, Ipv6Addr};

const STATES: [(&str, MemberState); 4] = [
    ("alive", MemberState::Alive),
    ("suspect", MemberState::Suspect),
    ("dead", MemberState::Dead),
    ("left", MemberState::Left),
];

/// The words of a line, read from the front, with `key=value` options anywhere.
pub struct Words<'a> {
    plain: std::vec::IntoIter<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    pub fn new(line: &'a str) -> Words<'a> {
        let (options, plain): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| word.contains('='));
        let options = options.iter().filter_map(|word| word.split_once('=')).collect();
        Words { plain: plain.into_iter(), options }
    }

    pub fn next(&mut self) -> &'a str {
        self.plain.next().expect("another word")
    }

    pub fn peek(&self) -> Option<&'a str> {
        self.plain.as_slice().first().copied()
    }

    pub fn number<T: std::str::FromStr>(&mut self) -> T {
        let word = self.next();
        word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
    }

    pub fn name(&mut self) -> NodeName {
        name(self.next())
    }

    pub fn option(&self, key: &str) -> Option<&'a str> {
        self.options.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    pub fn options(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.options.iter().copied()
    }

    /// What is left as one text.
    pub fn rest(self) -> String {
        self.plain.collect::<Vec<_>>().join(" ")
    }
}

pub fn message(words: &mut Words<'_>) -> Message {
    match words.next() {
        "ping" => {
            let (seq_no, node) = (words.number(), words.name());
            let (source_addr, source_port, source_node) = source(words);
            Message::Ping(Ping { seq_no, node, source_addr, source_port, source_node })
        }
        "indirect" => {
            let seq_no = words.number();
            let (node, addr) = words.next().split_once('@').expect("name@address");
            let (target, port) = address(addr);
            let nack = words.peek() == Some("nack");
            let (source_addr, source_port, source_node) = source(words);
            let (node, target) = (name(node), target.map(|addr| addr.0));
            Message::IndirectPing(IndirectPing {
                seq_no,
                target,
                port,
                node,
                nack,
                source_addr,
                source_port,
                source_node,
            })
        }
        "ack" => Message::Ack(Ack { seq_no: words.number(), payload: None }),
        "nack" => Message::Nack(Nack { seq_no: words.number() }),
        "alive" => {
            let (node, incarnation) = (words.name(), words.number());
            let (addr, port) = address(words.next());
            let (meta, vsn) = (meta(words), vsn(words));
            Message::Alive(Alive { incarnation, node, addr, port, meta, vsn })
        }
        kind @ ("suspect" | "dead") => {
            let (node, incarnation) = (words.name(), words.number());
            assert_eq!(words.next(), "by");
            let from = words.name();
            if kind == "dead" {
                Message::Dead(Dead { incarnation, node, from })
            } else {
                Message::Suspect(Suspect { incarnation, node, from })
            }
        }
        other => panic!("{other:?} is no message"),
    }
}

pub fn push_state(words: &mut Words<'_>) -> PushNodeState {
    let (name, state) = (words.name(), words.next());
    let named = STATES.iter().find(|(word, _)| *word == state);
    let state = named.map_or_else(|| state.parse().expect("a state"), |(_, s)| *s as i64);
    let incarnation = words.number();
    let (addr, port) = address(words.next());
    PushNodeState { name, addr, port, meta: meta(words), incarnation, state, vsn: vsn(words) }
}

/// A name; `""` is the empty one.
pub fn name(word: &str) -> NodeName {
    NodeName::from(word.trim_matches('"'))
}

pub fn address(word: &str) -> (Option<AddrBytes>, u16) {
    if word == "nil" {
        return (None, 0);
    }
    let (addr, port) = word.rsplit_once(':').expect("an address with its port");
    let octets = if let Some(hex) = addr.strip_prefix("hex/") {
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
    } else if let Some(v4) = addr.strip_prefix("map/") {
        let v4: std::net::Ipv4Addr = v4.parse().expect("an IPv4 address");
        v4.to_ipv6_mapped().octets().to_vec()
    } else {
        AddrBytes::from_ip(addr.trim_matches(['[', ']']).parse().expect("an IP address")).0.to_vec()
    };
    (Some(AddrBytes(octets.into())), port.parse().expect("a port"))
}

fn source(words: &Words<'_>) -> (AddrBytes, u16, NodeName) {
    let Some((node, addr)) = words.option("src").and_then(|src| src.split_once('@')) else {
        return Default::default();
    };
    let (addr, port) = address(addr);
    (addr.unwrap_or_default(), port, name(node))
}

fn meta(words: &Words<'_>) -> Option<Bytes> {
    words.option("meta").map(|meta| Bytes::copy_from_slice(meta.as_bytes()))
}

fn vsn(words: &Words<'_>) -> Option<Bytes> {
    match words.option("vsn") {
        None => Some(VSN.to_bytes()),
        Some("nil") => None,
        Some(vsn) => Some(vsn.split('.').map(|v| v.parse::<u8>().expect("a version")).collect()),
    }
}

pub fn show(message: &Message) -> String {
    match message {
        Message::Ping(ping) => {
            let src = show_source(&ping.source_node, &ping.source_addr, ping.source_port);
            format!("ping {} {}{src}", ping.seq_no, show_name(&ping.node))
        }
        Message::IndirectPing(ask) => {
            let src = show_source(&ask.source_node, &ask.source_addr, ask.source_port);
            let target = show_address(ask.target.clone().map(AddrBytes).as_ref(), ask.port);
            let nack = if ask.nack { " nack" } else { "" };
            format!("indirect {} {}@{target}{nack}{src}", ask.seq_no, show_name(&ask.node))
        }
        Message::Ack(ack) => format!("ack {}", ack.seq_no),
        Message::Nack(nack) => format!("nack {}", nack.seq_no),
        Message::Alive(alive) => {
            let facts = show_facts(alive.addr.as_ref(), alive.port, &alive.meta, &alive.vsn);
            format!("alive {} {} {facts}", show_name(&alive.node), alive.incarnation)
        }
        Message::Suspect(Suspect { incarnation, node, from }) => {
            format!("suspect {} {incarnation} by {}", show_name(node), show_name(from))
        }
        Message::Dead(Dead { incarnation, node, from }) => {
            format!("dead {} {incarnation} by {}", show_name(node), show_name(from))
        }
        Message::User(payload) => format!("user {} bytes", payload.len()),
    }
}

pub fn show_push_state(state: &PushNodeState) -> String {
    let facts = show_facts(state.addr.as_ref(), state.port, &state.meta, &state.vsn);
    let named = STATES.iter().find(|(_, s)| *s as i64 == state.state);
    let word = named.map_or_else(|| state.state.to_string(), |(word, _)| (*word).to_owned());
    format!("{} {word} {} {facts}", show_name(&state.name), state.incarnation)
}

pub fn show_state(state: MemberState) -> &'static str {
    STATES[state as usize].0
}

fn show_name(name: &NodeName) -> String {
    if name.is_empty() { "\"\"".to_owned() } else { name.to_string() }
}

fn show_source(node: &NodeName, addr: &AddrBytes, port: u16) -> String {
    if addr.0.is_empty() {
        return String::new();
    }
    format!(" src={node}@{}", show_address(Some(addr), port))
}

fn show_address(addr: Option<&AddrBytes>, port: u16) -> String {
    let Some(AddrBytes(octets)) = addr else { return "nil".to_owned() };
    let v6 = <[u8; 16]>::try_from(&octets[..]).ok().map(Ipv6Addr::from);
    match (v6.and_then(|v6| v6.to_ipv4_mapped()), addr.and_then(AddrBytes::ip)) {
        (Some(v4), _) => format!("map/{v4}:{port}"),
        (None, Some(IpAddr::V4(v4))) => format!("{v4}:{port}"),
        (None, Some(IpAddr::V6(v6))) => format!("[{v6}]:{port}"),
        (None, None) => {
            let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("hex/{hex}:{port}")
        }
    }
}

fn show_facts(
    addr: Option<&AddrBytes>,
    port: u16,
    meta: &Option<Bytes>,
    vsn: &Option<Bytes>,
) -> String {
    let mut facts = show_address(addr, port);
    if let Some(meta) = meta.as_ref().filter(|meta| !meta.is_empty()) {
        facts += &format!(" meta={}", String::from_utf8_lossy(meta));
    }
    match vsn {
        Some(vsn) if *vsn == VSN.to_bytes() => {}
        Some(vsn) => {
            let versions: Vec<String> = vsn.iter().map(u8::to_string).collect();
            facts += &format!(" vsn={}", versions.join("."));
        }
        None => facts += " vsn=nil",
    }
    facts
}
