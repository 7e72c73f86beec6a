//! Meta and user messages between the kinds.

use crate::harness::{
    Fake, Mixed, MixedOptions, Node, State, eventually, hold_calm, needs, open_stream, security,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gossipykv::wire::message::Message;
use gossipykv::wire::stream::Frame;
use serde_json::json;
use std::time::Duration;

const SPREAD_MAX: Duration = Duration::from_secs(3);

#[test]
fn meta_reaches_the_other_kind() {
    needs!(Go);
    let mut mixed = Mixed::start(&MixedOptions::default());
    // 512 is all that fits; 32 and 31 are encoded differently.
    for len in [512, 32, 31, 1, 0] {
        let meta = vec![b'm'; len];
        mixed.go[0].tell(json!({"do": "meta", "payload": STANDARD.encode(&meta)}));
        for agent in &mixed.rust {
            eventually("Go's meta at ours", SPREAD_MAX, || {
                let (table, _) = agent.wire_table()?;
                let row = &table["g11"];
                let there = row.state == State::Alive && row.meta == meta;
                if there { Ok(()) } else { Err(format!("{}: {row:?}", agent.name())) }
            });
        }
    }
    let (own, _) = mixed.rust[0].wire_table().expect("a push-pull");
    assert!(!own["r1"].meta.is_empty(), "our kind is told by its meta");
    for peer in &mixed.go {
        let held = peer.holds("r1", State::Alive).expect("all see all").meta;
        assert_eq!(held, own["r1"].meta, "{}", peer.name());
    }
}

#[test]
fn foreign_user_messages_do_not_disturb_us() {
    needs!(Go);
    let mut mixed = Mixed::start(&MixedOptions { n_rust: 2, n_go: 2, ..MixedOptions::default() });
    // Ours are tagged within; these begin like anything: empty, Serf's types, ours by chance.
    let payloads: Vec<Vec<u8>> = [vec![], b"text".to_vec(), vec![0xff; 900], vec![0xc8; 64]]
        .into_iter()
        .chain((0..=255).map(|first| vec![first, 0x80, 0x01]))
        .collect();
    for payload in &payloads {
        mixed.go[0].send("udp", "r1", payload);
        mixed.go[0].tell(json!({"do": "broadcast", "payload": STANDARD.encode(payload)}));
    }
    for payload in payloads.iter().take(40) {
        mixed.go[0].send("tcp", "r1", payload);
    }
    mixed.go[0].send("tcp", "r1", &vec![7; 1 << 20]);
    mixed.rust[0].put("still", "works");
    for agent in &mixed.rust {
        eventually("replication", SPREAD_MAX, || agent.has("still", Some("works")));
    }
    // Each is sent four times to whoever is drawn, and only a delegate would pass it on.
    eventually("Go's broadcasts reach Go", SPREAD_MAX, || match mixed.go[1].messages().len() {
        0..50 => Err("fewer than 50 have"),
        _ => Ok(()),
    });
    hold_calm(&mixed.nodes(), mixed.nodes().len(), Duration::from_secs(3));
    for agent in &mixed.rust {
        assert_eq!(agent.complaints(), Vec::<String>::new(), "{}", agent.name());
        assert_eq!(agent.n_keys(), Ok(1), "{}", agent.name());
    }
    assert_eq!(mixed.go[0].messages(), Vec::<Vec<u8>>::new(), "nothing of ours goes to Go");
}

#[test]
fn user_messages_in_our_encoding_reach_go() {
    needs!(Go);
    let mixed = Mixed::start(&MixedOptions { n_rust: 1, n_go: 1, ..MixedOptions::default() });
    let (fake, plain) = (Fake::bind(mixed.range.gossip(200), security(&[])), security(&[]));
    let g11 = mixed.go[0].gossip();
    fake.send(g11, &[Message::User(b"by datagram".to_vec().into())]);
    let frame = Frame::User(vec![b's'; 100_000].into());
    assert_eq!(open_stream(g11, &plain, &frame), Ok(None));
    eventually("both", SPREAD_MAX, || {
        let lens: Vec<usize> = mixed.go[0].messages().iter().map(Vec::len).collect();
        if lens.contains(&11) && lens.contains(&100_000) {
            Ok(())
        } else {
            Err(format!("{lens:?}"))
        }
    });
}

#[test]
fn keys_and_values_go_to_our_kind_only() {
    needs!(Go);
    let mixed = Mixed::start(&MixedOptions { n_rust: 3, n_go: 2, ..MixedOptions::default() });
    for n in 0..200 {
        mixed.rust[n % 3].put(&format!("key-{n}"), &format!("value-{n}"));
    }
    let big = vec![b'b'; 200_000];
    let answer = mixed.rust[0].request_with("PUT", "/kv/big", &big).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    for agent in &mixed.rust {
        eventually("all keys", SPREAD_MAX, || match agent.n_keys()? {
            201 => Ok(()),
            n => Err(format!("{}: {n}", agent.name())),
        });
    }
    // Long enough for probes and gossip to have carried anything still queued.
    hold_calm(&mixed.nodes(), mixed.nodes().len(), SPREAD_MAX);
    mixed.assert_content();
}
