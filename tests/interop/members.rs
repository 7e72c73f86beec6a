//! Mixed clusters form whatever the layers of the wire, and stay formed.

use crate::control::KEYS;
use crate::harness::{Mixed, MixedOptions, await_all, hold, lan, long, needs};
use crate::harness::{Node, State, eventually};
use std::time::Duration;

/// Every member probes every other at least once in this time.
const QUIET: Duration = Duration::from_secs(8);
/// Two of memberlist's LAN push-pulls.
const QUIET_LONG: Duration = Duration::from_secs(70);

#[track_caller]
fn forms_and_stays(options: &MixedOptions) {
    let mut mixed = Mixed::start(options);
    println!("all saw all after {:?}", mixed.joined_after);
    mixed.rust[0].put("kept", "by-us");
    for agent in &mixed.rust {
        eventually("the value", Duration::from_secs(1), || agent.has("kept", Some("by-us")));
    }
    // A push-pull between each pair of kinds once more, now with full tables.
    let seeds: Vec<_> = mixed.rust.iter().map(Node::gossip).collect();
    for peer in &mut mixed.go {
        peer.join(&seeds);
    }
    let quiet = if long() { QUIET_LONG } else { QUIET };
    hold("all alive with the incarnations they began with", quiet, || {
        for node in mixed.nodes() {
            let table = node.table()?;
            let disturbed = table.iter().find(|(_, row)| row.state != State::Alive);
            if disturbed.is_some() || table.len() != mixed.nodes().len() {
                return Err(format!("{} sees {table:?}", node.name()));
            }
        }
        Ok(())
    });
    for peer in &mixed.go {
        let pinged: std::collections::BTreeSet<String> = peer
            .events("pinged")
            .iter()
            .map(|event| event["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        let ours = mixed.rust.iter().filter(|agent| pinged.contains(agent.name())).count();
        assert_eq!(ours, mixed.rust.len(), "{} has acks of {pinged:?} only", peer.name());
    }
    mixed.assert_content();
    await_all(&mixed.nodes(), lan::SLACK);
}

#[test]
fn plain() {
    needs!(Go);
    forms_and_stays(&MixedOptions { compress: false, ..MixedOptions::default() });
}

#[test]
fn compressed() {
    needs!(Go);
    forms_and_stays(&MixedOptions { compress: true, ..MixedOptions::default() });
}

#[test]
fn encrypted_with_aes_128() {
    needs!(Go);
    forms_and_stays(&MixedOptions { keys: vec![KEYS[0].to_owned()], ..MixedOptions::default() });
}

#[test]
fn encrypted_with_aes_192() {
    needs!(Go);
    forms_and_stays(&MixedOptions { keys: vec![KEYS[1].to_owned()], ..MixedOptions::default() });
}

#[test]
fn encrypted_with_aes_256() {
    needs!(Go);
    forms_and_stays(&MixedOptions { keys: vec![KEYS[2].to_owned()], ..MixedOptions::default() });
}

#[test]
fn a_stranger_gets_the_table_and_no_user_state() {
    needs!(Go);
    let mixed = Mixed::start(&MixedOptions { n_rust: 2, n_go: 1, ..MixedOptions::default() });
    mixed.rust[0].put("secret", "value");
    for agent in &mixed.rust {
        let (table, user_state) = agent.wire_table().expect("a push-pull");
        assert_eq!(table.len(), 3, "{table:?}");
        assert_eq!(user_state, Vec::<u8>::new());
    }
}
