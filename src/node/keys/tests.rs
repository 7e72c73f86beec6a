//! Who is asked before a key is used or removed, and what comes of what they say.

use super::*;
use crate::node::Config;
use crate::node::command::Command;
use crate::node::formats::Formats;
use crate::node::io::{Input, Output};
use crate::node::tests::{self, addr, at};
use crate::wire::packet::Security;
use crate::wire::stream::{Frame, Payload};

const OLD: [u8; 16] = [1; 16];
const NEW: [u8; 16] = [2; 16];

fn mark(key: [u8; 16]) -> String {
    Key::from_bytes(&key).expect("an AES key").fingerprint().to_owned()
}

/// A node with these keys and what it has put out.
struct Rig {
    node: Node,
    out: Vec<Output>,
}

impl Rig {
    /// Beside the members b and c, whose origins are 2 and 3.
    fn new(keys: &[[u8; 16]]) -> Rig {
        let keys = keys.iter().map(|key| Key::from_bytes(key).expect("an AES key"));
        let keyring = Keyring::new(keys).expect("a few");
        let security = Security { keyring, ..Security::default() };
        let mut node = tests::node(Config { security, bootstrap: true, ..tests::config() });
        node.acquaint(at(1), vec![tests::member("b", 2), tests::member("c", 3)]);
        let mut rig = Rig { node, out: Vec::new() };
        rig.handle(2, Input::Timeout);
        rig.out.clear();
        rig
    }

    fn handle(&mut self, millis: u64, input: Input) {
        self.node.handle(at(millis), input);
        loop {
            match self.node.poll(at(millis)) {
                Output::Timeout(_) => return,
                output => self.out.push(output),
            }
        }
    }

    fn ask(&mut self, millis: u64, command: KeyCommand) {
        let command = Command::Keys(command);
        self.handle(millis, Input::Command { ticket: Ticket(millis), command });
    }

    fn says(&mut self, millis: u64, from: u8, message: KvMessage) {
        let frame = Frame::Kv(Payload::from(message.encode()));
        let (conn, from) = (ConnId(u64::from(from) * 2 + 1001), addr(from));
        self.handle(millis, Input::Frame { conn, from, frame });
    }

    /// Members answer the latest request.
    fn answers(&mut self, millis: u64, id: u64, answers: [Result<&[[u8; 16]], &str>; 2]) {
        for (from, answer) in (2..).zip(answers) {
            let fingerprints = answer.unwrap_or_default().iter().map(|key| mark(*key)).collect();
            let error = answer.err().unwrap_or_default().to_owned();
            let reply = KeyReply { id, from, fingerprints, error };
            self.says(millis, u8::try_from(from).expect("small"), KvMessage::KeyReply(reply));
        }
    }

    fn messages(&self) -> Vec<KvMessage> {
        let frames = self.out.iter().filter_map(|output| match output {
            Output::Dial { frame: Frame::Kv(payload), .. }
            | Output::Send { frame: Frame::Kv(payload), .. } => Some(payload.join()),
            _ => None,
        });
        let read = |bytes: Bytes| KvMessage::read(&bytes, Formats::SPOKEN).expect("ours").message;
        frames.map(read).collect()
    }

    /// What members were asked since the last look: the request's number, action and key.
    fn asked(&mut self) -> Vec<(u64, u8, Vec<u8>)> {
        let requests = self.messages().into_iter().filter_map(|message| match message {
            KvMessage::KeyRequest(request) => {
                Some((request.id, request.action, request.key.to_vec()))
            }
            _ => None,
        });
        let requests = requests.collect();
        self.out.retain(|output| !matches!(output, Output::Dial { .. } | Output::Send { .. }));
        requests
    }

    /// The only answer to a command since the last look.
    #[track_caller]
    fn reply(&mut self) -> Reply {
        let at = self.out.iter().position(|output| matches!(output, Output::Reply { .. }));
        match self.out.remove(at.expect("an answer")) {
            Output::Reply { reply, .. } => reply,
            _ => panic!("looked for a reply"),
        }
    }

    #[track_caller]
    fn refused(&mut self, words: &[&str]) {
        let Reply::Refused(why) = self.reply() else { panic!("not refused") };
        assert!(words.iter().all(|word| why.contains(word)), "{words:?}: {why}");
        assert!(self.asked().is_empty());
    }

    /// The keys that it has, the one that encrypts first.
    fn keys(&self) -> Vec<String> {
        let keys = self.node.security().keyring.keys();
        keys.iter().map(|key| key.fingerprint().to_owned()).collect()
    }
}

#[test]
fn a_key_is_used_when_all_have_said_that_they_hold_it_and_here_last() {
    let mut rig = Rig::new(&[OLD, NEW]);
    rig.ask(10, KeyCommand::Use(NEW.to_vec()));
    let asked = (0, LIST, mark(NEW).into_bytes());
    assert_eq!(rig.asked(), [asked.clone(), asked]);
    rig.answers(20, 0, [Ok(&[OLD, NEW]), Ok(&[OLD, NEW])]);
    let told = (1, USE, NEW.to_vec());
    assert_eq!(rig.asked(), [told.clone(), told]);
    assert_eq!(rig.keys(), [mark(OLD), mark(NEW)], "what tells them is sealed with the old one");
    rig.answers(30, 1, [Ok(&[NEW, OLD]), Ok(&[NEW, OLD])]);
    assert_eq!(rig.keys(), [mark(NEW), mark(OLD)]);
    let Reply::Keys(results) = rig.reply() else { panic!("not done") };
    assert_eq!(results.len(), 3);
    for (_, keys) in results {
        assert_eq!(keys, Ok(vec![mark(NEW), mark(OLD)]));
    }
}

#[test]
fn a_key_that_somebody_lacks_or_may_lack_is_not_used() {
    let mut rig = Rig::new(&[OLD, NEW]);
    rig.ask(10, KeyCommand::Use(NEW.to_vec()));
    assert_eq!(rig.asked().len(), 2);
    rig.answers(20, 0, [Ok(&[OLD, NEW]), Ok(&[OLD])]);
    rig.refused(&["c does not hold it", "nothing has been changed", &mark(NEW)]);
    // One is silent.
    rig.ask(30, KeyCommand::Use(NEW.to_vec()));
    assert_eq!(rig.asked().len(), 2);
    let held = vec![mark(OLD), mark(NEW)];
    let reply = KeyReply { id: 1, from: 2, fingerprints: held, error: String::new() };
    rig.says(40, 2, KvMessage::KeyReply(reply));
    rig.handle(30 + 4_000, Input::Timeout);
    rig.out.retain(|output| matches!(output, Output::Reply { .. }));
    rig.refused(&["c has not said"]);
    // It is lacking here.
    rig.ask(5_000, KeyCommand::Use(vec![3; 16]));
    rig.refused(&["not installed here"]);
    assert_eq!(rig.keys(), [mark(OLD), mark(NEW)]);
}

#[test]
fn a_key_that_somebody_uses_is_not_removed() {
    let mut rig = Rig::new(&[NEW, OLD]);
    rig.ask(10, KeyCommand::Remove(NEW.to_vec()));
    rig.refused(&["in use here"]);
    rig.ask(20, KeyCommand::Remove(OLD.to_vec()));
    assert_eq!(rig.asked().len(), 2);
    rig.answers(30, 0, [Ok(&[NEW, OLD]), Ok(&[OLD, NEW])]);
    rig.refused(&["c encrypts with it", "nothing has been changed"]);
    rig.ask(40, KeyCommand::Remove(OLD.to_vec()));
    rig.answers(50, 1, [Ok(&[NEW]), Ok(&[NEW, OLD])]);
    rig.answers(60, 2, [Ok(&[NEW]), Ok(&[NEW])]);
    assert_eq!(rig.keys(), [mark(NEW)]);
}

#[test]
fn where_one_has_not_done_it_the_node_that_was_asked_stays_as_it_was() {
    let mut rig = Rig::new(&[OLD, NEW]);
    rig.ask(10, KeyCommand::Use(NEW.to_vec()));
    rig.answers(20, 0, [Ok(&[OLD, NEW]), Ok(&[OLD, NEW])]);
    rig.answers(30, 1, [Ok(&[NEW, OLD]), Err("key 2 is not installed")]);
    assert_eq!(rig.keys(), [mark(OLD), mark(NEW)], "it can still reach the one that lacks it");
    let Reply::Keys(results) = rig.reply() else { panic!("refused") };
    assert!(results[0].1.as_ref().is_err_and(|why| why.contains("not done here")), "{results:?}");
}

#[test]
fn of_two_changes_at_once_one_goes_on_at_most() {
    let mut rig = Rig::new(&[OLD, NEW]);
    rig.ask(10, KeyCommand::Use(NEW.to_vec()));
    assert_eq!(rig.asked().len(), 2);
    rig.ask(11, KeyCommand::Remove(NEW.to_vec()));
    rig.refused(&["another change of the keys is under way"]);
    // Another member asks for the same; one of the last version without a question before.
    let held = [mark(OLD), mark(NEW)];
    for (id, action, key, expected) in [
        (7, LIST, mark(NEW).into_bytes(), Err(())),
        (8, REMOVE, NEW.to_vec(), Err(())),
        (9, LIST, Vec::new(), Ok(&held)),
        (10, INSTALL, NEW.to_vec(), Ok(&held)),
    ] {
        let request = KeyRequest { id, action, key: key.into() };
        rig.says(20, 2, KvMessage::KeyRequest(request));
        let replies: Vec<KeyReply> = rig
            .messages()
            .into_iter()
            .filter_map(|message| match message {
                KvMessage::KeyReply(reply) => Some(reply),
                _ => None,
            })
            .collect();
        rig.out.clear();
        let [reply] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(reply.id, id);
        match expected {
            Ok(held) => assert_eq!((&reply.fingerprints[..], &reply.error[..]), (&held[..], "")),
            Err(()) => assert!(reply.error.contains("under way"), "{reply:?}"),
        }
    }
    assert_eq!(rig.keys(), held);
}
