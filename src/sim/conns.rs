//! Connections between simulated hosts: frames in order, at the pace of the sender's line.
//!
//! ```text
//! dial --> both ends --send_frame, post--> inbox --pump--> frames --> the process
//! ```
//!
//! A frame takes its length at the host's rate, then the delay of the network. The sender is told
//! that it is written when it arrives.

use super::cluster::{Cluster, Event};
use super::host::End;
use super::story::told;
use crate::node::io::{ConnId, Input};
use crate::node::replication::message::is_push;
use crate::time::Instant;
use crate::wire::stream::{self, Frame, Role};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often a connection across a partition is tried again.
const STALL_STEP: Duration = Duration::from_millis(200);
/// A connection that moves nothing for this long ends.
const STALL_MAX: Duration = Duration::from_secs(30);

impl Cluster {
    pub(super) fn dial(
        &mut self,
        index: usize,
        conn: ConnId,
        peer: SocketAddr,
        frame: &Frame,
        deadline: Instant,
        link: bool,
    ) {
        self.counts.dials += 1;
        self.trace.detail(self.now, || {
            let kind = if link { "a link" } else { "a stream" };
            format!("{} dials {kind} {} to {peer}: {}", self.hosts[index].name, conn.0, told(frame))
        });
        let from = self.hosts[index].addr.ip();
        let met = [Some(index), self.by_addr.get(&peer).copied()];
        let strange = met.into_iter().flatten().any(|host| self.hosts[host].is_stranger);
        self.network.felt.strange += u64::from(strange);
        let target = self.by_addr.get(&peer).copied().filter(|to| self.hosts[*to].is_up());
        let open = self.network.is_open(from, peer.ip()) && self.network.is_open(peer.ip(), from);
        match target {
            _ if !open => {
                let why = "timed out".to_owned();
                self.push(deadline, Event::Closed { host: index, conn, why });
            }
            None => {
                let delay = self.network.delay(from, peer.ip(), &mut self.rng);
                let why = "connection refused".to_owned();
                self.push(self.now + delay * 2, Event::Closed { host: index, conn, why });
            }
            Some(to) => {
                let accepted = ConnId(self.hosts[to].next_accepted);
                self.hosts[to].next_accepted += 2;
                self.hosts[index].ends.insert(conn, End::new((to, accepted), Role::Dialer));
                self.hosts[to].ends.insert(accepted, End::new((index, conn), Role::Acceptor));
                self.send_frame(index, conn, frame);
                if !link {
                    self.push(deadline, Event::Deadline { host: index, conn });
                }
            }
        }
    }

    pub(super) fn send_frame(&mut self, index: usize, conn: ConnId, frame: &Frame) {
        let nonce = self.nonce();
        let security = Arc::clone(&self.hosts[index].security);
        let Some(end) = self.hosts[index].ends.get_mut(&conn) else { return };
        let first = end.dialled && !end.sent_any;
        end.sent_any = true;
        let peer = end.peer;
        let bytes = if first {
            stream::encode_request(&security, frame, nonce)
        } else {
            stream::encode_reply(&security, frame, nonce)
        };
        self.counts.stream_len += bytes.len() as u64;
        self.trace.detail(self.now, || {
            format!("{} sends on {}: {}", self.hosts[index].name, conn.0, told(frame))
        });
        let payload =
            if let Frame::Kv(payload) = frame { payload } else { &stream::Payload::default() };
        self.counts.pushes += u64::from(payload.pieces().next().is_some_and(|head| is_push(head)));
        let len = payload.len();
        self.post(index, peer, Some(bytes.to_vec()), len);
    }

    /// Puts something on its way to the other end; in order, whatever the delays.
    fn post(&mut self, from: usize, peer: (usize, ConnId), bytes: Option<Vec<u8>>, len: usize) {
        let (from_ip, to_ip) = (self.hosts[from].addr.ip(), self.hosts[peer.0].addr.ip());
        let delay = self.network.delay(from_ip, to_ip, &mut self.rng);
        let now = self.now;
        let takes = self.network.sending(from_ip, bytes.as_ref().map_or(0, Vec::len));
        let Some(end) = self.hosts[peer.0].ends.get_mut(&peer.1) else { return };
        // One after the other through the sender's line, and in order whatever the delays.
        end.line_free_at = now.max(end.line_free_at) + takes;
        let earliest = end.inbox.back().map_or(Instant::ZERO, |(at, _, _)| *at);
        let at = (end.line_free_at + delay).max(earliest);
        end.inbox.push_back((at, bytes, len));
        self.push(at, Event::Pump { host: peer.0, conn: peer.1 });
    }

    /// Delivers what has arrived on a connection.
    pub(super) fn pump(&mut self, index: usize, conn: ConnId) {
        let now = self.now;
        let Some(end) = self.hosts[index].ends.get(&conn) else { return };
        let peer = end.peer;
        let (from, to) = (self.hosts[peer.0].addr.ip(), self.hosts[index].addr.ip());
        if !self.network.is_open(from, to) || self.hosts[index].is_paused(now) {
            let Some(end) = self.hosts[index].ends.get_mut(&conn) else { return };
            let since = *end.stalled_since.get_or_insert(now);
            if now.since(since) > STALL_MAX {
                self.close(index, conn, Some("stalled".to_owned()));
                self.reset_peer(peer);
            } else {
                self.push(now + STALL_STEP, Event::Pump { host: index, conn });
            }
            return;
        }
        loop {
            let Some(end) = self.hosts[index].ends.get_mut(&conn) else { return };
            end.stalled_since = None;
            let Some((at, _, _)) = end.inbox.front() else { return };
            if *at > now {
                return;
            }
            let Some((_, bytes, len)) = end.inbox.pop_front() else { return };
            let Some(bytes) = bytes else {
                self.hosts[index].ends.remove(&conn);
                self.input(index, Input::Closed { conn, error: None });
                return;
            };
            end.reader.extend(&bytes);
            if self.hosts[peer.0].ends.contains_key(&peer.1) {
                self.input(peer.0, Input::Sent { conn: peer.1, len });
            }
            self.frames(index, conn, peer);
        }
    }

    fn frames(&mut self, index: usize, conn: ConnId, peer: (usize, ConnId)) {
        let security = Arc::clone(&self.hosts[index].security);
        let from = self.hosts[peer.0].addr;
        loop {
            let Some(end) = self.hosts[index].ends.get_mut(&conn) else { return };
            match end.reader.next(&security) {
                Ok(Some(frame)) => {
                    let is_heard = self.hosts[peer.0].ends.contains_key(&peer.1);
                    self.see_copy(index, peer.0, is_heard, &frame);
                    self.input(index, Input::Frame { conn, from, frame });
                }
                Ok(None) => return,
                Err(error) => {
                    if end.dialled {
                        if let Some(mismatch) = error.mismatch() {
                            self.input(index, Input::Refused { conn, mismatch });
                        }
                    } else if let Some(answer) =
                        stream::encode_refusal(&security, &error, self.nonce())
                    {
                        self.post(index, peer, Some(answer.to_vec()), 0);
                    }
                    self.close(index, conn, Some(error.to_string()));
                    return;
                }
            }
        }
    }

    /// Ends a connection from one side: it is told at once, the other after what was sent before.
    pub(super) fn close(&mut self, index: usize, conn: ConnId, error: Option<String>) {
        let Some(end) = self.hosts[index].ends.remove(&conn) else { return };
        self.post(index, end.peer, None, 0);
        self.input(index, Input::Closed { conn, error });
    }

    pub(super) fn reset_peer(&mut self, peer: (usize, ConnId)) {
        if self.hosts[peer.0].ends.remove(&peer.1).is_some() {
            let why = "connection reset".to_owned();
            let at = self.now + Duration::from_millis(1);
            self.push(at, Event::Closed { host: peer.0, conn: peer.1, why });
        }
    }
}
