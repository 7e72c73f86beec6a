//! Signals to a node besides the one that has it leave: while it starts, of a terminal that closes.

use crate::agents::{Node, Running, until};
use crate::program::command;
use rustix::process::{Pid, Signal, getuid, kill_process};
use std::io::Read as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a process may take to end besides what it waits for, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

#[test]
fn a_hangup_ends_no_node_that_reads_nothing_again() {
    let [mut node, other] = Node::cluster::<2>(&[], &[]);
    assert_eq!(node.run(&["kv", "put", "k", "v"]).code, Some(0));
    node.process.signal(Signal::HUP);
    node.process.logged("SIGHUP: there is nothing to read again");
    assert_eq!(node.run(&["kv", "put", "k", "w"]).code, Some(0));
    // Nor does it keep one that leaves from handing over.
    other.process.signal(Signal::STOP);
    assert_eq!(node.run(&["kv", "put", "k", "x"]).code, Some(0));
    node.process.signal(Signal::TERM);
    node.process.logged("leaving the cluster");
    node.process.signal(Signal::HUP);
    other.process.signal(Signal::CONT);
    let ended = node.process.end().0;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(other.run(&["kv", "get", "k"]).success(), "x");
}

/// An endpoint that takes connections and never answers, and a node that waits for it. The process
/// that a container begins with has no default action: what it does not take over is lost.
fn settling(ecs: &TcpListener) -> Running {
    let url = format!("http://{}/v4/x", ecs.local_addr().expect("an address"));
    let flags = ["agent", "--bind=127.0.0.1:0", "--http=127.0.0.1:0"];
    Running::start(&flags, &[("ECS_CONTAINER_METADATA_URI_V4", &url)])
}

#[test]
fn a_signal_ends_a_node_at_once_that_has_not_begun_to_serve() {
    for signal in [Signal::TERM, Signal::INT] {
        let ecs = TcpListener::bind("127.0.0.1:0").expect("a port");
        let process = settling(&ecs);
        let _waits = ecs.accept().expect("it asks");
        process.signal(Signal::HUP);
        process.signal(signal);
        let (ended, took) = process.end();
        assert_eq!((ended.code, ended.text()), (Some(0), ""), "{ended:?}");
        assert!(ended.err.contains("ended before it began to serve"), "{ended:?}");
        assert!(took < SLACK, "{took:?}");
    }
}

#[test]
fn a_cluster_in_a_terminal_ends_in_good_order_when_that_closes() {
    let dev = crate::cli_dev::start(3);
    dev.process.signal(Signal::HUP);
    dev.process.signal(Signal::HUP);
    let (ended, took) = dev.process.end();
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{ended:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// Runs the program as the first process of a namespace until it asks somebody who never answers,
/// sends it SIGTERM, and tells exit code and standard error; `None` when it died of a signal.
fn as_first(
    listener: &TcpListener,
    args: &[&str],
    variables: &[(&str, &str)],
) -> Option<(i32, String)> {
    let mut outer = Command::new("unshare");
    outer.args(["--pid", "--fork", "--kill-child"]).arg(command(&[]).get_program()).args(args);
    outer.env_clear().envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut outer = outer.stderr(Stdio::piped()).spawn().expect("util-linux is everywhere");
    let (of, asked) = (outer.id(), listener.accept().expect("it asks"));
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    let child = children.expect("its child").trim().parse().expect("one child");
    kill_process(Pid::from_raw(child).expect("a process"), Signal::TERM).expect("it runs");
    let status = until("the end of the process", || outer.try_wait().expect("its state"));
    drop(asked);
    let mut told = String::new();
    outer.stderr.expect("a pipe").read_to_string(&mut told).expect("text");
    Some((status.code()?, told))
}

#[test]
fn the_first_process_of_a_container_misses_no_signal_and_ends_with_its_code() {
    if !getuid().is_root() {
        println!("skipped: only root can make a namespace everywhere");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v4/x", listener.local_addr().expect("an address"));
    let flags = ["agent", "--bind=127.0.0.1:0", "--http=127.0.0.1:0"];
    let ended = as_first(&listener, &flags, &[("ECS_CONTAINER_METADATA_URI_V4", &url)]);
    assert!(matches!(ended, Some((0, _))), "{ended:?}");
    // A process dies of a signal when it is not the first one.
    let server = url.trim_end_matches("/v4/x");
    let ended = as_first(&listener, &["backup", "--server", server, "/nowhere/backup"], &[]);
    assert!(
        matches!(&ended, Some((143, told)) if told.contains("stopped by SIGTERM")),
        "{ended:?}"
    );
    // What has nothing to say at its end ends at once.
    let ended = as_first(&listener, &["watch", "--server", server], &[]);
    assert!(matches!(ended, Some((143, _))), "{ended:?}");
}
