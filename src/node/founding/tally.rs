//! Of those whom discovery names: how many there are, how many have joined, and why the others
//! have not.
//!
//! Counted are nodes, not addresses. A name with one address of either family is one node, on two
//! networks of which one may not work: who is joined through one of them is joined. A name with
//! several addresses of one family may be a whole cluster, so each of these counts. With as many of
//! either family it is a cluster on two networks; with more of one than of the other, some may be
//! on one network alone, so all count.

use crate::node::command::Peer;
use crate::swim::io::Refusal;
use std::net::SocketAddr;

/// Reasons given in a sentence.
const SHOWN_MAX: usize = 3;

/// What became of the last try to join through an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Joined,
    Refused(Refusal),
    NoAnswer(String),
    /// It leads to this node.
    Ourselves,
}

/// This node and those named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) n_all: usize,
    pub(super) n_joined: usize,
    /// Why others have not joined.
    missing: Vec<String>,
}

impl Tally {
    /// Only this node, which is one of them.
    pub(super) fn new() -> Tally {
        Tally { n_all: 1, n_joined: 1, missing: Vec::new() }
    }

    /// Counts whoever a name stands for. `me` is the address of this node.
    ///
    /// # Errors
    /// An address of which nothing has become yet.
    pub(super) fn add(
        &mut self,
        me: SocketAddr,
        peer: &Peer,
        outcome: impl Fn(SocketAddr) -> Option<Outcome>,
    ) -> Result<(), SocketAddr> {
        let (mut n_joined, mut n_me, mut missing) = ([0, 0], [0, 0], Vec::new());
        n_me[family(me)] += usize::from(peer.names_me);
        for addr in &peer.addresses {
            match outcome(*addr).ok_or(*addr)? {
                Outcome::Joined => n_joined[family(*addr)] += 1,
                Outcome::Ourselves => n_me[family(*addr)] += 1,
                Outcome::NoAnswer(why) => missing.push(format!("{addr}: {why}")),
                Outcome::Refused(why) => missing.push(format!("{addr}: {why}")),
            }
        }
        let is_me = n_me != [0, 0];
        let n_given = [peer.n_ipv4, peer.n_ipv6];
        let is_paired = n_given[0] == n_given[1] || n_given.iter().all(|n| *n <= 1);
        // Where each has one of either family, so has this node.
        let own = |at: usize| n_me[at].max(usize::from(is_me && is_paired));
        let others = [0, 1].map(|at| n_given[at].saturating_sub(own(at)));
        let all = |of: [usize; 2]| if is_paired { of[0].max(of[1]) } else { of[0] + of[1] };
        let n_others = all(others).max(usize::from(!is_me));
        let n_joined = all(n_joined).min(n_others);
        self.n_all += n_others;
        self.n_joined += n_joined;
        if n_joined < n_others {
            missing.extend(peer.unreachable.clone());
            self.missing.append(&mut missing);
        }
        Ok(())
    }

    /// Counts nodes that no look has come to yet, of which so many are members already.
    pub(super) fn add_untried(&mut self, n_untried: usize, n_members: usize) {
        let n_joined = n_members.saturating_sub(self.n_joined - 1).min(n_untried);
        self.n_all += n_untried;
        self.n_joined += n_joined;
        if n_joined < n_untried {
            self.missing.push(format!("{} are left to later looks", n_untried - n_joined));
        }
    }

    /// Whether those that have joined are more than all others.
    pub(super) fn is_majority(&self) -> bool {
        self.n_joined * 2 > self.n_all
    }

    pub(super) fn told(&self) -> String {
        let Tally { n_all, n_joined, .. } = self;
        format!("{n_joined} of {n_all} nodes named, this one among them, are new members")
    }

    /// Why the others have not joined.
    pub(super) fn missing(&self) -> String {
        let shown: Vec<&str> = self.missing.iter().take(SHOWN_MAX).map(String::as_str).collect();
        let n_more = self.missing.len() - shown.len();
        let more = if n_more > 0 { format!(", and {n_more} more") } else { String::new() };
        format!("{}{more}", shown.join(", "))
    }
}

/// 0 for IPv4, 1 for IPv6.
fn family(addr: SocketAddr) -> usize {
    usize::from(!addr.ip().to_canonical().is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "10.0.0.1:1";

    /// Counts of one name: `j` for an address that has joined, `x` for one that does not answer,
    /// `o` for one that leads to this node, `m` for its own, `-` for one that cannot be dialled.
    fn count(ipv4: &str, ipv6: &str) -> (usize, usize) {
        let mut peer = Peer { n_ipv4: ipv4.len(), n_ipv6: ipv6.len(), ..Peer::default() };
        let mut outcomes = Vec::new();
        for (prefix, kinds) in [("10.0.0.", ipv4), ("[2001:db8::", ipv6)] {
            let end = if prefix.starts_with('[') { "]:1" } else { ":1" };
            for (at, kind) in kinds.chars().enumerate() {
                let addr: SocketAddr = format!("{prefix}{}{end}", at + 1).parse().unwrap();
                outcomes.push(match kind {
                    'j' => (addr, Outcome::Joined),
                    'o' => (addr, Outcome::Ourselves),
                    'x' => (addr, Outcome::NoAnswer("silent".to_owned())),
                    kind => {
                        peer.names_me |= kind == 'm';
                        continue;
                    }
                });
                peer.addresses.push(addr);
            }
        }
        let mut tally = Tally::new();
        let outcome =
            |of| outcomes.iter().find(|(addr, _)| *addr == of).map(|(_, outcome)| outcome.clone());
        tally.add(ME.parse().unwrap(), &peer, outcome).expect("all are known");
        (tally.n_joined, tally.n_all)
    }

    #[test]
    fn a_name_is_as_many_nodes_as_its_addresses_may_be() {
        for (ipv4, ipv6, expected) in [
            ("", "", (1, 2)),
            ("x", "", (1, 2)),
            ("j", "", (2, 2)),
            // One node on two networks, of which one does not work.
            ("j", "x", (2, 2)),
            ("x", "j", (2, 2)),
            ("x", "x", (1, 2)),
            ("j", "j", (2, 2)),
            ("-", "j", (2, 2)),
            ("", "-", (1, 2)),
            ("m", "", (1, 1)),
            ("m", "x", (1, 1)),
            ("m", "-", (1, 1)),
            ("m", "o", (1, 1)),
            ("oo", "o", (1, 1)),
            // A name that lists a cluster.
            ("mxx", "", (1, 3)),
            ("mjx", "---", (2, 3)),
            ("mjx", "xxx", (2, 3)),
            ("mjo", "", (2, 2)),
            ("m", "xx", (1, 3)),
            ("mj", "---", (2, 5)),
            ("mjj", "xx", (3, 5)),
            ("mjj", "jj", (5, 5)),
            ("jx", "", (2, 3)),
        ] {
            assert_eq!(count(ipv4, ipv6), expected, "{ipv4} {ipv6}");
        }
    }

    #[test]
    fn members_make_up_for_those_that_no_look_has_come_to() {
        let untried = |n_untried, n_members| {
            let mut tally = Tally { n_all: 10, n_joined: 4, missing: Vec::new() };
            tally.add_untried(n_untried, n_members);
            (tally.n_joined, tally.n_all)
        };
        assert_eq!(untried(0, 9), (4, 10));
        assert_eq!(untried(5, 3), (4, 15));
        assert_eq!(untried(5, 6), (7, 15));
        assert_eq!(untried(5, 60), (9, 15));
    }
}
