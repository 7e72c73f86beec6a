//! memberlist's exchanges on connections: one frame, and at most one back.

use super::Node;
use super::formats::Formats;
use super::io::{ConnId, Output};
use super::meta;
use super::replication::message::{format_of, is_ours};
use crate::mutation::mutated;
use crate::swim::io::{ExchangeId, Output as SwimOutput, Refusal};
use crate::time::Now;
use crate::wire::message::PushPull;
use crate::wire::stream::{Frame, Mismatch};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One that we have dialled for.
#[derive(Debug, Clone, Copy)]
struct Dialled {
    id: ExchangeId,
    peer: SocketAddr,
    /// Its frame has been written, so there was a connection.
    connected: bool,
}

/// Exchanges we have dialled for.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    dialled: BTreeMap<ConnId, Dialled>,
    pub(super) push_pulls_in_total: u64,
    pub(super) push_pulls_out_total: u64,
}

impl Node {
    /// Dials for an exchange that membership asks for.
    pub(super) fn start_exchange(&mut self, now: Now, output: SwimOutput) {
        let conn = self.links.next_conn();
        let (id, peer, deadline, frame) = match output {
            SwimOutput::PushPull { id, peer, member, join, states, deadline } => {
                // Only our own kind understands our user state; Serf would log an error.
                let formats = member
                    .and_then(|name| self.swim.member(&name))
                    .filter(|member| meta::origin(&member.meta).is_some())
                    .map(|member| meta::formats(&member.meta))
                    .or(mutated!(TellForeign).then_some(Formats::SPOKEN));
                let user_state = formats.map_or_else(Bytes::new, |formats| {
                    self.replication.user_state(&mut self.links.lend(now), formats)
                });
                self.exchanges.push_pulls_out_total += 1;
                (id, peer, deadline, Frame::PushPull(PushPull { join, nodes: states, user_state }))
            }
            SwimOutput::StreamPing { id, peer, ping, deadline } => {
                (id, peer, deadline, Frame::Ping(ping))
            }
            SwimOutput::Packet(_) | SwimOutput::Event(_) => return,
        };
        self.exchanges.dialled.insert(conn, Dialled { id, peer, connected: false });
        self.out.push_back(Output::Dial { conn, peer, frame, deadline, link: false });
    }

    /// A frame arrived: the answer to an exchange of ours, or a request, or replication.
    pub(super) fn frame(&mut self, now: Now, conn: ConnId, from: SocketAddr, frame: Frame) {
        if let Frame::Kv(payload) = frame {
            self.replication.frame(&mut self.links.lend(now), conn, from, &payload.join());
            return;
        }
        match self.exchanges.dialled.remove(&conn) {
            Some(dialled) => self.answered(now, dialled, from, frame),
            None => self.requested(now, conn, from, frame),
        }
        self.out.push_back(Output::Close { conn });
    }

    fn answered(&mut self, now: Now, dialled: Dialled, from: SocketAddr, frame: Frame) {
        let Dialled { id, peer, .. } = dialled;
        match frame {
            Frame::PushPull(push_pull) => {
                self.shut_out.answered(peer);
                self.swim.push_pull_done(now.instant, id, push_pull.nodes);
                self.move_outputs(now);
                self.user_state(now, from, &push_pull.user_state);
            }
            Frame::Ack(ack) => self.swim.stream_ack(now.instant, id, &ack),
            Frame::Error(text) => match Mismatch::told(&text) {
                Some(mismatch) => {
                    self.shut_out.refused(now.instant, peer, mismatch);
                    self.swim.exchange_refused(now.instant, id, refusal(mismatch));
                }
                None => {
                    self.swim.exchange_failed(now.instant, id, &format!("the peer says: {text}"));
                }
            },
            Frame::User(_) | Frame::Ping(_) | Frame::Kv(_) => {
                self.swim.exchange_failed(now.instant, id, "the peer answered something else");
            }
        }
    }

    fn requested(&mut self, now: Now, conn: ConnId, from: SocketAddr, frame: Frame) {
        match frame {
            Frame::PushPull(push_pull) => self.push_pull_requested(now, conn, from, push_pull),
            Frame::Ping(ping) => {
                if let Some(ack) = self.swim.stream_ping(now.instant, &ping) {
                    self.out.push_back(Output::Send { conn, frame: Frame::Ack(ack) });
                }
            }
            Frame::User(_) => self.dropped.foreign_user_total += 1,
            Frame::Ack(_) | Frame::Error(_) | Frame::Kv(_) => {}
        }
    }

    /// Our states go out as they were before theirs are merged, whatever the merge says.
    fn push_pull_requested(
        &mut self,
        now: Now,
        conn: ConnId,
        from: SocketAddr,
        push_pull: PushPull,
    ) {
        self.exchanges.push_pulls_in_total += 1;
        let PushPull { join, nodes, user_state } = push_pull;
        // In the format that it is in: who has asked may not be known yet.
        let format = format_of(&user_state);
        let answer_state = format.map_or_else(Bytes::new, |format| {
            self.replication.user_state(&mut self.links.lend(now), Formats::only(format))
        });
        let states = self.swim.push_pull_request(now.instant, from, nodes, join);
        let answer = PushPull { join, nodes: states, user_state: answer_state };
        self.out.push_back(Output::Send { conn, frame: Frame::PushPull(answer) });
        self.move_outputs(now);
        self.user_state(now, from, &user_state);
    }

    fn user_state(&mut self, now: Now, from: SocketAddr, state: &Bytes) {
        if is_ours(state) {
            self.replication.merge_user_state(&mut self.links.lend(now), from, state);
        }
    }

    /// The other end of a connection that we dialled does not want us.
    pub(super) fn refused(&mut self, now: Now, conn: ConnId, mismatch: Mismatch) {
        if let Some(dialled) = self.exchanges.dialled.remove(&conn) {
            self.shut_out.refused(now.instant, dialled.peer, mismatch);
            self.swim.exchange_refused(now.instant, dialled.id, refusal(mismatch));
        }
    }

    /// A frame handed over has been written.
    pub(super) fn sent(&mut self, now: Now, conn: ConnId, len: usize) {
        let Some(dialled) = self.exchanges.dialled.get_mut(&conn) else {
            return self.replication.link_written(&mut self.links.lend(now), conn, len);
        };
        dialled.connected = true;
        let peer = dialled.peer;
        self.replication.exchanged(&mut self.links.lend(now), peer, true);
    }

    /// A connection has ended.
    pub(super) fn closed(&mut self, now: Now, conn: ConnId, error: Option<String>) {
        if let Some(Dialled { id, peer, connected }) = self.exchanges.dialled.remove(&conn) {
            if !connected {
                self.replication.exchanged(&mut self.links.lend(now), peer, false);
            }
            let why = error.as_deref().unwrap_or("the peer closed without an answer");
            self.swim.exchange_failed(now.instant, id, why);
        } else {
            let peer = self.links.peer(conn).and_then(|peer| self.replication().addr(peer));
            self.replication.link_closed(&mut self.links.lend(now), conn);
            if let Some(peer) = peer {
                self.swim.call(now.instant, peer);
            }
        }
    }
}

fn refusal(mismatch: Mismatch) -> Refusal {
    match mismatch {
        Mismatch::Key => Refusal::Key,
        Mismatch::Label => Refusal::Label,
        Mismatch::Silence => Refusal::Silence,
    }
}
