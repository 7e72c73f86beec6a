//! `dev`: three nodes in one process, seen from outside.

use crate::agents::{Running, until};
use crate::program::run;
use rustix::process::Signal;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// The first of some ports in a row that nobody listens on now; other ones for each caller.
fn free_ports(n_ports: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 500).unwrap_or(0) * 16;
    (0..200)
        .map(|_| base + NEXT.fetch_add(n_ports, Ordering::Relaxed) % 4000)
        .find(|first| {
            (*first..first + n_ports).all(|port| {
                TcpListener::bind(("127.0.0.1", port)).is_ok()
                    && UdpSocket::bind(("127.0.0.1", port)).is_ok()
            })
        })
        .expect("free ports")
}

/// A cluster in one process.
pub struct Dev {
    pub process: Running,
    http_port: u16,
}

/// Starts it on ports that somebody else may just have taken: then on others.
pub fn start(n_nodes: u16) -> Dev {
    until("a start", || {
        let (http_port, gossip_port) = (free_ports(n_nodes), free_ports(n_nodes));
        let [nodes, http, gossip] = [n_nodes, http_port, gossip_port].map(|n| n.to_string());
        let args = ["dev", "--nodes", &nodes, "--http-port", &http, "--gossip-port", &gossip];
        let process = Running::start(&args, &[]);
        let started = until("the table or an error", || {
            let log = process.log();
            assert!(!log.contains("error: ") || log.contains("in use"), "{log}");
            log.contains("error: ")
                .then_some(false)
                .or(process.out().contains("Ctrl-C ends it.\n").then_some(true))
        });
        started.then_some(Dev { process, http_port })
    })
}

fn curl(args: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(args).output();
    String::from_utf8(output.expect("curl is installed").stdout).expect("text")
}

#[test]
fn the_lines_it_prints_work_at_once() {
    let dev = start(3);
    let out = dev.process.out();
    let rows: Vec<&str> = out.lines().take(4).collect();
    assert!(rows[0].starts_with("NODE ") && rows[3].starts_with("node-2  http://127.0.0.1:"));
    let lines: Vec<Vec<&str>> = out
        .lines()
        .filter_map(|line| line.trim().strip_prefix("curl "))
        .map(|line| line.split(' ').collect())
        .collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert_eq!(curl(&lines[0]), "{\"foo\":\"bar\"}");
    until("the value on the last node", || (curl(&lines[1]) == "{\"foo\":\"bar\"}").then_some(()));
    let members = curl(&lines[2]);
    assert_eq!(members.matches("\"state\":\"alive\"").count(), 3, "{members}");
    for index in 0..3 {
        let server = format!("http://localhost:{}", dev.http_port + index);
        assert_eq!(run(&["health", "--server", &server]).success(), "live\n");
        until("readiness", || {
            curl(&[&format!("{server}/health")]).contains("\"ok\"").then_some(())
        });
    }
    dev.process.signal(Signal::INT);
    let (ended, took) = dev.process.end();
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{ended:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn one_node_is_a_cluster_too() {
    let dev = start(1);
    let url = format!("localhost:{}/kv/a/b", dev.http_port);
    assert_eq!(curl(&["-X", "PUT", &url]), "{\"a\":\"b\"}");
    dev.process.signal(Signal::TERM);
    assert_eq!(dev.process.end().0.code, Some(0));
}

#[test]
fn a_port_that_is_taken_is_named_with_its_flag() {
    for (at, flag) in [(1, "--http-port"), (5, "--gossip-port")] {
        until("nobody else takes one of our ports", || {
            let first = free_ports(6);
            let taken = TcpListener::bind(("127.0.0.1", first + at)).ok()?;
            let flags = [format!("--http-port={first}"), format!("--gossip-port={}", first + 3)];
            let ended = run(&["dev", &flags[0], &flags[1]]);
            let line = ended.error(1);
            let addr = taken.local_addr().expect("an address");
            let expected = format!("{flag}: cannot listen on {addr}: ");
            assert!(line.contains("in use"), "{line}");
            line.starts_with(&expected).then_some(())
        });
    }
}
