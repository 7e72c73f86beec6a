//! Links: connections between nodes of our kind that carry frames of ours, with a window on what is
//! under way. They belong to the node, which lends them to replication.
//!
//! ```text
//! we dial:      Dial(first frame) --> Send ... --> Closed         one per peer, dialled on demand
//! they dial:    Frame --> Send (answers) ... --> Closed
//! ```
//!
//! The shell tells when a frame has been written; until then its bytes count against the window.
//! A peer that does not read fills its window and costs no more than that.

use super::formats::Formats;
use super::io::{ConnId, Output};
use crate::kv::OriginId;
use crate::limits::{LINK_UNREAD_MAX, LINK_WINDOW};
use crate::time::{Instant, Now};
use crate::wire::stream::{Frame, Payload};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long connecting and writing the first frame may take: two tries of the system's, after 0
/// and 1 s. Its third comes after 3 s, and a new dial before that.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Link {
    /// The peer at its other end, once known.
    pub(super) peer: Option<OriginId>,
    /// Whether anything has been written to it.
    pub(super) connected: bool,
    /// The formats that are read at both ends, as far as is known.
    common: Option<Formats>,
    in_flight_len: usize,
    /// When bytes last went into it or out of it.
    moved_at: Instant,
}

impl Link {
    fn new(peer: Option<OriginId>, in_flight_len: usize) -> Link {
        let moved_at = Instant::ZERO;
        Link { peer, connected: false, common: None, in_flight_len, moved_at }
    }
}

/// All links.
#[derive(Debug)]
pub(super) struct Links {
    links: BTreeMap<ConnId, Link>,
    /// The last number of a connection that this node dialled.
    last_conn: u64,
    pub(super) out: VecDeque<Output>,
    pub(super) sent_len_total: u64,
    pub(super) dialled_total: u64,
    pub(super) overrun_total: u64,
}

/// What the node lends to whoever works for it: the time, and the links.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pub(super) now: Now,
    pub(super) links: &'a mut Links,
}

impl Links {
    /// Lends them.
    pub(super) fn lend(&mut self, now: Now) -> Lent<'_> {
        Lent { now, links: self }
    }

    pub(super) fn new() -> Links {
        Links {
            links: BTreeMap::new(),
            last_conn: 2,
            out: VecDeque::new(),
            sent_len_total: 0,
            dialled_total: 0,
            overrun_total: 0,
        }
    }

    /// A number for a connection that this node dials, whatever for.
    pub(super) fn next_conn(&mut self) -> ConnId {
        self.last_conn += 2;
        ConnId(self.last_conn)
    }

    /// Dials `addr` with a first frame.
    pub(super) fn dial(
        &mut self,
        now: Instant,
        peer: OriginId,
        addr: SocketAddr,
        payload: Payload,
    ) -> ConnId {
        let conn = self.next_conn();
        self.dialled_total += 1;
        self.sent_len_total += payload.len() as u64;
        let link = Link { moved_at: now, ..Link::new(Some(peer), payload.len()) };
        self.links.insert(conn, link);
        self.out.push_back(Output::Dial {
            conn,
            peer: addr,
            frame: Frame::Kv(payload),
            deadline: now + CONNECT_LIMIT,
            link: true,
        });
        conn
    }

    /// A frame came in on `conn`: it exists.
    pub(super) fn seen(&mut self, conn: ConnId, peer: Option<OriginId>) {
        let link = self.links.entry(conn).or_insert_with(|| Link::new(None, 0));
        link.connected = true;
        if peer.is_some() {
            link.peer = peer;
        }
    }

    /// What is read at the other end of `conn`: as its meta tells, once it is known as a peer, and
    /// until then the format it has written in.
    pub(super) fn speaks(&mut self, conn: ConnId, common: Option<Formats>, written: u8) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.common = common.or(link.common).or(Some(Formats::only(written)));
        }
    }

    /// The formats that are read at both ends, as far as is known.
    pub(super) fn common(&self, conn: ConnId) -> Option<Formats> {
        self.links.get(&conn).and_then(|link| link.common)
    }

    /// Hands over a frame. A connection whose other end asks and never reads is closed.
    pub(super) fn send(&mut self, conn: ConnId, payload: Payload) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        if link.in_flight_len > LINK_UNREAD_MAX {
            self.overrun_total += 1;
            self.links.remove(&conn);
            self.out.push_back(Output::Close { conn });
            return;
        }
        link.in_flight_len += payload.len();
        self.sent_len_total += payload.len() as u64;
        self.out.push_back(Output::Send { conn, frame: Frame::Kv(payload) });
    }

    /// Whether `conn` takes `len` more bytes of bulk now.
    pub(super) fn has_room(&self, conn: ConnId, len: usize) -> bool {
        self.links
            .get(&conn)
            .is_some_and(|link| link.in_flight_len == 0 || link.in_flight_len + len <= LINK_WINDOW)
    }

    /// The peer at the other end of a link, once known.
    pub(super) fn peer(&self, conn: ConnId) -> Option<OriginId> {
        self.links.get(&conn).and_then(|link| link.peer)
    }

    /// Bytes handed over and not yet written.
    pub(super) fn in_flight_len(&self, conn: ConnId) -> usize {
        self.links.get(&conn).map_or(0, |link| link.in_flight_len)
    }

    /// Bytes have been written; the peer when it is the first time.
    pub(super) fn written(&mut self, now: Instant, conn: ConnId, len: usize) -> Option<OriginId> {
        let link = self.links.get_mut(&conn)?;
        link.in_flight_len = link.in_flight_len.saturating_sub(len);
        link.moved_at = now;
        let is_first = !std::mem::replace(&mut link.connected, true);
        link.peer.filter(|_| is_first)
    }

    /// When bytes were last written, or it was dialled.
    pub(super) fn moved_at(&self, conn: ConnId) -> Instant {
        self.links.get(&conn).map_or(Instant::NEVER, |link| link.moved_at)
    }

    /// Forgets a connection that has ended.
    pub(super) fn closed(&mut self, conn: ConnId) -> Option<Link> {
        self.links.remove(&conn)
    }

    /// Ends all connections.
    pub(super) fn close_all(&mut self) {
        for conn in std::mem::take(&mut self.links).into_keys() {
            self.out.push_back(Output::Close { conn });
        }
    }

    /// Ends a connection.
    pub(super) fn close(&mut self, conn: ConnId) {
        if self.links.remove(&conn).is_some() {
            self.out.push_back(Output::Close { conn });
        }
    }

    pub(super) fn is_open(&self, conn: ConnId) -> bool {
        self.links.contains_key(&conn)
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Bytes under way on all links.
    pub(super) fn total_in_flight_len(&self) -> usize {
        self.links.values().map(|link| link.in_flight_len).sum()
    }
}
