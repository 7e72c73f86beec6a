//! An answer to "who holds my write" never counts more than hold it.
//!
//! Judged at the moment of the answer: a process counts that holds the write or something later
//! for its key, or covers it and has forgotten the delete; and one that held it when it ended,
//! because nobody can know that at once.

use crate::kv::{Dot, Stamp};
use crate::node::io::Ticket;
use crate::sim::host::{Guise, Host};
use std::collections::BTreeMap;

/// A client that waits.
#[derive(Debug, Clone)]
pub struct Wait {
    /// What it wrote.
    pub key: Vec<u8>,
    /// The version.
    pub stamp: Stamp,
    /// The number.
    pub dot: Dot,
}

/// All clients that wait.
#[derive(Debug, Default)]
pub struct Waits {
    /// With each, the processes that held its write and have ended.
    waiting: BTreeMap<Ticket, (Wait, u32)>,
    /// The first answer that claimed too much.
    pub broken: Option<String>,
    /// Waits that ended with as many holders as asked for.
    pub n_met: u64,
    /// Waits that ended with fewer.
    pub n_unmet: u64,
}

impl Waits {
    /// A client begins to wait.
    pub fn begin(&mut self, ticket: Ticket, wait: Wait) {
        self.waiting.insert(ticket, (wait, 0));
    }

    /// A process is about to end.
    pub fn ending(&mut self, host: &Host) {
        for (wait, n_ended) in self.waiting.values_mut() {
            *n_ended += u32::from(holds(host, wait));
        }
    }

    /// A client is answered; false when nobody waits under this ticket.
    pub fn answered(&mut self, ticket: Ticket, held: u32, wanted: u32, hosts: &[Host]) -> bool {
        let Some((wait, n_ended)) = self.waiting.remove(&ticket) else { return false };
        let n_living = hosts.iter().filter(|host| holds(host, &wait)).count();
        let n_holders = u32::try_from(n_living).unwrap_or(u32::MAX) + n_ended;
        if held > n_holders {
            let key = String::from_utf8_lossy(&wait.key);
            let what = format!("{held} were said to hold {key} {}, {n_holders} do", wait.stamp);
            self.broken.get_or_insert(what);
        }
        if held >= wanted {
            self.n_met += 1;
        } else {
            self.n_unmet += 1;
        }
        true
    }
}

fn holds(host: &Host, wait: &Wait) -> bool {
    let (Some(_), Some(store)) = (host.node(), &host.store) else { return false };
    if host.is_stranger && host.guise != Guise::Twin {
        return false;
    }
    match store.entry(&wait.key) {
        Some(record) => record.stamp() >= wait.stamp,
        None => host.contiguous(wait.dot.origin) >= wait.dot.seq,
    }
}
