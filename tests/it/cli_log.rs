//! Nobody reads what a node writes: it works on, and ends when it is told to.

use crate::agents::{Node, PATIENCE, until};
use crate::program::command;
use gossipykv::discovery::fetch;
use gossipykv::runtime::clock::Clock;
use gossipykv::time::Instant;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

/// A pipe in which there is no room, and its end to read from.
fn full_pipe() -> (OwnedFd, File) {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let mut writer = File::from(writer);
    let flags = fcntl_getfl(&writer).expect("its flags");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("a pipe that says when it is full");
    for len in [4096, 1] {
        while writer.write(&vec![b'.'; len]).is_ok() {}
    }
    fcntl_setfl(&writer, flags).expect("a pipe as any");
    (writer.into(), File::from(reader))
}

/// An address that nobody listens on now.
fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// Killed when dropped before its end.
struct Mute {
    child: Child,
    http: SocketAddr,
}

impl Mute {
    fn start(args: &[&str], http: SocketAddr, out: Stdio, err: Stdio) -> Mute {
        let child = command(args).stdout(out).stderr(err).spawn().expect("the program starts");
        Mute { child, http }
    }

    fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let client = fetch::client(vec![self.http], PATIENCE);
        let url = format!("http://{}{path}", self.http);
        let answer = match method {
            "PUT" => client.put(url).send_empty(),
            _ => client.get(url).call(),
        };
        let answer = answer.ok()?;
        Some((answer.status().as_u16(), answer.into_body().read_to_string().ok()?))
    }

    /// How it ended, and how long after the signal.
    fn end(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let clock = Clock::start();
        kill_process(Pid::from_child(&self.child), signal).expect("a process to signal");
        let status = until("its end", || self.child.try_wait().expect("its state"));
        (status, clock.instant().since(Instant::ZERO))
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As the contract has it: the default `--leave-timeout` and 2 s.
const END_MAX: Duration = Duration::from_secs(7);

#[test]
fn a_log_that_nobody_reads_stops_neither_gossip_nor_the_end() {
    let peer = Node::start("peer", &[], &[]);
    let (log, mut reader) = full_pipe();
    let http = free_addr();
    let [join, serve] = [peer.gossip, http].map(|addr| addr.to_string());
    let args = ["agent", "--name=mute", "--bind=127.0.0.1:0", "--log-level=debug", "--join", &join];
    let args = [&args[..], &["--http", &serve]].concat();
    let mut mute = Mute::start(&args, http, Stdio::null(), log.into());
    until("it is ready", || (mute.ask("GET", "/health")?.0 == 200).then_some(()));
    assert_eq!(mute.ask("PUT", "/kv/from/mute?w=all").expect("an answer").0, 200);
    until("its write", || (peer.get("/kv/from?raw")?.1 == "mute").then_some(()));
    assert_eq!(mute.ask("GET", "/live").expect("an answer").0, 200);
    let (status, took) = mute.end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < END_MAX, "{took:?}");
    until("it left", || peer.sees("mute", "left").then_some(()));
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    assert_eq!(text.trim_matches('.'), "", "there was room after all");
}

#[test]
fn a_log_that_is_read_again_has_what_waited() {
    let (log, mut reader) = full_pipe();
    let http = free_addr();
    let args = ["agent", "--name=late", "--bind=127.0.0.1:0", "--http", &http.to_string()];
    let mut late = Mute::start(&args, http, Stdio::null(), log.into());
    until("it is ready", || (late.ask("GET", "/health")?.0 == 200).then_some(()));
    let reading = std::thread::scope(|threads| {
        let reading = threads.spawn(|| {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        let (status, _) = late.end(Signal::INT);
        assert_eq!(status.code(), Some(0), "{status}");
        reading.join().expect("no panic").expect("text")
    });
    let lines = reading.trim_start_matches('.').lines();
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
    let messages = lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned());
    let messages: Vec<String> = messages.collect();
    for message in ["gossip begins", "serving", "this node is ready", "leaving the cluster"] {
        assert!(messages.iter().any(|seen| seen == message), "no {message:?} in {messages:#?}");
    }
}

#[test]
fn a_failure_at_the_start_does_not_hang_either() {
    let (log, _reader) = full_pipe();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let http = taken.local_addr().expect("an address");
    let args = ["agent", "--bind=127.0.0.1:0", "--http", &http.to_string()];
    let mut failed = Mute::start(&args, http, Stdio::null(), log.into());
    let status = until("its end", || failed.child.try_wait().expect("its state"));
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_greeting_that_nobody_reads_does_not_stop_the_end() {
    let (out, _reader) = full_pipe();
    let (http, gossip) = (free_addr(), free_addr());
    let [http_port, gossip_port] = [http, gossip].map(|addr| addr.port().to_string());
    let args = [
        "dev",
        "--nodes=1",
        "--http-port",
        &http_port,
        "--gossip-port",
        &gossip_port,
        "--log-level=off",
    ];
    let mut dev = Mute::start(&args, http, out.into(), Stdio::null());
    until("it serves", || (dev.ask("GET", "/health")?.0 == 200).then_some(()));
    let (status, took) = dev.end(Signal::INT);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < END_MAX, "{took:?}");
}
