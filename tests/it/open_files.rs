//! Nodes that may open few files, and clients that would have all of them.

use crate::agents::{Node, Running};
use crate::program::command;
use std::net::TcpStream;
use std::process::{Command, Stdio};

/// A node that may open so many files.
fn with_files(n_files: usize, name: &str) -> Node {
    let agent = command(&["agent", "--name", name, "--http=127.0.0.1:0", "--bind=127.0.0.1:0"]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("ulimit -n {n_files} && exec \"$0\" \"$@\"")]);
    shell.arg(agent.get_program()).args(agent.get_args()).env_clear().stdin(Stdio::null());
    Node::of(Running::of(shell, &[]))
}

fn n_open(node: &Node) -> usize {
    let pid = node.process.pid().as_raw_nonzero();
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("Linux").count()
}

#[test]
fn clients_leave_gossip_its_files_however_few_there_are() {
    for n_files in [80, 256] {
        let node = with_files(n_files, "few");
        node.await_ready();
        let connect = |_| TcpStream::connect(node.http).expect("the system takes it");
        let clients: Vec<TcpStream> = (0..200).map(connect).collect();
        let other = Node::start("other", &["--join", &node.gossip.to_string()], &[]);
        other.await_ready();
        assert!(n_open(&node) < n_files, "{} of {n_files}", n_open(&node));
        let log = node.process.log();
        assert!(!log.contains("could not be accepted") && !log.contains("os error 24"), "{log}");
        drop(clients);
    }
}

#[test]
fn strangers_leave_members_and_clients_theirs() {
    let node = with_files(80, "few");
    node.await_ready();
    let connect = |_| TcpStream::connect(node.gossip).expect("the system takes it");
    let strangers: Vec<TcpStream> = (0..200).map(connect).collect();
    let other = Node::start("other", &["--join", &node.gossip.to_string()], &[]);
    other.await_ready();
    assert_eq!(node.run(&["kv", "put", "k", "v"]).code, Some(0));
    let log = node.process.log();
    assert!(!log.contains("could not be accepted") && !log.contains("os error 24"), "{log}");
    drop(strangers);
}
