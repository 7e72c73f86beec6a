//! Requests of the front, answered.

use super::Node;
use super::command::{Command, MemberStatus, MemberView, Reply};
use super::io::{Note, Output, Ticket};
use super::meta;
use super::replication::{View, Waiting};
use crate::swim::{Member, MemberState};
use crate::time::{Instant, Now};
use std::time::Duration;

/// How much of its time a leave keeps for telling the others: five rounds of gossip, at most a
/// quarter of it all. What is before that may go to handing over.
const TELL_LIMIT: Duration = Duration::from_secs(1);

/// A leave under way: first what the others lack goes out, then the word that we leave.
#[derive(Debug)]
pub(super) struct Leaving {
    ticket: Option<Ticket>,
    /// When to tell the others although they do not hold everything.
    flush_until: Instant,
    /// Once the others are being told: the writes that could not be handed over.
    unsent: Option<u64>,
    /// When the next of these is due.
    pub(super) deadline: Instant,
    give_up_at: Instant,
}

impl Node {
    pub(super) fn command(&mut self, now: Now, ticket: Ticket, command: Command) {
        match command {
            Command::Members => {
                let members = self.member_views();
                self.answer(ticket, Reply::Members(members));
            }
            Command::Stats => {
                let samples = self.samples();
                self.answer(ticket, Reply::Stats(samples));
            }
            Command::Coverage => {
                let coverage = self.replication().coverage();
                self.answer(ticket, Reply::Coverage(coverage));
            }
            Command::AwaitHolders { dot, concern, deadline } => {
                let wait = Waiting { ticket, seq: dot.seq, concern, deadline };
                let lent = &mut self.links.lend(now);
                if dot.origin == self.store.origin() {
                    self.replication.await_holders(lent, wait);
                } else {
                    self.replication.await_in_vain(lent, wait);
                }
            }
            Command::EndWait { dot } => {
                if dot.origin == self.store.origin() {
                    self.replication.end_wait(&mut self.links.lend(now), dot.seq);
                }
                self.answer(ticket, Reply::Done);
            }
            Command::Join(addresses) => {
                // Discovery looks on to the end; a leaving node has no use for what it finds.
                if self.leaving.is_none() {
                    self.swim.join(now.instant, &addresses);
                }
                self.answer(ticket, Reply::Done);
            }
            Command::Look(look) => {
                if self.leaving.is_none() {
                    self.swim.join(now.instant, &look.named);
                    self.founding.looked(now.instant, look);
                }
                self.answer(ticket, Reply::Done);
            }
            Command::Leave { deadline } => self.leave(now, ticket, deadline),
            Command::Keys(change) => self.change_keys(now, ticket, change),
            Command::Forget(name) => self.forget_member(now, ticket, &name),
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, reply: Reply) {
        self.out.push_back(Output::Reply { ticket, reply });
    }

    /// This node first, then by name.
    fn member_views(&self) -> Vec<MemberView> {
        let me = std::iter::once(self.swim.me());
        let others = self.swim.members().filter(|member| member.name != self.config.name);
        me.chain(others).map(|member| self.view(member)).collect()
    }

    fn view(&self, member: &Member) -> MemberView {
        let origin = meta::origin(&member.meta);
        let formats = origin.is_some().then(|| meta::formats(&member.meta));
        let (udp, tcp) = origin.map_or((false, false), |origin| self.replication().blocked(origin));
        MemberView {
            name: member.name.to_string(),
            address: member.socket_addr,
            state: match member.state {
                MemberState::Alive => MemberStatus::Alive,
                MemberState::Suspect => MemberStatus::Suspect,
                MemberState::Dead => MemberStatus::Dead,
                MemberState::Left => MemberStatus::Left,
            },
            incarnation: member.incarnation,
            kv: formats.is_some_and(|theirs| self.config.formats.common(theirs).is_some()),
            formats: formats.map(|formats| formats.to_string()),
            me: member.name == self.config.name,
            udp_blocked: udp || member.udp_blocked,
            tcp_blocked: tcp,
        }
    }

    fn leave(&mut self, now: Now, ticket: Ticket, deadline: Instant) {
        if self.leaving.is_some() {
            self.answer(ticket, Reply::Refused("the node is leaving already".into()));
            return;
        }
        let time = deadline.since(now.instant);
        let flush_until = now.instant + (time - TELL_LIMIT.min(time / 4));
        self.leaving = Some(Leaving {
            ticket: Some(ticket),
            flush_until,
            unsent: None,
            deadline: flush_until,
            give_up_at: deadline,
        });
        self.replication.drain(&mut self.links.lend(now));
    }

    /// Moves a leave on when everything is held elsewhere or has had its time.
    pub(super) fn leave_due(&mut self, now: Now) {
        let Some(leaving) = &mut self.leaving else { return };
        if leaving.unsent.is_none()
            && (self.replication.is_drained(&mut self.links.lend(now))
                || leaving.flush_until <= now.instant)
        {
            leaving.unsent = Some(self.replication.unsent(&mut self.links.lend(now)));
            leaving.deadline = leaving.give_up_at;
            let keys = self.store.stats().n_live;
            if self.replication().n_peers() == 0 && keys > 0 {
                self.out.push_back(Output::Note(Note::NoHeir { keys }));
            }
            self.swim.leave(now.instant);
        }
        if let Some(leaving) = &self.leaving
            && leaving.unsent.is_some()
            && leaving.give_up_at <= now.instant
        {
            self.left(now);
        }
    }

    /// The others have been told, or time is up.
    pub(super) fn left(&mut self, now: Now) {
        if let Some(leaving) = &mut self.leaving {
            leaving.deadline = Instant::NEVER;
            leaving.give_up_at = Instant::NEVER;
            // Acknowledgements may have come meanwhile; heirs that left since have handed over.
            let before = leaving
                .unsent
                .unwrap_or_else(|| self.replication.unsent(&mut self.links.lend(now)));
            let heard = View::of(&self.replication).n_peers() > 0;
            let unsent = if heard {
                before.min(self.replication.unsent(&mut self.links.lend(now)))
            } else {
                before
            };
            if let Some(ticket) = leaving.ticket.take() {
                self.answer(ticket, Reply::Left { unsent });
            }
        }
    }
}
