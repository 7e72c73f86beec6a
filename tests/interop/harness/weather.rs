//! What a network does to packets: cut, lose, delay, repeat.
//!
//! Netem does all but the cutting where the kernel has it, on the hub's port to each host. Where it
//! has not, the packet filter draws lots, a slow lane in each host's own queue makes packets late,
//! and the hub's filter repeats them:
//!
//! ```text
//! n1: out --lots--> [ fast | slow lane ] --> hub --lots, twice--> n2: cut? lost? --> in
//! ```

use super::namespace::{address, port, run, try_run};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What a network does; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weather {
    /// Pairs of hosts, the sender first: nothing gets from the one to the other.
    pub cut: BTreeSet<(u8, u8)>,
    /// Likewise for datagrams alone, and for connections alone.
    pub udp_cut: BTreeSet<(u8, u8)>,
    pub tcp_cut: BTreeSet<(u8, u8)>,
    /// How many of a hundred packets are lost on the way to each host.
    pub loss_percent: u8,
    /// How many of a hundred are late, and are overtaken by those sent after them.
    pub late_percent: u8,
    /// How many of a hundred arrive twice.
    pub twice_percent: u8,
}

/// By what a network does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    Netem,
    Filter,
}

/// How late a late packet is; with the slow lane it depends on how many are.
const LATE: &str = "40ms";
/// A packet of 250 bytes keeps the lane busy for 60 ms. What finds more than so many bytes before
/// it is lost: nothing comes later than 0.6 s, and a heal is one soon after it was said.
const SLOW_LANE: &str = "32kbit";
const SLOW_LANE_BYTES: u16 = 2_500;

impl Means {
    /// What the kernel of this machine has, tried on a device.
    pub fn of(namespace: &str, device: &str) -> Means {
        let netem = ["qdisc", "add", "dev", device, "root", "netem", "delay", "1ms"];
        if inside(namespace, "tc", &netem).is_err() {
            return Means::Filter;
        }
        let undone = inside(namespace, "tc", &["qdisc", "del", "dev", device, "root"]);
        undone.expect("what was added can be removed");
        Means::Netem
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Means::Netem => "netem",
            Means::Filter => "the packet filter",
        }
    }

    /// Gives a new host what weather needs there.
    pub fn prepare(self, namespace: &str) {
        if self == Means::Netem {
            return;
        }
        let class = "class add dev eth0 parent 1: classid";
        for line in [
            "qdisc add dev eth0 root handle 1: htb default 1".to_owned(),
            format!("{class} 1:1 htb rate 1gbit quantum 1500"),
            format!("{class} 1:2 htb rate {SLOW_LANE} quantum 1500 burst 100 cburst 100"),
            format!("qdisc add dev eth0 parent 1:2 bfifo limit {SLOW_LANE_BYTES}"),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            inside(namespace, "tc", &words).expect("the kernel has htb, as most have");
        }
    }

    /// Packets that did not reach a host, since its weather was last set.
    pub fn n_lost(self, host: u8, hub: &str, namespace: &str) -> u64 {
        let rules = inside(namespace, "nft", &["list", "ruleset"]).unwrap_or_default();
        let filtered = sum_after(&rules, "counter packets ");
        if self == Means::Filter {
            return filtered;
        }
        let queue = inside(hub, "tc", &["-s", "qdisc", "show", "dev", &port(host)]);
        filtered + sum_after(&queue.unwrap_or_default(), "dropped ")
    }
}

impl Weather {
    /// Makes it so at one host of these.
    pub fn apply(&self, means: Means, host: u8, hosts: &[u8], hub: &str, namespace: &str) {
        let mut rules = self.cuts(host);
        if means == Means::Netem {
            self.netem(host, hub);
        } else {
            rules += &self.lots();
            self.repeat(host, hosts, hub);
        }
        replace_table(namespace, "inet", "weather", &rules);
    }

    fn cuts(&self, host: u8) -> String {
        let mut rules = "chain cut { type filter hook input priority 0;\n".to_owned();
        let cuts = [
            ("", &self.cut),
            ("meta l4proto udp", &self.udp_cut),
            ("meta l4proto tcp", &self.tcp_cut),
        ];
        for (what, cut) in cuts {
            for (from, _) in cut.iter().filter(|(_, to)| *to == host) {
                let from = address(*from);
                let _ = writeln!(rules, "iifname eth0 ip saddr {from} {what} counter drop");
            }
        }
        rules + "}\n"
    }

    fn lots(&self) -> String {
        let (mut lost, mut late) = (String::new(), String::new());
        if self.loss_percent > 0 {
            let percent = self.loss_percent;
            lost = format!("iifname eth0 numgen random mod 100 < {percent} counter drop");
        }
        if self.late_percent > 0 {
            let percent = self.late_percent;
            late = format!("oifname eth0 numgen random mod 100 < {percent} meta priority set 1:2");
        }
        format!(
            "chain lose {{ type filter hook input priority 1;\n{lost}\n}}
             chain delay {{ type filter hook output priority 1;\n{late}\n}}\n"
        )
    }

    /// What comes from a host goes to each other one once more, as lots are drawn.
    fn repeat(&self, host: u8, hosts: &[u8], hub: &str) {
        let from = port(host);
        let hook = format!("type filter hook ingress device {from} priority 0;");
        let mut rules = format!("chain repeat {{ {hook}\n");
        for other in hosts.iter().filter(|other| self.twice_percent > 0 && **other != host) {
            let (percent, to, ip) = (self.twice_percent, port(*other), address(*other));
            let lots = format!("numgen random mod 100 < {percent}");
            let _ = writeln!(rules, "ip daddr {ip} {lots} dup to {to}");
        }
        replace_table(hub, "netdev", &format!("weather{host}"), &(rules + "}\n"));
    }

    fn netem(&self, host: u8, hub: &str) {
        let port = port(host);
        // There may be nothing to delete.
        let _ = inside(hub, "tc", &["qdisc", "del", "dev", &port, "root"]);
        let mut line = format!("qdisc add dev {port} root netem");
        let calm = line.len();
        if self.late_percent > 0 {
            let _ = write!(line, " delay {LATE} reorder {}%", 100 - self.late_percent);
        }
        if self.loss_percent > 0 {
            let _ = write!(line, " loss {}%", self.loss_percent);
        }
        if self.twice_percent > 0 {
            let _ = write!(line, " duplicate {}%", self.twice_percent);
        }
        if line.len() > calm {
            let words: Vec<&str> = line.split(' ').collect();
            inside(hub, "tc", &words).expect("netem was there before");
        }
    }
}

/// Replaces a table of the packet filter in one step.
fn replace_table(namespace: &str, family: &str, table: &str, content: &str) {
    let name = format!("{family} {table}");
    let script = format!("add table {name}\ndelete table {name}\ntable {name} {{\n{content}\n}}\n");
    run("ip", &["netns", "exec", namespace, "nft", &script]);
}

fn inside(namespace: &str, program: &str, arguments: &[&str]) -> Result<String, String> {
    try_run("ip", &[&["netns", "exec", namespace, program], arguments].concat())
}

/// The sum of the numbers that follow a word.
fn sum_after(text: &str, word: &str) -> u64 {
    let number = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse::<u64>().unwrap_or(0)
    };
    text.split(word).skip(1).map(number).sum()
}
