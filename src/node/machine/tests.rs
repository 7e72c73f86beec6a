//! A node that was set back, as a whole: what it calls itself, and what it answers.

use super::*;
use crate::kv::{Dot, OriginId};
use crate::node::command::{Command, Concern, Reply};
use crate::node::io::{ConnId, Ticket};
use crate::node::replication::message::{Digest, KvMessage};
use crate::node::tests::{self, addr, at};
use crate::wire::stream::{Frame, Payload};

const BEFORE: OriginId = OriginId(1);
const PEER: OriginId = OriginId(2);

/// A node that is ready, beside one member.
fn node() -> Node {
    let mut node = tests::node(Config { bootstrap: true, ..tests::config() });
    node.acquaint(at(1), vec![tests::member("b", 2)]);
    handle(&mut node, 1, Input::Timeout);
    node
}

fn handle(node: &mut Node, millis: u64, input: Input) -> Vec<Output> {
    node.handle(at(millis), input);
    let next = || match node.poll(at(millis)) {
        Output::Timeout(_) => None,
        output => Some(output),
    };
    std::iter::from_fn(next).collect()
}

/// The peer says how many writes of the run before it holds.
fn told(node: &mut Node, millis: u64, through: u64) -> Vec<Output> {
    let digest = Digest::of_heads(PEER, vec![(BEFORE.0, through)]).for_run(BEFORE);
    let frame = Frame::Kv(Payload::from(KvMessage::Digest(digest).encode()));
    handle(node, millis, Input::Frame { conn: ConnId(1), from: addr(2), frame })
}

fn held(node: &mut Node, millis: u64, dot: Dot) -> Vec<Reply> {
    let deadline = at(millis + 1000).instant;
    let command = Command::AwaitHolders { dot, concern: Concern::All, deadline };
    let out = handle(node, millis, Input::Command { ticket: Ticket(millis), command });
    let replies = out.into_iter().filter_map(|output| match output {
        Output::Reply { reply, .. } => Some(reply),
        _ => None,
    });
    replies.collect()
}

#[test]
fn it_goes_on_under_another_name_and_tells_it() {
    let mut node = node();
    let store = Arc::clone(&node.store);
    let written = store.put(at(2), b"k", b"v", None).expect("room");
    handle(&mut node, 2, Input::Written);
    assert_eq!(told(&mut node, 3, 1).len(), 0, "it holds what there is");
    assert_eq!((node.health(), store.origin()), (Health::Ok, BEFORE));
    let incarnation = node.swim().me().incarnation;

    let out = told(&mut node, 4, 5);
    let note = Note::SetBack { by: "b".into(), through: 5, last: 1 };
    assert!(out.iter().any(|output| matches!(output, Output::Note(told) if *told == note)));
    let origin = store.origin();
    assert!(origin != BEFORE && origin.0 != 0);
    assert_eq!(node.swim().me().meta, meta::encode(origin, Formats::SPOKEN));
    assert!(node.swim().me().incarnation > incarnation, "or nobody would believe it");
    assert_eq!(node.health(), Health::Starting);
    assert_eq!(node.not_ready(), Some(NotReady::Comparing));
    assert!(node.why().is_some_and(|why| why.contains("was set back")));
    // What it has written before counts as another's.
    assert_eq!(node.replication().contiguous(BEFORE), 1);
    assert_eq!(held(&mut node, 5, written.dot), [Reply::Holders { held: 1, wanted: 2 }]);
    let next = store.put(at(6), b"k", b"w", None).expect("room");
    assert_eq!(next.dot, Dot { origin, seq: 1 });
    assert!(next.stamp > written.stamp);
    assert_eq!(held(&mut node, 6, next.dot), [], "it waits");
}

#[test]
fn one_that_leaves_goes_on_as_it_is() {
    let mut node = node();
    let command = Command::Leave { deadline: at(5000).instant };
    handle(&mut node, 2, Input::Command { ticket: Ticket(1), command });
    told(&mut node, 3, 5);
    assert_eq!((node.health(), node.store.origin()), (Health::Leaving, BEFORE));
}
