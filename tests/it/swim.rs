//! The membership rules as stories: text scripts with exact traces.
//!
//! A line that begins with `> ` is a command, one with `#` a comment; the lines after a command are
//! what must come of it. With `GOSSIPYKV_REWRITE=1` in the environment the traces are written anew,
//! for the difference to be reviewed.
//!
//! ```text
//! > node NAME [addr=IP:PORT] [inc=N] [seed=N] [meta=TEXT] [vsn=..] [profile=lan] [FIELD=VALUE]..
//! > hear NODE from WHOM MESSAGE              > exchange NODE from WHOM [join] ENTRY | ENTRY ..
//! > advance 500ms    > deliver               > await 8s NODE EVENT
//! > join NODE WHOM.. > leave NODE            > meta NODE TEXT      > budget NODE BYTES
//! > kill NODE        > freeze/thaw NODE      > cut/heal NODE NODE  > trace all|events
//! > drop-packets NODE NODE (streams pass)
//! > show NODE        > stats NODE FIELD..    > opinions
//! ```
//!
//! Nodes are at 10.0.0.1, 10.0.0.2 .. port 7946 in the order of their making, with every activity
//! off but answering (`quiet`), unless a profile is named. Nobody needs to be at an address that is
//! spoken to; NODE and WHOM are a name of one letter, or an address.

use crate::swim_cluster::{Cluster, Trace};
use crate::swim_words::{self as words, Words};
use bytes::Bytes;
use gossipykv::swim::{Config, Identity, VSN};
use gossipykv::wire::message::{AddrBytes, Vsn};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const NAMES: &str = "abcdefghijklmnopqrstuvwxyz";

#[test]
fn scripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/swim_scripts");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("the scripts")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "the scripts are there");
    let mut differing = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).expect("a script");
        println!("{}", path.display());
        let played = play(&script);
        assert_eq!(played, play(&script), "the same script, the same trace");
        if script == played {
            continue;
        }
        if rewrite() {
            std::fs::write(&path, &played).expect("the script can be written");
            continue;
        }
        let at = script.lines().zip(played.lines()).position(|(old, new)| old != new);
        let at = at.unwrap_or(script.lines().count().min(played.lines().count()));
        differing.push(format!(
            "{}:{}\n  expected {:?}\n  found    {:?}",
            path.display(),
            at + 1,
            script.lines().nth(at).unwrap_or("(the end)"),
            played.lines().nth(at).unwrap_or("(the end)"),
        ));
    }
    assert!(differing.is_empty(), "traces differ:\n{}", differing.join("\n"));
}

#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn rewrite() -> bool {
    std::env::var("GOSSIPYKV_REWRITE").is_ok()
}

/// The script with the traces that its commands really have.
fn play(script: &str) -> String {
    let mut stage = Stage { cluster: Cluster::new(), n_nodes: 0 };
    let mut played = String::new();
    let mut in_trace = false;
    for line in script.lines() {
        match line.strip_prefix("> ") {
            Some(command) => {
                println!("{line}");
                played += &format!("{line}\n");
                stage.command(command);
                for line in std::mem::take(&mut stage.cluster.lines) {
                    played += &format!("{line}\n");
                }
                in_trace = true;
            }
            None if line.is_empty() || line.starts_with('#') => {
                played += &format!("{line}\n");
                in_trace = false;
            }
            None => assert!(in_trace, "{line:?} is no command and follows none"),
        }
    }
    played
}

struct Stage {
    cluster: Cluster,
    n_nodes: u8,
}

impl Stage {
    fn command(&mut self, command: &str) {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let mut words = Words::new(rest);
        let now = self.cluster.now;
        match verb {
            "node" => return self.node(&mut words),
            "exchange" => return self.exchange(rest),
            "advance" => {
                let until = now + duration(words.next());
                self.cluster.run(until, |_| false);
                return;
            }
            "deliver" => return self.cluster.deliver(),
            "await" => return self.await_event(words),
            "trace" => {
                let all = words.next() == "all";
                self.cluster.trace = if all { Trace::All } else { Trace::Events };
                return;
            }
            "opinions" => return self.opinions(),
            _ => {}
        }
        let name = words.next();
        let addr = self.place(name);
        match verb {
            "hear" => {
                assert_eq!(words.next(), "from");
                let from = self.place(words.next());
                let message = words::message(&mut words);
                self.cluster.tell(addr, |swim| swim.message(now, from, message));
            }
            "join" => {
                let mut peers = Vec::new();
                while words.peek().is_some() {
                    peers.push(self.place(words.next()));
                }
                self.cluster.tell(addr, |swim| swim.join(now, &peers));
            }
            "leave" => self.cluster.tell(addr, |swim| swim.leave(now)),
            "meta" => {
                let meta = Bytes::from(words.rest());
                self.cluster.tell(addr, |swim| swim.update_meta(now, meta));
            }
            "budget" => {
                let budget_len = words.number();
                self.cluster.tell(addr, |swim| swim.set_budget(budget_len));
            }
            "kill" => self.cluster.kill(addr),
            "freeze" => self.cluster.freeze(addr),
            "thaw" => self.cluster.thaw(addr),
            "cut" | "heal" => {
                let other = self.place(words.next());
                self.cluster.connect(addr, other, verb == "heal");
            }
            "drop-packets" => {
                let other = self.place(words.next());
                self.cluster.drop_packets(addr, other);
            }
            "show" => {
                let table = self.cluster.table(addr);
                self.cluster.lines.extend(table);
            }
            "stats" => self.stats(addr, words),
            _ => panic!("{verb:?} is no command"),
        }
    }

    fn node(&mut self, words: &mut Words<'_>) {
        self.n_nodes += 1;
        let name = words::name(words.next());
        let mut config = quiet();
        let mut me = Identity {
            name,
            addr: AddrBytes::from_ip([10, 0, 0, self.n_nodes].into()),
            port: 7946,
            meta: Bytes::new(),
            vsn: VSN,
        };
        let (mut incarnation, mut rng_seed) = (1, u64::from(self.n_nodes));
        for (key, value) in words.options() {
            match key {
                "profile" => config = profile(value),
                "addr" => {
                    let (addr, port) = words::address(value);
                    (me.addr, me.port) = (addr.expect("an address"), port);
                }
                "inc" => incarnation = value.parse().expect("an incarnation"),
                "seed" => rng_seed = value.parse().expect("a number"),
                "meta" => me.meta = Bytes::copy_from_slice(value.as_bytes()),
                "vsn" => {
                    let vsn: Vec<u8> = value.split('.').map(|v| v.parse().expect("u8")).collect();
                    me.vsn = Vsn::from_bytes(&vsn).expect("six versions");
                }
                _ => set(&mut config, key, value),
            }
        }
        self.cluster.add(config, me, incarnation, rng_seed);
    }

    fn exchange(&mut self, rest: &str) {
        let (head, entries) = rest.split_once(": ").unwrap_or((rest.trim_end_matches(':'), ""));
        let mut head = Words::new(head);
        let addr = self.cluster.addr(head.next());
        assert_eq!(head.next(), "from");
        let from = self.place(head.next());
        let join = head.peek() == Some("join");
        let entries = entries.split(" | ").filter(|entry| !entry.trim().is_empty());
        let states = entries.map(|entry| words::push_state(&mut Words::new(entry))).collect();
        let now = self.cluster.now;
        let answer =
            self.cluster.tell(addr, |swim| swim.push_pull_request(now, from, states, join));
        let mut lines: Vec<String> =
            answer.iter().map(|state| format!("  {}", words::show_push_state(state))).collect();
        lines.append(&mut self.cluster.lines);
        self.cluster.lines = lines;
    }

    fn await_event(&mut self, mut words: Words<'_>) {
        let until = self.cluster.now + duration(words.next());
        let event = words.rest();
        self.cluster.events.clear();
        let came = self.cluster.run(until, |cluster| cluster.events.contains(&event));
        if !came {
            self.cluster.lines.push(format!("  no {event:?}"));
        }
    }

    /// What every node thinks of every other.
    fn opinions(&mut self) {
        let names: Vec<&str> = NAMES.split("").filter(|name| !name.is_empty()).collect();
        let here: Vec<&str> = names.iter().copied().filter(|n| self.cluster.has(n)).collect();
        for of in &here {
            let addr = self.cluster.addr(of);
            let opinions = names.iter().filter(|name| *name != of).filter_map(|name| {
                let opinion = self.cluster.opinion(addr, &words::name(name))?;
                Some(format!("{name} {opinion}"))
            });
            let line = format!("  {of}: {}", opinions.collect::<Vec<_>>().join(", "));
            self.cluster.lines.push(line);
        }
    }

    fn stats(&mut self, addr: SocketAddr, mut words: Words<'_>) {
        let swim = self.cluster.node(addr);
        let all = format!("{:?} health: {},", swim.stats(), swim.health_score());
        let mut line = String::from(" ");
        while words.peek().is_some() {
            let key = words.next();
            let at = all.find(&format!(" {key}: ")).unwrap_or_else(|| panic!("no field {key}"));
            let value = all[at..].split([':', ',', '}']).nth(1).expect("a value");
            line += &format!(" {key}{value}");
        }
        self.cluster.lines.push(line);
    }

    /// A node's address by its name, or an address as it is.
    fn place(&self, word: &str) -> SocketAddr {
        if word.len() == 1 { self.cluster.addr(word) } else { word.parse().expect("an address") }
    }
}

/// Nothing happens by itself: the first probe is due after hours.
fn quiet() -> Config {
    Config {
        probe_interval: Duration::from_secs(1_000_000),
        gossip_interval: Duration::ZERO,
        push_pull_interval: Duration::ZERO,
        redial_interval: Duration::ZERO,
        ..Config::lan()
    }
}

fn profile(word: &str) -> Config {
    match word {
        "lan" => Config::lan(),
        "wan" => Config::wan(),
        "local" => Config::local(),
        "quiet" => quiet(),
        _ => panic!("no profile {word:?}"),
    }
}

fn set(config: &mut Config, key: &str, value: &str) {
    let number = || value.parse().expect("a number");
    match key {
        "probe" => config.probe_interval = duration(value),
        "probe_timeout" => config.probe_timeout = duration(value),
        "indirect" => config.indirect_checks = value.parse().expect("a number"),
        "stream_pings" => config.stream_pings = value == "on",
        "gossip" => config.gossip_interval = duration(value),
        "fanout" => config.gossip_fanout = value.parse().expect("a number"),
        "to_the_dead" => config.gossip_to_the_dead = duration(value),
        "retransmit" => config.retransmit_mult = number(),
        "suspicion" => config.suspicion_mult = number(),
        "suspicion_max" => config.suspicion_max_mult = number(),
        "push_pull" => config.push_pull_interval = duration(value),
        "reclaim" => config.dead_node_reclaim = duration(value),
        "redial" => config.redial_interval = duration(value),
        "dead_memory" => config.dead_memory = duration(value),
        _ => panic!("no field {key:?}"),
    }
}

fn duration(word: &str) -> Duration {
    let digits = word.find(|c: char| !c.is_ascii_digit()).expect("a unit");
    let (number, unit) = word.split_at(digits);
    let number: u64 = number.parse().expect("a number");
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "h" => Duration::from_secs(number * 3600),
        _ => panic!("no unit {unit:?}"),
    }
}
