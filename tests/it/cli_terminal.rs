//! What a person at a terminal gets and a pipe does not: questions, hints, changes as they come.

use crate::agents::{Node, Running, until};
use crate::program::{command, run_fed};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::Child;

/// A command whose standard input is a terminal, and the other end of that.
fn at_a_terminal(args: &[&str]) -> (Child, File) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("ours");
    unlockpt(&terminal).expect("ours");
    let path = ptsname(&terminal, Vec::new()).expect("its name").into_string().expect("text");
    let stdin = OpenOptions::new().read(true).write(true).open(path).expect("its other end");
    let child = command(args).stdin(stdin).spawn().expect("the program starts");
    (child, File::from(terminal))
}

/// What the program writes to standard error up to this text.
#[track_caller]
fn hears(child: &mut Child, text: &str) {
    let mut stderr = child.stderr.take().expect("piped");
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(text) {
        let mut byte = [0];
        let len = stderr.read(&mut byte).expect("readable");
        assert_eq!(len, 1, "ended: {}", String::from_utf8_lossy(&heard));
        heard.extend(byte);
    }
    child.stderr = Some(stderr);
}

#[test]
fn who_waits_for_a_person_says_so() {
    let node = Node::start("n", &[], &[]);
    let server = ["--server", &*node.url()];
    let (mut put, mut terminal) = at_a_terminal(&[&["kv", "put", "k"], &server[..]].concat());
    hears(&mut put, "reading the value from this terminal");
    terminal.write_all(b"typed\n\x04").expect("room");
    assert!(put.wait().expect("an end").success());
    assert_eq!(node.run(&["kv", "get", "k"]).success(), "typed\n");
    let (mut keys, _terminal) = at_a_terminal(&[&["keys", "install"], &server[..]].concat());
    hears(&mut keys, "reading the key from this terminal");
    keys.kill().expect("it runs");
    keys.wait().expect("an end");
    // A pipe is told nothing.
    let fed = run_fed(&[&["kv", "put", "k"], &server[..]].concat(), b"piped");
    assert_eq!(fed.err, "");
}

#[test]
fn deleting_many_asks_first() {
    let node = Node::start("n", &[], &[]);
    let copy = b"{\"key\":\"a1\",\"value\":\"\"}\n{\"key\":\"a2\",\"value\":\"\"}\n";
    let ended = run_fed(&["kv", "import", "--server", &node.url()], copy);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let server = node.url();
    let args = ["kv", "delete", "--prefix", "a", "--server", &server];
    for (answer, code, left) in [("n\n", 1, "a1\na2\n"), ("y\n", 0, "")] {
        let (mut delete, mut terminal) = at_a_terminal(&args);
        hears(&mut delete, "2 keys begin with \"a\". Delete them on all nodes? [y/N]\n");
        terminal.write_all(answer.as_bytes()).expect("room");
        assert_eq!(delete.wait().expect("an end").code(), Some(code), "{answer:?}");
        assert_eq!(node.run(&["kv", "list"]).success(), left);
    }
}

#[test]
fn changes_of_members_are_told_as_they_come() {
    let [a, b] = Node::cluster::<2>(&["--profile=local"], &[]);
    let args = ["members", "--watch=50ms", "--server", &a.url()];
    let watch = Running::start(&args, &[]);
    until("the table", || watch.out().contains("n1 ").then_some(()));
    let json = Running::start(&[&args[..], &["--json"]].concat(), &[]);
    until("the table", || json.out().contains("n1").then_some(()));
    b.process.signal(Signal::TERM);
    until("a change", || {
        watch.out().contains(&format!("n1  {}  alive -> left\n", b.gossip)).then_some(())
    });
    until("a change", || {
        let lines = json.out();
        let line = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut line = line.filter(|line: &serde_json::Value| line["name"] == "n1");
        line.any(|line| line["was"] == "alive" && line["is"] == "left").then_some(())
    });
    a.process.signal(Signal::KILL);
    until("it goes on", || watch.log().contains("; goes on trying\n").then_some(()));
}
