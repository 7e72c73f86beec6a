//! A network namespace for all of it: loopback alone, with packets counted, lost and cut by nft.

use super::agent::GOSSIP_PORT;
use std::process::{Command, ExitCode};

const INSIDE: &str = "--inside";
const TABLE: &str = "table inet cluster";
const IP: &str = "meta l4proto { tcp, udp }";

/// Runs this program again inside a namespace of its own; nothing when this already is inside.
///
/// Where that cannot be had, the smoke run leaves everything out, except in CI, which misses
/// nothing.
pub fn enter(arguments: &[String], is_smoke: bool) -> Option<ExitCode> {
    if arguments.iter().any(|argument| argument == INSIDE) {
        return None;
    }
    if let Some(missing) = missing() {
        eprintln!("cluster: left out, for it needs root, unshare, ip and nft: {missing}");
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        return Some(if is_smoke && !is_ci { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let own = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    let status = command.arg(own).args(arguments).arg(INSIDE).status().expect("unshare runs");
    Some(ExitCode::from(status.code().unwrap_or(1) as u8))
}

/// What keeps a namespace with packet rules from being made here.
fn missing() -> Option<String> {
    let tried = ["--net", "sh", "-c", "ip link set lo up && nft list ruleset"];
    match Command::new("unshare").args(tried).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Counts every gossip packet that arrives, and its bytes; loses and cuts none.
pub fn count_only() {
    rules("");
}

/// Loses this share of the gossip packets, of datagrams and streams alike.
pub fn lose(percent: u8) {
    rules(&format!("meta l4proto {{ tcp, udp }} numgen random mod 100 < {percent} drop"));
}

/// Cuts a node off from all others.
pub fn cut_off(host: u8) {
    let address = super::agent::address(host);
    rules(&format!(
        "ip saddr {address} ip daddr != {address} drop\n    \
         ip daddr {address} ip saddr != {address} drop"
    ));
}

/// Gossip packets that arrived and their bytes, since the rules last changed.
pub fn counted() -> (u64, u64) {
    let mut nft = Command::new("nft");
    let output = nft.args(["list", "counter", "inet", "cluster", "arrived"]).output();
    let output = output.expect("nft runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (number_after(&text, "packets "), number_after(&text, "bytes "))
}

/// Puts a new set of rules in place of the last: `drops` for gossip packets, then the counter.
fn rules(drops: &str) {
    let gossip = format!("th dport {GOSSIP_PORT}");
    let answers = format!("th sport {GOSSIP_PORT}");
    let text = format!(
        "add {TABLE}\ndelete {TABLE}\n{TABLE} {{\n  counter arrived {{ }}\n  chain gossip {{\n    \
         {drops}\n    counter name arrived\n  }}\n  chain input {{\n    \
         type filter hook input priority 0\n    {IP} {gossip} jump gossip\n    \
         {IP} {gossip} accept\n    \
         {IP} {answers} jump gossip\n  }}\n}}\n"
    );
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("nft runs");
    let mut stdin = nft.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, text.as_bytes()).expect("nft reads");
    drop(stdin);
    assert!(nft.wait().expect("nft ends").success(), "nft refused:\n{text}");
}

fn number_after(text: &str, word: &str) -> u64 {
    let rest = text.split_once(word).map_or("", |(_, rest)| rest);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(0)
}
