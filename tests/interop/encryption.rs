//! Keys: who does not have one stays out, and how a plain cluster comes to have one.

use crate::control::KEYS;
use crate::harness::{
    Agent, AgentOptions, Mixed, MixedOptions, Node, Peer, PeerOptions, Range, Verify, await_all,
    eventually, hold, needs,
};
use std::time::Duration;

const REJOIN_MAX: Duration = Duration::from_secs(5);
const OUTSIDE: Duration = Duration::from_secs(4);

/// Starts ours and a Go member with these keys, makes each contact the other, and watches that
/// neither takes the other in.
#[track_caller]
fn stay_apart(ours: &[&str], theirs: &[&str], our_flags: &[&str]) {
    let range = Range::claim();
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let mut peer =
        Peer::start(&range, 11, PeerOptions { keys: owned(theirs), ..PeerOptions::default() });
    let options = AgentOptions {
        keys: owned(ours),
        seeds: vec![peer.gossip()],
        flags: owned(our_flags),
        ..AgentOptions::default()
    };
    let agent = Agent::start(&range, 1, options);
    let refused = peer.ask(serde_json::json!({"do": "join", "addresses": [agent.gossip()]}));
    assert!(refused.is_err(), "{refused:?}");
    hold("each sees only itself", OUTSIDE, || {
        for node in [&agent as &dyn Node, &peer] {
            let table = node.table()?;
            if table.len() != 1 {
                return Err(format!("{} sees {table:?}", node.name()));
            }
        }
        Ok(())
    });
    let live = agent.request("GET", "/live").expect("it still serves");
    assert_eq!(live.status, 200);
}

#[test]
fn plaintext_stays_out_of_an_encrypted_cluster() {
    needs!(Go);
    stay_apart(&[KEYS[2]], &[], &[]);
    stay_apart(&[], &[KEYS[2]], &[]);
}

#[test]
fn another_key_stays_out() {
    needs!(Go);
    stay_apart(&[KEYS[0]], &[KEYS[2]], &[]);
}

#[test]
fn another_label_stays_out() {
    needs!(Go);
    stay_apart(&[], &[], &["--label", "ours"]);
    stay_apart(&[KEYS[0]], &[KEYS[0]], &["--label", "ours"]);
}

#[test]
fn a_second_key_is_enough_to_be_understood() {
    needs!(Go);
    let range = Range::claim();
    let keys = [KEYS[0].to_owned(), KEYS[2].to_owned()];
    let mut peer =
        Peer::start(&range, 11, PeerOptions { keys: keys.to_vec(), ..PeerOptions::default() });
    let [first, second] = keys;
    let agent = Agent::start(
        &range,
        1,
        AgentOptions { keys: vec![second, first], ..AgentOptions::default() },
    );
    peer.join(&[agent.gossip()]);
    await_all(&[&agent, &peer], OUTSIDE);
}

#[test]
fn a_plain_cluster_becomes_an_encrypted_one_by_rolling_restarts() {
    needs!(Go);
    let mut mixed = Mixed::start(&MixedOptions { n_rust: 2, n_go: 2, ..MixedOptions::default() });
    mixed.rust[0].put("carried", "over");
    // Whoever is killed with the only copy takes it along.
    eventually("a copy", REJOIN_MAX, || mixed.rust[1].has("carried", Some("over")));
    let seeds = vec![mixed.rust[0].gossip(), mixed.rust[1].gossip()];
    // Understand both, then send encrypted, then insist.
    for (incoming, outgoing) in [(false, false), (false, true), (true, true)] {
        let (verify, keys) = (Verify { incoming, outgoing }, vec![KEYS[2].to_owned()]);
        for _ in 0..mixed.rust.len() {
            let (keys, seeds) = (keys.clone(), seeds.clone());
            let options = AgentOptions { keys, verify, seeds, ..AgentOptions::default() };
            let agent = mixed.rust.remove(0).restart_with(options);
            mixed.rust.push(agent);
            await_all(&mixed.nodes(), REJOIN_MAX);
            let copied = || mixed.rust.iter().try_for_each(|a| a.has("carried", Some("over")));
            eventually("the copy", REJOIN_MAX, copied);
        }
        for _ in 0..mixed.go.len() {
            let options = PeerOptions { keys: keys.clone(), verify, ..PeerOptions::default() };
            let mut peer = mixed.go.remove(0).restart_with(options);
            peer.join(&seeds[..1]);
            mixed.go.push(peer);
            await_all(&mixed.nodes(), REJOIN_MAX);
        }
    }
}
