//! One member as we see it, and what an alive message says about one.

use super::stats::Refusals;
use crate::limits::{META_LEN_MAX, NODE_NAME_LEN_MAX};
use crate::time::Instant;
use crate::wire::message::{AddrBytes, Alive, NodeName, PushNodeState, Vsn};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

/// What we think of a member. The numbers are those of a push-pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// Answering, as far as we know.
    Alive = 0,
    /// Accused; dead when it does not refute in time.
    Suspect = 1,
    /// Given up.
    Dead = 2,
    /// Gone of its own will.
    Left = 3,
}

/// One node as we see it, ourselves included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its unique name.
    pub name: NodeName,
    /// Its address as it announced it, 4 or 16 bytes, passed on verbatim.
    pub addr: AddrBytes,
    /// Its port, never 0.
    pub port: u16,
    /// `addr` and `port` as what to dial.
    pub socket_addr: SocketAddr,
    /// What it tells about itself, at most [`META_LEN_MAX`] bytes.
    pub meta: Bytes,
    /// The versions it announced; of one that announced none, our own.
    pub vsn: Vsn,
    /// The highest incarnation we heard of, at least 1. Only the member itself raises it.
    pub incarnation: u32,
    /// What we think of it.
    pub state: MemberState,
    /// Since when.
    pub state_change: Instant,
    /// Whether it answered its last probe only over a stream.
    pub udp_blocked: bool,
    /// Whether `vsn` is what it announced.
    pub(super) vsn_announced: bool,
    /// Dead so long that the protocol has forgotten it; only the graveyard remembers.
    pub(super) buried: bool,
}

impl Member {
    /// Whether it is neither dead nor gone.
    #[must_use]
    pub fn is_present(&self) -> bool {
        matches!(self.state, MemberState::Alive | MemberState::Suspect)
    }

    /// Whether it is dead or gone, and has been for less than half a minute.
    #[must_use]
    pub fn is_lately_absent(&self) -> bool {
        !self.is_present() && !self.buried
    }

    /// Whether it promised to parse a checksum.
    #[must_use]
    pub fn checks_crc(&self) -> bool {
        self.vsn_announced && self.vsn.pmax >= 5
    }

    /// Whether it promised to send nacks.
    #[must_use]
    pub fn sends_nacks(&self) -> bool {
        self.vsn_announced && self.vsn.pmax >= 4
    }

    /// Whether it promised to answer a ping over a stream.
    #[must_use]
    pub fn answers_stream_pings(&self) -> bool {
        self.vsn_announced && self.vsn.pmax >= 3
    }

    /// The alive message that says all this.
    #[must_use]
    pub fn to_alive(&self) -> Alive {
        Alive {
            incarnation: self.incarnation,
            node: self.name.clone(),
            addr: Some(self.addr.clone()),
            port: self.port,
            meta: Some(self.meta.clone()),
            vsn: Some(self.vsn.to_bytes()),
        }
    }

    /// The push-pull entry that says all this.
    #[must_use]
    pub fn to_push_state(&self) -> PushNodeState {
        PushNodeState {
            name: self.name.clone(),
            addr: Some(self.addr.clone()),
            port: self.port,
            meta: Some(self.meta.clone()),
            incarnation: self.incarnation,
            state: self.state as i64,
            vsn: Some(self.vsn.to_bytes()),
        }
    }
}

/// An alive message whose every field can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) name: NodeName,
    pub(super) incarnation: u32,
    pub(super) addr: AddrBytes,
    pub(super) port: u16,
    pub(super) socket_addr: SocketAddr,
    pub(super) meta: Bytes,
    /// `None` when it says nothing (useful) about its versions.
    pub(super) vsn: Option<Vsn>,
}

impl Announcement {
    /// Checks an alive message. Port 0 means `port_default`, as memberlist has it.
    ///
    /// Go takes more: an empty name (a ping to it is answered by anyone), addresses that cannot be
    /// dialled, incarnation 0 (which leaves a dead entry that never joins). Refusing those here
    /// keeps them from being passed on by us.
    pub(super) fn check(
        alive: Alive,
        port_default: u16,
        refusals: &mut Refusals,
    ) -> Option<Announcement> {
        let refuse = |counter: &mut u64| {
            *counter += 1;
            None
        };
        if alive.node.is_empty() || alive.node.as_bytes().len() > NODE_NAME_LEN_MAX {
            return refuse(&mut refusals.name);
        }
        if alive.incarnation == 0 {
            return refuse(&mut refusals.incarnation);
        }
        let addr = alive.addr.unwrap_or_default();
        let port = if alive.port == 0 { port_default } else { alive.port };
        let Some(socket_addr) = diallable(&addr, port) else {
            return refuse(&mut refusals.address);
        };
        let meta = alive.meta.unwrap_or_default();
        if meta.len() > META_LEN_MAX {
            return refuse(&mut refusals.meta);
        }
        let vsn = alive.vsn.unwrap_or_default();
        if let [pmin, pmax, _, ..] = vsn[..]
            && (pmin == 0 || pmax == 0 || pmin > pmax)
        {
            return refuse(&mut refusals.versions);
        }
        Some(Announcement {
            name: alive.node,
            incarnation: alive.incarnation,
            addr,
            port,
            socket_addr,
            meta,
            vsn: Vsn::from_bytes(&vsn),
        })
    }
}

/// The address to dial, or `None` when the bytes are no single host's address.
pub(super) fn diallable(addr: &AddrBytes, port: u16) -> Option<SocketAddr> {
    let ip = addr.ip()?;
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let host = !ip.is_unspecified() && !ip.is_multicast() && !broadcast;
    (host && port != 0).then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive() -> Alive {
        Alive {
            incarnation: 1,
            node: "a".into(),
            addr: Some(AddrBytes(Bytes::from_static(&[127, 0, 0, 1]))),
            port: 7946,
            meta: None,
            vsn: None,
        }
    }

    fn addr(octets: &'static [u8]) -> Option<AddrBytes> {
        Some(AddrBytes(Bytes::from_static(octets)))
    }

    #[track_caller]
    fn refused(alive: Alive, expected: Refusals) {
        let mut refusals = Refusals::default();
        assert_eq!(Announcement::check(alive, 7946, &mut refusals), None);
        assert_eq!(refusals, expected);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_reason() {
        let name = Refusals { name: 1, ..Refusals::default() };
        refused(Alive { node: "".into(), ..alive() }, name.clone());
        refused(Alive { node: NodeName::from(&[b'x'; 256][..]), ..alive() }, name);
        let incarnation = Refusals { incarnation: 1, ..Refusals::default() };
        refused(Alive { incarnation: 0, ..alive() }, incarnation);
        let meta = Refusals { meta: 1, ..Refusals::default() };
        refused(Alive { meta: Some(vec![0; 513].into()), ..alive() }, meta);
        let broadcast = [255, 255, 255, 255];
        for octets in [&[][..], &[1, 2, 3], &[0; 4], &[0; 16], &[224, 0, 0, 1], &broadcast] {
            let alive = Alive { addr: Some(AddrBytes(octets.to_vec().into())), ..alive() };
            refused(alive, Refusals { address: 1, ..Refusals::default() });
        }
        for vsn in [&[0, 5, 2][..], &[1, 0, 2], &[3, 2, 2, 0, 0, 0]] {
            let alive = Alive { vsn: Some(vsn.to_vec().into()), ..alive() };
            refused(alive, Refusals { versions: 1, ..Refusals::default() });
        }
    }

    #[test]
    fn what_can_be_used_is_kept_verbatim() {
        let mut refusals = Refusals::default();
        let mapped = addr(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1]);
        let given = Alive { addr: mapped.clone(), port: 0, ..alive() };
        let taken = Announcement::check(given, 99, &mut refusals).expect("usable");
        assert_eq!(Some(taken.addr), mapped);
        assert_eq!(taken.socket_addr, "10.0.0.1:99".parse().expect("an address"));
        assert_eq!(taken.vsn, None);
        let given = Alive { vsn: Some(Bytes::from_static(&[1, 5, 2, 0, 5])), ..alive() };
        let taken = Announcement::check(given, 99, &mut refusals).expect("usable");
        assert_eq!(taken.vsn, None, "five bytes are not enough to keep");
        assert_eq!(refusals, Refusals::default());
    }
}
