//! Keys: who does not have one stays out, and a live cluster changes its own.

use crate::control::KEYS;
use crate::harness::{
    Agent, AgentOptions, Mixed, MixedOptions, Node, Peer, PeerOptions, Range, State, Verify,
    await_all, eventually, hold, hold_calm, needs, now,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// PUTs a second over all writers while the keys change (the rate).
const PUTS_PER_SECOND: u32 = 2_000;
const WRITERS: u32 = 4;

/// Writes distinct keys at a steady rate until told to stop; returns how many were accepted.
fn write_until(stop: &AtomicBool, agent: &Agent, writer: u32, n_refused: &AtomicUsize) -> usize {
    let client = ureq::Agent::new_with_defaults();
    let (start, mut n) = (now(), 0_u32);
    while !stop.load(Ordering::Relaxed) {
        let url = format!("http://{}/kv/w{writer}-{n}/x", agent.http());
        match client.put(&url).send_empty() {
            Ok(_) => n += 1,
            Err(_) => {
                n_refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        let due = start + Duration::from_secs(1) * n * WRITERS / PUTS_PER_SECOND;
        std::thread::sleep(due.saturating_duration_since(now()));
    }
    n as usize
}

#[track_caller]
fn keys(agent: &Agent, verb: &str, key: &str) {
    let output = agent.client(&["keys", verb, key]);
    assert!(output.status.success(), "keys {verb}: {output:?}");
}

#[test]
fn a_live_cluster_changes_its_key_without_losing_a_write() {
    needs!(Go);
    let [old, new] = [KEYS[0], KEYS[2]];
    let options =
        MixedOptions { n_rust: 4, n_go: 1, keys: vec![old.to_owned()], ..MixedOptions::default() };
    let mut mixed = Mixed::start(&options);
    let (stop, n_refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let Mixed { rust, go, .. } = &mut mixed;
    let agents = &rust[..];
    let n_written: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (agent, stop, n_refused) = (&agents[writer as usize], &stop, &n_refused);
                scope.spawn(move || write_until(stop, agent, writer, n_refused))
            })
            .collect();
        let observers: Vec<&dyn Node> = agents.iter().map(|agent| agent as &dyn Node).collect();
        let quiet = || hold_calm(&observers, 5, Duration::from_secs(2));
        // A writer must stop whatever happens here, or the scope never ends.
        let rotated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            quiet();
            for verb in ["install", "use"] {
                keys(&agents[1], verb, new);
                go[0].key(verb, new);
                quiet();
            }
            keys(&agents[2], "remove", old);
            go[0].key("remove", old);
            quiet();
        }));
        stop.store(true, Ordering::Relaxed);
        let n = writers.into_iter().map(|writer| writer.join().expect("it counts")).sum();
        rotated.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        n
    });
    println!("{n_written} PUTs accepted while the key changed");
    assert_eq!(n_refused.into_inner(), 0);
    assert!(n_written >= PUTS_PER_SECOND as usize, "only {n_written} PUTs");
    for agent in &mixed.rust {
        eventually("all writes everywhere", Duration::from_secs(5), || match agent.n_keys()? {
            n if n == n_written => Ok(()),
            n => Err(format!("{}: {n} of {n_written}", agent.name())),
        });
    }
    mixed.go[0].holds("r1", State::Alive).expect("the new key is the only one");
    assert_eq!(mixed.go[0].complaints(), Vec::<String>::new());
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
