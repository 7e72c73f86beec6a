//! `gossipykv watch` at a name that leads to another node in the course of time.

use crate::harness::{
    Agent, AgentOptions, BINARY, JOIN_MAX, Process, Range, await_all, await_ready, eventually,
    needs, scratch,
};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

const NAME: &str = "kv.test";
const READY_MAX: Duration = Duration::from_secs(20);
const TOLD_MAX: Duration = Duration::from_secs(30);

/// A file of hosts that only one process has; written over where it is.
struct Hosts(PathBuf);

impl Hosts {
    fn lead_to(&self, ip: Ipv4Addr) {
        std::fs::write(&self.0, format!("{ip} {NAME}\n")).expect("cargo's directory is writable");
    }
}

fn put(agent: &Agent, key: &str, value: &str, w: u32) {
    let put = || match agent.request_with("PUT", &format!("/kv/{key}?w={w}"), value.as_bytes()) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("it is written", READY_MAX, put);
}

#[test]
fn a_watch_looks_its_name_up_again_when_its_node_is_gone() {
    needs!(Namespaces);
    let range = Range::claim();
    let options = |seeds| AgentOptions {
        seeds,
        // A name that is no address has to be known.
        flags: vec!["--http-host".to_owned(), NAME.to_owned()],
        ..AgentOptions::default()
    };
    let one = Agent::start(&range, 1, options(vec![range.gossip(2)]));
    let two = Agent::start(&range, 2, options(vec![range.gossip(1)]));
    await_all(&[&one, &two], JOIN_MAX);
    // A node that starts takes writes, and refuses who watches.
    await_ready([&one, &two], READY_MAX);
    let hosts = Hosts(scratch().join(format!("hosts-{}", range.ip(1))));
    hosts.lead_to(range.ip(1));
    put(&one, "a", "1", 2);
    let mut command = Process::command("unshare", None);
    let inside = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", inside]).arg(&hosts.0);
    let server = format!("http://{NAME}:{}", one.http().port());
    command.args([&BINARY, "watch", "--server", &server]);
    let watch = Process::spawn("watch", command);
    let told = |line: &'static str, from| {
        let find = |found: &str| (found == line).then_some(());
        watch.find_line(line, from, TOLD_MAX, find).2
    };
    let next = told("put\ta\t1", 0);
    hosts.lead_to(range.ip(2));
    drop(one);
    put(&two, "b", "2", 1);
    told("put\tb\t2", next);
    let n_puts = |lines: &[String]| lines.iter().filter(|line| line.starts_with("put\t")).count();
    assert_eq!(n_puts(&watch.lines(0)), 2, "nothing is told twice");
}
