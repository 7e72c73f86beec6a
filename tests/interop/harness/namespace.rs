//! Network namespaces: a hub with a bridge, and a namespace with one address for each member.
//!
//! ```text
//! hub:  br0 --+--- veth --- n1: eth0 10.77.0.1/24        packets that arrive at an eth0 are lost
//!             +--- veth --- n2: eth0 10.77.0.2/24        at random, as told; lo loses none
//! ```

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "gkv-";

/// A network of its own, gone when dropped.
pub struct Net {
    id: String,
    hosts: Vec<u8>,
}

impl Net {
    /// A network without hosts. Also removes what runs that were killed have left behind.
    pub fn create() -> Net {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_orphans();
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let net = Net { id: format!("{PREFIX}{}-{n}", std::process::id()), hosts: Vec::new() };
        run("ip", &["netns", "add", &net.hub()]);
        run("ip", &["-n", &net.hub(), "link", "add", "br0", "type", "bridge"]);
        run("ip", &["-n", &net.hub(), "link", "set", "br0", "up"]);
        net
    }

    /// Adds a host; returns its namespace and address.
    pub fn add_host(&mut self, host: u8) -> (String, Ipv4Addr) {
        let (hub, inside) = (self.hub(), self.namespace(host));
        self.hosts.push(host);
        run("ip", &["netns", "add", &inside]);
        let (port, ip) = (format!("v{host}"), Ipv4Addr::new(10, 77, 0, host));
        run(
            "ip",
            &[
                "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &inside,
            ],
        );
        run("ip", &["-n", &hub, "link", "set", &port, "master", "br0", "up"]);
        run("ip", &["-n", &inside, "addr", "add", &format!("{ip}/24"), "dev", "eth0"]);
        run("ip", &["-n", &inside, "link", "set", "eth0", "up"]);
        run("ip", &["-n", &inside, "link", "set", "lo", "up"]);
        (inside, ip)
    }

    /// Loses this share of the packets that reach each host; returns by what means.
    pub fn lose(&self, percent: u8) -> &'static str {
        let hub = self.hub();
        for host in &self.hosts {
            let (port, share) = (format!("v{host}"), format!("{percent}%"));
            let netem = ["netns", "exec", &hub, "tc", "qdisc", "add", "dev", &port, "root"];
            let netem = [&netem[..], &["netem", "loss", &share]].concat();
            if try_run("ip", &netem).is_err() {
                // Not every kernel has netem; the packet filter can draw lots as well.
                return self.lose_by_filter(percent);
            }
        }
        "netem"
    }

    /// Packets lost so far, by either means.
    pub fn n_lost(&self) -> u64 {
        let mut lost = 0;
        for host in &self.hosts {
            let (hub, port) = (self.hub(), format!("v{host}"));
            let netem = ["netns", "exec", &hub, "tc", "-s", "qdisc", "show", "dev", &port];
            let qdisc = try_run("ip", &netem).unwrap_or_default();
            lost += number_after(&qdisc, "dropped ");
            let filter = ["netns", "exec", &self.namespace(*host), "nft", "list", "ruleset"];
            let rules = try_run("ip", &filter).unwrap_or_default();
            lost += number_after(&rules, "counter packets ");
        }
        lost
    }

    fn lose_by_filter(&self, percent: u8) -> &'static str {
        let rules = format!(
            "add table inet loss; \
             add chain inet loss input {{ type filter hook input priority 0; }}; \
             add rule inet loss input iifname eth0 numgen random mod 100 < {percent} counter drop"
        );
        for host in &self.hosts {
            run("ip", &["netns", "exec", &self.namespace(*host), "nft", &rules]);
        }
        "nft numgen"
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.id)
    }

    fn namespace(&self, host: u8) -> String {
        format!("{}-{host}", self.id)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = try_run("ip", &["netns", "del", &self.namespace(*host)]);
        }
        let _ = try_run("ip", &["netns", "del", &self.hub()]);
    }
}

/// Runs `what` with its sockets in a network namespace.
pub fn in_namespace<T: Send>(namespace: Option<&str>, what: impl FnOnce() -> T + Send) -> T {
    let Some(namespace) = namespace else { return what() };
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    let inside = || {
        let moved = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
        moved.expect("root may enter");
        what()
    };
    // A namespace is entered by a thread; this one ends with the question.
    std::thread::scope(|scope| scope.spawn(inside).join()).expect("the question was asked")
}

fn remove_orphans() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = try_run("ip", &["netns", "del", &name]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) {
    if let Err(error) = try_run(program, arguments) {
        panic!("{program} {}: {error}", arguments.join(" "));
    }
}

fn number_after(text: &str, word: &str) -> u64 {
    let rest = text.split_once(word).map_or("", |(_, rest)| rest);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(0)
}

fn try_run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
