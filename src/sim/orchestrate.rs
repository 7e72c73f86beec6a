//! Replacing nodes as an orchestrator does: start a new one, wait until it says that it is ready,
//! stop an old one in good order, go on through all.
//!
//! ```text
//! Starting(new) --ready--> Stopping(old) --left, or killed after its time--> next
//!      `-- not ready within its time: the roll ends, and the new one with it
//! ```
//!
//! With nodes of another key or label it has to end at the first: `check::ready` judges that.

use super::faults::LEAVE_LIMIT;
use super::host::Guise;
use super::options::Fault;
use super::run::Run;
use crate::node::command::Command;
use crate::node::io::Ticket;
use crate::time::Instant;
use std::time::Duration;

/// How long a new node may take, and one that should be refused.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_REFUSED: Duration = Duration::from_secs(25);
/// After this an old node that has been told to stop is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A roll under way.
#[derive(Debug)]
pub(super) struct Roll {
    guise: Guise,
    /// Hosts still to be replaced.
    old: Vec<usize>,
    at: At,
}

#[derive(Debug, Clone, Copy)]
enum At {
    /// Nothing under way.
    Between,
    /// A new node is to become ready.
    Starting(usize, Instant),
    /// An old one is to leave.
    Stopping(usize, Ticket, Instant),
}

impl Run {
    /// Begins to replace all nodes that run by such of `fault`'s kind, unless that is under way.
    pub(super) fn begin_roll(&mut self, fault: Fault, running: Vec<usize>) -> bool {
        if self.roll.is_some() {
            return false;
        }
        let guise = match fault {
            Fault::OtherKey => Guise::OtherKey,
            Fault::OtherLabel => Guise::OtherLabel,
            Fault::OtherFormat => Guise::OtherFormat,
            _ => Guise::Ours,
        };
        self.roll = Some(Roll { guise, old: running, at: At::Between });
        true
    }

    /// Moves the roll on by what can be seen now. In the calm it comes to its end.
    pub(super) fn roll_on(&mut self) {
        let Some(mut roll) = self.roll.take() else { return };
        let goes_on = match roll.at {
            At::Between => self.start_next(&mut roll),
            At::Starting(new, since) => self.await_ready(&mut roll, new, since),
            At::Stopping(old, ticket, since) => self.await_end(&mut roll, old, ticket, since),
        };
        if goes_on {
            self.roll = Some(roll);
        }
    }

    fn start_next(&mut self, roll: &mut Roll) -> bool {
        if roll.old.is_empty() || self.is_calm {
            return false;
        }
        let new = self.add_place(roll.guise);
        self.start_node(new);
        roll.at = At::Starting(new, self.cluster.now);
        true
    }

    fn await_ready(&mut self, roll: &mut Roll, new: usize, since: Instant) -> bool {
        let is_ours = roll.guise == Guise::Ours;
        let host = &self.cluster.hosts[new];
        if host.standing.ok_since.is_some() {
            let old = roll.old.remove(0);
            self.stop(roll, old);
            return true;
        }
        let patience = if is_ours { PATIENCE } else { PATIENCE_REFUSED };
        let is_over = self.cluster.now.since(since) > patience || (self.is_calm && !is_ours);
        if is_over && !is_ours && host.is_up() {
            self.end_process(new);
        }
        // A node of ours that is slow stays, and so does what an operator sees of a stuck roll.
        !is_over && host_runs(self, new)
    }

    fn stop(&mut self, roll: &mut Roll, old: usize) {
        let host = &self.cluster.hosts[old];
        roll.at = At::Between;
        if host.node().is_none() || host.leaving.is_some() || host.is_stranger {
            return;
        }
        let deadline = self.cluster.now + LEAVE_LIMIT;
        self.cluster.begins_to_leave(old);
        let ticket = self.cluster.command(old, Command::Leave { deadline });
        roll.at = At::Stopping(old, ticket, self.cluster.now);
    }

    fn await_end(&mut self, roll: &mut Roll, old: usize, ticket: Ticket, since: Instant) -> bool {
        let reply = self.cluster.replies.remove(&ticket);
        let host = &self.cluster.hosts[old];
        // It may have been killed, and another be there.
        let is_same = host.leaving.is_some() && host.is_up();
        let is_late = self.cluster.now.since(since) > STOP_LIMIT;
        if is_same && reply.is_none() && !is_late {
            return true;
        }
        if is_same {
            self.judge_leave(old, reply.as_ref());
            self.end_process(old);
        }
        roll.at = At::Between;
        true
    }
}

fn host_runs(run: &Run, index: usize) -> bool {
    run.cluster.hosts[index].is_up()
}
