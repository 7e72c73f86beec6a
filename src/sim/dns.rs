//! What DNS names to each node: the truth, part of it, something stale, nothing, or no answer.

use super::options::Fault;
use super::run::{Run, Step};
use crate::node::command::Look;
use crate::time::Instant;
use std::net::SocketAddr;
use std::time::Duration;

/// Addresses in one answer, as Cloud Map has it.
const NAMED_MAX: usize = 8;
/// How long the address of a process that has ended is named still.
const STALE: Duration = Duration::from_secs(20);
/// Time to the first look of a process.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// The name server.
#[derive(Debug, Default)]
pub(super) struct Dns {
    /// How it answers now.
    pub(super) mood: Mood,
    /// Until when it shows each half of the cluster only its own addresses.
    pub(super) halves_until: Instant,
}

/// How a name server answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mood {
    /// As it should.
    #[default]
    Fine,
    /// That there is nobody.
    Nobody,
    /// Not at all.
    Failing,
}

impl Run {
    /// A process has just started on a host: it looks for peers from now on, if it has anywhere to
    /// look.
    pub(super) fn look_for_peers(&mut self, index: usize) {
        if !self.cluster.hosts[index].is_seedless {
            let since = self.cluster.now;
            self.after(FIRST_LOOK, Step::Discover(index, since));
        }
    }

    /// One look of the process that started on a host at `since`; the last one when it has ended.
    pub(super) fn discover(&mut self, index: usize, since: Instant) {
        let host = &self.cluster.hosts[index];
        let Some(process) = host.process.as_ref().filter(|_| host.standing.since == since) else {
            return;
        };
        let is_alone = process.swim().n_alive() <= 1;
        let pause = if is_alone {
            Duration::from_millis(100) + self.rng.duration_below(Duration::from_secs(2))
        } else {
            Duration::from_secs(2) + self.rng.duration_below(Duration::from_secs(8))
        };
        self.after(pause, Step::Discover(index, since));
        if self.dns.mood != Mood::Fine {
            self.cluster.network.felt.unresolved += 1;
        }
        let look = match self.dns.mood {
            Mood::Fine => self.named(index),
            Mood::Nobody => Look { answered: true, ..Look::default() },
            Mood::Failing => Look { failed: vec!["SRV: no answer".to_owned()], ..Look::default() },
        };
        if look.answered {
            self.cluster.hosts[index].standing.named.clone_from(&look.named);
        }
        self.cluster.look(index, look);
    }

    /// The addresses that DNS has for a node, its own left out: of all places where something runs
    /// or has ended a short while ago, at most [`NAMED_MAX`].
    fn named(&mut self, index: usize) -> Look {
        let now = self.cluster.now;
        let is_apart = now < self.dns.halves_until;
        let sees = |other: usize| !is_apart || index % 2 == other % 2;
        let is_named = |other: &usize| {
            let host = &self.cluster.hosts[*other];
            sees(*other) && (host.is_up() || host.ended_at.is_some_and(|at| now < at + STALE))
        };
        let places = (0..self.cluster.hosts.len()).filter(is_named);
        let mut addresses: Vec<SocketAddr> =
            places.map(|other| self.cluster.hosts[other].addr).collect();
        self.rng.shuffle(&mut addresses);
        addresses.truncate(NAMED_MAX);
        let own = self.cluster.hosts[index].addr;
        let names_me = addresses.contains(&own);
        addresses.retain(|addr| *addr != own);
        Look { names_me, ..Look::each(addresses) }
    }

    /// A name server that breaks down. It never says that there is nobody where the nodes to come
    /// are not of the cluster: such a one would be right to found another.
    pub(super) fn silence_dns(&mut self) -> Mood {
        let intrude = [Fault::OtherKey, Fault::OtherLabel, Fault::OtherFormat, Fault::Surge];
        let strict = intrude.into_iter().any(|fault| self.options.has(fault));
        if strict || self.rng.chance(0.5) { Mood::Failing } else { Mood::Nobody }
    }
}
