//! The node as a state machine: [`handle`](Node::handle) and [`poll`](Node::poll).

use super::command::{Health, NotReady};
use super::commands::Leaving;
use super::config::Config;
use super::formats::Formats;
use super::founding::Founding;
use super::io::{Input, Note, Output};
use super::keys::KeyChanges;
use super::links::Links;
use super::meta;
use super::replication::message::is_ours;
use super::replication::{self, Out, PeerInfo, Replication, View};
use super::shut_out::ShutOut;
use super::streams::Exchanges;
use crate::kv::Store;
use crate::mutation::mutated;
use crate::swim::io::{Event, Output as SwimOutput, Packet};
use crate::swim::{Identity, Member, MemberState, Swim, VSN};
use crate::time::{Instant, Now};
use crate::wire::message::{AddrBytes, Message, NodeName, PushNodeState};
use crate::wire::packet::{self, PART_OVERHEAD, PacketError, Security};
use crate::wire::type_byte;
use bytes::{BufMut as _, Bytes, BytesMut};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// What datagrams that could not be used came to.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) packets: DroppedPackets,
    pub(super) parts_total: u64,
    pub(super) foreign_user_total: u64,
    next_note: Instant,
}

/// Datagrams dropped whole, by why.
#[derive(Debug, Default)]
pub(super) struct DroppedPackets {
    pub(super) key: u64,
    pub(super) label: u64,
    pub(super) checksum: u64,
    pub(super) malformed: u64,
}

impl DroppedPackets {
    fn count(&mut self, error: &PacketError) {
        *match error {
            PacketError::Decrypt(_) => &mut self.key,
            PacketError::LabelMismatch => &mut self.label,
            PacketError::Checksum { .. } => &mut self.checksum,
            PacketError::Empty | PacketError::BrokenLabel => &mut self.malformed,
        } += 1;
    }
}

/// One member of a cluster.
///
/// The law: after every [`handle`](Node::handle), [`poll`](Node::poll) until it says
/// [`Output::Timeout`].
#[derive(Debug)]
pub struct Node {
    pub(super) config: Config,
    pub(super) store: Arc<Store>,
    pub(super) security: Arc<Security>,
    pub(super) swim: Swim,
    pub(super) replication: Replication,
    pub(super) links: Links,
    pub(super) exchanges: Exchanges,
    pub(super) founding: Founding,
    pub(super) leaving: Option<Leaving>,
    pub(super) keys: KeyChanges,
    pub(super) shut_out: ShutOut,
    pub(super) dropped: Dropped,
    pub(super) out: VecDeque<Output>,
}

impl Node {
    /// A node that knows nobody; `store` is empty and its origin is this run's.
    #[must_use]
    pub fn new(config: Config, store: Arc<Store>, now: Now) -> Node {
        let founding = Founding::new(now.instant, config.advertise);
        let me = Identity {
            name: config.name.clone(),
            addr: AddrBytes::from_ip(config.advertise.ip()),
            port: config.advertise.port(),
            meta: meta::encode(store.origin(), config.formats),
            vsn: VSN,
        };
        let swim_seed = config.rng_seed ^ 0x5157_494d;
        let swim = Swim::new(config.swim.clone(), me, config.incarnation, swim_seed, now.instant);
        let replication = Replication::new(
            replication::Config {
                tombstone_grace: config.tombstone_grace,
                expired_grace: config.expired_grace,
                folded: config.folded,
                expects_peers: config.expects_peers,
                formats: config.formats,
                rng_seed: config.rng_seed,
            },
            Arc::clone(&store),
            now,
        );
        let mut node = Node {
            security: Arc::new(config.security.clone()),
            config,
            store,
            swim,
            replication,
            links: Links::new(),
            exchanges: Exchanges::default(),
            founding,
            leaving: None,
            keys: KeyChanges::default(),
            shut_out: ShutOut::default(),
            dropped: Dropped::default(),
            out: VecDeque::new(),
        };
        node.security_changed();
        node
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Datagram { from, bytes } => self.datagram(now, from, bytes),
            Input::Frame { conn, from, frame } => self.frame(now, conn, from, frame),
            Input::Sent { conn, len } => self.sent(now, conn, len),
            Input::Refused { conn, mismatch } => self.refused(now, conn, mismatch),
            Input::Closed { conn, error } => self.closed(now, conn, error),
            Input::Written => self.replication.written(&mut self.links.lend(now)),
            Input::Command { ticket, command } => self.command(now, ticket, command),
            Input::Timeout => {}
        }
        if self.swim.deadline() <= now.instant {
            self.swim.timeout(now.instant);
        }
        self.move_outputs(now);
        self.replication.hold_first_copy(self.swim.name_taken().is_some());
        if self.replication.deadline(&self.links) <= now.instant {
            self.replication.timeout(&mut self.links.lend(now));
        }
        self.renew_due(now);
        self.founding_due(now);
        self.shut_out_due(now);
        if self.health() == Health::Ok {
            self.swim.hold_name();
        }
        self.leave_due(now);
        self.keys_due(now);
        self.move_outputs(now);
    }

    /// Goes on as another run where this one was set back.
    fn renew_due(&mut self, now: Now) {
        let Some(origin) = self.replication.renew(&mut self.links.lend(now)) else { return };
        self.swim.update_meta(now.instant, meta::encode(origin, self.config.formats));
        self.move_outputs(now);
    }

    /// Takes over a table of members as if all of it had been told long ago. For simulations that
    /// begin with a settled cluster.
    pub fn acquaint(&mut self, now: Now, states: Vec<PushNodeState>) {
        self.swim.acquaint(now.instant, states);
        if self.config.bootstrap {
            self.replication.assume_ready();
        }
        let infos = self.peer_infos();
        self.replication.members(&mut self.links.lend(now), infos);
        self.move_outputs(now);
    }

    /// The next thing to do; [`Output::Timeout`] ends the drain.
    pub fn poll(&mut self, now: Now) -> Output {
        if let Some(output) = self.out.pop_front() {
            return output;
        }
        let _ = now;
        Output::Timeout(self.deadline())
    }

    /// When something is due next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        [
            self.swim.deadline(),
            self.replication.deadline(&self.links),
            self.leaving.as_ref().map_or(Instant::NEVER, |leaving| leaving.deadline),
            self.keys.deadline(),
            self.founding_deadline(),
        ]
        .into_iter()
        .min()
        .unwrap_or(Instant::NEVER)
    }

    /// Label, keys and switches as they are now.
    #[must_use]
    pub fn security(&self) -> &Arc<Security> {
        &self.security
    }

    /// Readiness.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.replication().health() {
            _ if self.leaving.is_some() => Health::Leaving,
            Health::Ok if self.is_no_member().is_some() => Health::Starting,
            health => health,
        }
    }

    /// Whether its store holds all that it must before it answers for the cluster, be it leaving.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.replication().health() == Health::Ok && self.is_no_member().is_none()
    }

    /// What keeps it from being ready, by kind; `None` when it is.
    #[must_use]
    pub fn not_ready(&self) -> Option<NotReady> {
        match self.health() {
            Health::Ok => None,
            Health::Leaving => Some(NotReady::Leaving),
            Health::Stalled => Some(NotReady::Stalled),
            Health::Starting if self.replication().is_new() => Some(self.founding.wait().kind),
            Health::Starting if self.replication().health() == Health::Ok => self.is_no_member(),
            Health::Starting if self.swim.name_taken().is_some() => Some(NotReady::Name),
            Health::Starting if self.replication().is_short_of_room() => Some(NotReady::Room),
            Health::Starting if self.replication().is_resetting() => Some(NotReady::Comparing),
            Health::Starting => Some(NotReady::Copying),
        }
    }

    /// The same as a sentence that an operator can act on.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match self.not_ready()? {
            NotReady::Leaving => {
                Some("this node is leaving the cluster: ask another one".to_owned())
            }
            _ if self.replication().is_new() => Some(self.founding.wait().why.clone()),
            NotReady::Refused => self.shut_out.why().map(str::to_owned),
            NotReady::Name => self.name_taken_why(),
            _ => self.replication().not_ready_why(),
        }
    }

    /// Why the others do not count it as a member, however complete its store is: another member
    /// has its name, or they refuse what it sends.
    fn is_no_member(&self) -> Option<NotReady> {
        let refused = self.shut_out.why().is_some().then_some(NotReady::Refused);
        self.swim.name_taken().map(|_| NotReady::Name).or(refused)
    }

    /// That another member has its name, and where.
    pub(super) fn name_taken_why(&self) -> Option<String> {
        let other = self.swim.name_taken()?;
        Some(format!("the name {:?} is taken by {other}", self.config.name))
    }

    /// Whether no other member is alive as far as we know.
    #[must_use]
    pub fn alone(&self) -> bool {
        self.swim.n_alive() <= 1
    }

    /// The table of members.
    #[must_use]
    pub fn swim(&self) -> &Swim {
        &self.swim
    }

    /// Replication, to look at.
    #[must_use]
    pub fn replication(&self) -> View<'_> {
        View::of(&self.replication)
    }

    /// Members of our kind, not dead, that share no replication format with this node, and the
    /// formats they speak. As far as data goes they are no members.
    pub fn incompatible(&self) -> impl Iterator<Item = (&NodeName, Formats)> {
        let there = self.replication().incompatible().filter(|info| info.reachable);
        there.map(|info| (&info.name, info.formats))
    }

    /// A member of our kind, not dead, that does not know keys that expire, be it this node: as
    /// long as there is one, none may be written.
    #[must_use]
    pub fn lacks_ttl(&self) -> Option<&NodeName> {
        if !self.config.formats.know_ttl() {
            return Some(&self.config.name);
        }
        let mut infos = self.replication().infos();
        infos.find(|info| info.reachable && !info.ttl).map(|info| &info.name)
    }

    fn datagram(&mut self, now: Now, from: SocketAddr, bytes: Bytes) {
        let opened = match packet::open(&self.security, bytes) {
            Ok(opened) => opened,
            Err(error) => {
                self.dropped.packets.count(&error);
                self.unreadable(now, from, error.to_string());
                return;
            }
        };
        self.founding_called(now, from);
        self.dropped.parts_total += opened.dropped.len() as u64;
        if let Some(error) = opened.dropped.first() {
            self.unreadable(now, from, error.to_string());
        }
        for message in opened.messages {
            match message {
                Message::User(payload) if is_ours(&payload) => {
                    self.replication.datagram(&mut self.links.lend(now), from, &payload);
                }
                // Other programs' business: their delegates know what to do with it.
                Message::User(_) => self.dropped.foreign_user_total += 1,
                message => self.swim.message(now.instant, from, message),
            }
        }
    }

    /// A user message of another kind of member may begin as ours do: its business.
    fn replication_unreadable(&mut self, now: Now, from: SocketAddr, why: String) {
        let is_foreign = |member: &Member| meta::origin(&member.meta).is_none();
        if self.swim.members_at(from).any(is_foreign) {
            self.dropped.foreign_user_total += 1;
        } else {
            self.unreadable(now, from, why);
        }
    }

    /// One note a second at most; the counters have them all.
    fn unreadable(&mut self, now: Now, from: SocketAddr, why: String) {
        if now.instant >= self.dropped.next_note {
            self.dropped.next_note = now.instant + std::time::Duration::from_secs(1);
            self.out.push_back(Output::Note(Note::Unreadable { why, from }));
        }
    }

    /// Moves what the two rooms have queued to the front door.
    pub(super) fn move_outputs(&mut self, now: Now) {
        loop {
            let mut members_changed = false;
            while let Some(output) = self.swim.poll() {
                members_changed |= self.swim_output(now, output);
            }
            if members_changed {
                let infos = self.peer_infos();
                self.replication.members(&mut self.links.lend(now), infos);
            }
            let mut moved = false;
            while let Some(out) = self.next_out() {
                self.replication_output(now, out);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    /// What links and replication have queued; a frame goes before a datagram.
    fn next_out(&mut self) -> Option<Out> {
        self.links.out.pop_front().map(Out::Output).or_else(|| self.replication.poll())
    }

    /// Whether the table of members has changed.
    fn swim_output(&mut self, now: Now, output: SwimOutput) -> bool {
        match output {
            SwimOutput::Packet(Packet { to, crc, parts, .. }) => {
                self.out.push_back(Output::Datagram { to: vec![to], parts, crc, compress: true });
                false
            }
            SwimOutput::Event(event) => {
                let changes = event.changes_members();
                match &event {
                    Event::LeaveDone => self.left(now),
                    Event::JoinDone { peer, result } => {
                        self.founding.joined(now.instant, *peer, result);
                    }
                    _ => {}
                }
                self.out.push_back(Output::Event(event));
                changes
            }
            exchange => {
                self.start_exchange(now, exchange);
                false
            }
        }
    }

    fn replication_output(&mut self, now: Now, out: Out) {
        match out {
            Out::Datagram { to, payloads } => {
                let parts = payloads.iter().map(as_user_message).collect();
                self.out.push_back(Output::Datagram { to, parts, crc: true, compress: false });
            }
            Out::Output(Output::Note(Note::Unreadable { why, from })) => {
                self.replication_unreadable(now, from, why);
            }
            Out::Output(output) => self.out.push_back(output),
            Out::Keys(conn, message) => self.key_message(now, conn, message),
        }
    }

    /// The members of our kind, ourselves left out, and those that left of their own will.
    ///
    /// One at our own address is a crashed node whose address has become ours: nobody reaches it.
    fn peer_infos(&self) -> Vec<PeerInfo> {
        let here = self.swim.me().socket_addr;
        self.swim
            .members()
            .filter(|member| member.name != self.config.name)
            .filter(|member| member.state != MemberState::Left)
            .filter_map(|member| {
                Some(PeerInfo {
                    origin: meta::origin(&member.meta)?,
                    name: member.name.clone(),
                    addr: member.socket_addr,
                    reachable: member.state != MemberState::Dead && member.socket_addr != here,
                    formats: meta::formats(&member.meta),
                    ttl: meta::knows_ttl(&member.meta),
                    names: meta::names_runs(&member.meta),
                    udp_blocked: member.udp_blocked,
                })
            })
            .filter(|info| info.origin != self.store.origin())
            .collect()
    }

    /// Follows a change of label, keys or switches.
    pub(super) fn security_changed(&mut self) {
        let budget = packet::budget(&self.security, true);
        self.swim.set_budget(budget);
        // A user message costs its type byte and its place in the compound.
        let over = if mutated!(OverBudget) { 200 } else { 0 };
        self.replication.set_room(budget - PART_OVERHEAD - 1 + over);
        self.out.push_back(Output::Security(Arc::clone(&self.security)));
    }
}

fn as_user_message(payload: &Bytes) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + payload.len());
    message.put_u8(type_byte::USER);
    message.put_slice(payload);
    message.freeze()
}

#[cfg(test)]
mod tests;
