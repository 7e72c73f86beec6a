//! Network namespaces: a hub with a bridge, and a namespace with one address for each member.
//!
//! ```text
//! hub:  br0 --+--- veth --- n1: eth0 10.77.0.1/24        what is told to the network ([`Weather`])
//!             +--- veth --- n2: eth0 10.77.0.2/24        happens at each eth0; lo is left alone
//! ```
//!
//! A guard process removes all of it when this one ends, whichever way.

use super::weather::{Means, Weather};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "gkv-";

/// Takes commands, one a line, until nobody is left who could give more; then runs them. It has a
/// session of its own, and no signal that is meant for the tests ends it.
const GUARD: &str =
    "trap '' INT TERM HUP; while read -r line; do all=\"$all$line; \"; done; eval \"$all\"";

/// A network of its own, gone when dropped.
pub struct Net {
    id: String,
    hosts: Vec<u8>,
    means: Means,
    guard: Child,
}

impl Net {
    /// A network without hosts. Also removes what runs that were killed have left behind.
    pub fn create() -> Net {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_orphans();
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut guard = Command::new("setsid");
        guard.args(["sh", "-c", GUARD]).stdin(Stdio::piped()).stderr(Stdio::null());
        let guard = guard.spawn().expect("setsid and sh are everywhere");
        let id = format!("{PREFIX}{}-{n}", std::process::id());
        let mut net = Net { id, hosts: Vec::new(), means: Means::Filter, guard };
        net.add_namespace(&net.hub());
        run("ip", &["-n", &net.hub(), "link", "add", "br0", "type", "bridge"]);
        run("ip", &["-n", &net.hub(), "link", "set", "br0", "up"]);
        net.means = Means::of(&net.hub(), "br0");
        net
    }

    /// Adds a host; returns its namespace and address.
    pub fn add_host(&mut self, host: u8) -> (String, Ipv4Addr) {
        let (hub, inside) = (self.hub(), self.namespace(host));
        self.hosts.push(host);
        self.add_namespace(&inside);
        let (port, ip) = (port(host), address(host));
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
        self.means.prepare(&inside);
        (inside, ip)
    }

    /// Gives a host another network, which leads nowhere and has its default route; returns its
    /// address there.
    pub fn add_way_out(&self, host: u8) -> Ipv4Addr {
        let inside = self.namespace(host);
        let ip = Ipv4Addr::new(10, 88, 0, host);
        let in_it = |arguments: &[&str]| run("ip", &[&["-n", &inside], arguments].concat());
        in_it(&["link", "add", "out0", "type", "veth", "peer", "name", "out1"]);
        in_it(&["addr", "add", &format!("{ip}/24"), "dev", "out0"]);
        in_it(&["link", "set", "out0", "up"]);
        in_it(&["link", "set", "out1", "up"]);
        in_it(&["route", "add", "default", "via", "10.88.0.254", "dev", "out0"]);
        ip
    }

    /// Takes a host's IPv4 address and gives it an IPv6 address instead; returns that.
    pub fn leave_ipv6_alone(&self, host: u8) -> Ipv6Addr {
        let inside = self.namespace(host);
        let ip = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(host));
        run("ip", &["-n", &inside, "addr", "flush", "dev", "eth0"]);
        let addr = format!("{ip}/64");
        run("ip", &["-n", &inside, "addr", "add", &addr, "dev", "eth0", "nodad"]);
        ip
    }

    /// From here on the network is like this; returns by what means.
    pub fn set(&self, weather: &Weather) -> &'static str {
        for &host in &self.hosts {
            let inside = self.namespace(host);
            weather.apply(self.means, host, &self.hosts, &self.hub(), &inside);
        }
        self.means.name()
    }

    /// Packets lost and cut off since the network was last [`set`](Net::set).
    pub fn n_lost(&self) -> u64 {
        let hub = self.hub();
        self.hosts.iter().map(|&host| self.means.n_lost(host, &hub, &self.namespace(host))).sum()
    }

    /// Makes a namespace of which the guard knows before it is there.
    fn add_namespace(&mut self, name: &str) {
        self.at_the_end(&format!("ip netns del {name}"));
        run("ip", &["netns", "add", name]);
    }

    /// A file that whoever ran in this network may leave behind; removed with it.
    pub fn remove_too(&mut self, file: &Path) {
        self.at_the_end(&format!("rm -f '{}'", file.display()));
    }

    fn at_the_end(&mut self, command: &str) {
        let stdin = self.guard.stdin.as_mut().expect("piped");
        writeln!(stdin, "{command}").expect("the guard lives as long as we do");
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
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The address of a host.
pub fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

/// The hub's end of the line to a host.
pub fn port(host: u8) -> String {
    format!("v{host}")
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

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &[&str]) {
    if let Err(error) = try_run(program, arguments) {
        panic!("{program} {}: {error}", arguments.join(" "));
    }
}

/// Runs a program; its output, or its complaint.
pub fn try_run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
