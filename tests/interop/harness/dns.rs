//! A real DNS server whose records change while it is asked.

use super::clock::eventually;
use super::process::Process;
use super::range::Range;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const START_TIMEOUT: Duration = Duration::from_secs(10);
const QUERY_TIMEOUT: Duration = Duration::from_millis(200);

/// The zone it is the authority of.
const ZONE: &str = "gossip.test";
/// The name asked for, in the form DNS carries it.
const SERVICE_WIRE: &[u8] = b"\x05_peer\x04_tcp\x06gossip\x04test\0";

/// dnsmasq, answering for one zone.
pub struct Dns {
    address: SocketAddr,
    process: Option<Process>,
}

impl Dns {
    /// The SRV name of the peers.
    pub const SERVICE: &str = "_peer._tcp.gossip.test";

    /// Starts it with an SRV record for each of these; with none the name does not exist.
    pub fn start(range: &Range, peers: &[SocketAddr]) -> Dns {
        let mut dns = Dns { address: range.dns(), process: None };
        dns.serve(peers);
        dns
    }

    /// Where to ask.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the records; for a moment nobody answers.
    pub fn serve(&mut self, peers: &[SocketAddr]) {
        self.serve_with(peers, |_| None);
    }

    /// Changes the records, those of each peer's address to that and another one.
    pub fn serve_with(
        &mut self,
        peers: &[SocketAddr],
        other: impl Fn(SocketAddr) -> Option<Ipv6Addr>,
    ) {
        self.process = None;
        let mut command = Process::command("dnsmasq", None);
        // An empty configuration file and no root: nothing of the machine's own server is used.
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="]);
        command.args(["--user=", "--group=", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
        command.arg(format!("--listen-address={}", self.address.ip()));
        command.arg(format!("--port={}", self.address.port()));
        command.arg(format!("--local=/{ZONE}/")).args(["--log-queries", "--log-facility=-"]);
        for (at, peer) in peers.iter().enumerate() {
            let (host, port) = (format!("n{at}.{ZONE}"), peer.port());
            let other = other(*peer).map(|ip| format!(",{ip}")).unwrap_or_default();
            command.arg(format!("--host-record={host},{}{other}", peer.ip()));
            command.arg(format!("--srv-host={},{host},{port}", Dns::SERVICE));
        }
        self.process = Some(Process::spawn("dnsmasq", command));
        let expected = u16::try_from(peers.len()).expect("a few");
        eventually("dnsmasq answers", START_TIMEOUT, || match answers(self.address) {
            Ok(n) if n == expected => Ok(()),
            Ok(n) => Err(format!("{n} records of {expected}")),
            Err(error) => Err(error.to_string()),
        });
    }
}

/// How many SRV records the server has for the peers.
fn answers(server: SocketAddr) -> std::io::Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(QUERY_TIMEOUT))?;
    // id 1, recursion desired, one question: type SRV, class IN
    let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let query = [&header[..], SERVICE_WIRE, &[0, 33, 0, 1]].concat();
    socket.send_to(&query, server)?;
    let mut reply = [0; 4096];
    let (len, _) = socket.recv_from(&mut reply)?;
    Ok(if len < header.len() { 0 } else { u16::from_be_bytes([reply[6], reply[7]]) })
}
