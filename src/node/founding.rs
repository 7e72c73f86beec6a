//! Whether a node that has never been ready may found a cluster: on evidence, never on silence.
//!
//! | what discovery and membership show | the node |
//! |---|---|
//! | `--bootstrap` | founds when all named have answered or failed, 3 s after discovery has |
//! | `--bootstrap`, and discovery fails | founds after 60 s |
//! | a ready member | copies its store instead |
//! | a named address refuses us; our name is taken | waits, and says so |
//! | a source failed, or has not answered yet; a named address is still being dialled | waits |
//! | itself and those joined, all of them new, are more than half of all nodes named | founds |
//! | a record that names nobody but this node, at two looks and for 8 s | founds |
//! | an address list that names nobody but this node | waits: the list must be wrong |
//! | nowhere to look | founds after 3 s in which members that know it may call |
//!
//! More than half, so that of several groups which cannot see each other at most one founds. Where
//! several nodes of one group may found, the one with the lowest origin does so at once and the
//! others a second later, unless they can copy from it by then. `docs/founding.md` plays this
//! through for the places where nodes run.

use super::Node;
use super::command::{Look, NotReady};
use super::io::{Note, Output};
use super::replication::Stage;
use crate::kv::OriginId;
use crate::mutation::mutated;
use crate::swim::MemberState;
use crate::swim::io::{JoinError, Refusal};
use crate::time::{Instant, Now};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tally::{Outcome, Tally};

/// How long members that know a node from before may take to call it, when it looks for nobody.
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// The same where all of them are on this machine, and call every 50 ms.
const CALL_LIMIT_LOOPBACK: Duration = Duration::from_millis(150);
/// How long `--bootstrap` waits for discovery to answer.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(60);
/// How long, and at how many looks, a record must name nobody else.
const NOBODY_FOR: Duration = Duration::from_secs(8);
const NOBODY_LOOKS: u32 = 2;
/// How long a node with evidence waits for one with a lower origin to found.
const TURN: Duration = Duration::from_secs(1);
/// How long a named member that was seen with data, and has died since, keeps others from founding.
const HOLDER_LIMIT: Duration = Duration::from_secs(60);
/// Least time between two joins through somebody who called.
const CALLED_AGAIN: Duration = Duration::from_millis(200);
/// Time between two judgements while nothing happens.
const CHECK: Duration = Duration::from_millis(50);

/// The evidence so far.
#[derive(Debug)]
pub(super) struct Founding {
    /// The address of this node.
    me: SocketAddr,
    began: Instant,
    look: Option<Look>,
    /// When discovery answered for the first time.
    answered_at: Option<Instant>,
    /// Looks in a row that named nobody else.
    n_nobody: u32,
    outcomes: BTreeMap<SocketAddr, Outcome>,
    /// Members with data that are dead, and since when.
    absent: BTreeMap<OriginId, Instant>,
    /// Since when there has been evidence without a break.
    may_since: Option<Instant>,
    next: Instant,
    /// When whoever calls is joined again.
    next_call: Instant,
    /// Why not, at the last judgement.
    wait: Wait,
}

impl Founding {
    pub(super) fn new(now: Instant, me: SocketAddr) -> Founding {
        Founding {
            me,
            began: now,
            look: None,
            answered_at: None,
            n_nobody: 0,
            outcomes: BTreeMap::new(),
            absent: BTreeMap::new(),
            may_since: None,
            next: now,
            next_call: now,
            wait: Wait::new(NotReady::Discovery, "begins to look for members"),
        }
    }

    /// Takes over what discovery saw. What became of addresses that are named no more is forgotten.
    pub(super) fn looked(&mut self, now: Instant, look: Look) {
        self.n_nobody = if look.answered && self.is_nobody_else(&look) {
            self.n_nobody.saturating_add(1)
        } else {
            0
        };
        if look.answered {
            self.answered_at.get_or_insert(now);
        }
        self.outcomes.retain(|addr, _| look.named.contains(addr));
        self.look = Some(look);
        self.next = now;
    }

    /// Whether a look names this node at most, by what is known of its addresses so far.
    fn is_nobody_else(&self, look: &Look) -> bool {
        let is_me = |addr: SocketAddr| match self.outcomes.get(&addr) {
            Some(Outcome::Ourselves) => Outcome::Ourselves,
            _ => Outcome::NoAnswer(String::new()),
        };
        let mut tally = Tally::new();
        let counted = look
            .peers
            .iter()
            .all(|peer| tally.add(self.me, peer, |addr| Some(is_me(addr))).is_ok());
        counted && tally.n_all + look.n_untried == 1
    }

    /// A try to join through `peer` has ended.
    pub(super) fn joined(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        result: &Result<(), JoinError>,
    ) {
        // It may come before the look that names it: the next look drops what it does not name.
        let outcome = match result {
            Ok(()) => Outcome::Joined,
            Err(JoinError::Refused(refusal)) => Outcome::Refused(refusal.clone()),
            Err(JoinError::NoAnswer(why)) => Outcome::NoAnswer(why.clone()),
            Err(JoinError::Ourselves) => Outcome::Ourselves,
        };
        if self.outcomes.len() < crate::limits::JOINS_WAITING_MAX {
            self.outcomes.insert(peer, outcome);
        }
        self.next = now;
    }

    /// Why this node has not founded a cluster, at the last judgement.
    pub(super) fn wait(&self) -> &Wait {
        &self.wait
    }
}

/// Why a node may not found a cluster now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) kind: NotReady,
    /// A sentence to act on.
    pub(super) why: String,
}

impl Wait {
    fn new(kind: NotReady, why: impl Into<String>) -> Wait {
        Wait { kind, why: why.into() }
    }
}

/// On what evidence a node may found a cluster, or why it may not.
type Verdict = Result<String, Wait>;

impl Node {
    /// When the evidence is judged next.
    pub(super) fn founding_deadline(&self) -> Instant {
        let judges = self.replication().is_new() && self.leaving.is_none();
        if judges { self.founding.next } else { Instant::NEVER }
    }

    /// A datagram of this cluster came from `from`. Whoever sends one to a node that knows nobody
    /// knows it from before: it is joined.
    pub(super) fn founding_called(&mut self, now: Now, from: SocketAddr) {
        let knows = self.leaving.is_some() || !self.alone() || from == self.config.advertise;
        if !knows && self.founding.next_call <= now.instant {
            self.founding.next_call = now.instant + CALLED_AGAIN;
            self.swim.join(now.instant, &[from]);
        }
    }

    /// Founds a cluster when there is evidence for it.
    pub(super) fn founding_due(&mut self, now: Now) {
        if !self.replication().is_new()
            || self.leaving.is_some()
            || self.founding.next > now.instant
        {
            return;
        }
        self.founding.next = now.instant + CHECK;
        self.replication.greet(&mut self.links.lend(now));
        match self.evidence(now.instant) {
            Ok(why) => {
                let since = *self.founding.may_since.get_or_insert(now.instant);
                let is_first = self.config.bootstrap || self.is_lowest_new();
                if is_first || now.instant.since(since) >= TURN {
                    self.out.push_back(Output::Note(Note::Founded { why }));
                    self.replication.found(&mut self.links.lend(now));
                } else {
                    self.founding.wait =
                        Wait::new(NotReady::Alone, "waits for another new member to found");
                }
            }
            Err(wait) => {
                self.founding.may_since = None;
                self.founding.wait = wait;
            }
        }
    }

    /// Whether no reachable member that is new has a lower origin.
    fn is_lowest_new(&self) -> bool {
        self.replication().reachable().all(|peer| peer.origin > self.store.origin())
    }

    /// On what evidence this node may found a cluster, or why it may not.
    fn evidence(&mut self, now: Instant) -> Verdict {
        if self.config.bootstrap {
            return self.bootstrap(now);
        }
        if mutated!(FoundOnSilence) && now.since(self.founding.began) >= NOBODY_FOR {
            return Ok("silence".to_owned());
        }
        if let Some(why) = self.name_taken_why() {
            return Err(Wait::new(NotReady::Name, why));
        }
        self.members_are_new(now)?;
        self.members_are_compatible()?;
        self.holders_are_gone(now)?;
        if !self.config.expects_peers {
            return self.nowhere_to_look(now);
        }
        let Some(look) = &self.founding.look else {
            return Err(Wait::new(NotReady::Discovery, "discovery has not answered yet"));
        };
        self.nobody_refuses(now, look)?;
        if !look.answered {
            let why = format!("cannot know whether there is a cluster: {}", failed(look));
            return Err(Wait::new(NotReady::Discovery, why));
        }
        self.majority(now, look)
    }

    /// Founds whatever discovery says, when it has had its time to say it: a node whose setting was
    /// left in place must not take itself for the first whenever it restarts. That DNS fails then
    /// is a reason to wait longer, because the members that it would name cannot be asked.
    fn bootstrap(&mut self, now: Instant) -> Verdict {
        let why = "told to by --bootstrap".to_owned();
        let Founding { began, answered_at, look, .. } = &self.founding;
        let asks_nobody = !self.config.expects_peers;
        let is_over = match answered_at.or(asks_nobody.then_some(*began)) {
            Some(at) => now.since(at) >= CALL_LIMIT,
            None => now.since(*began) >= BOOTSTRAP_LIMIT,
        };
        if is_over {
            return Ok(why);
        }
        self.members_are_new(now)?;
        if asks_nobody {
            return self.nowhere_to_look(now).map(|_| why);
        }
        let look = look.as_ref();
        let Some(look) = look.filter(|look| look.answered) else {
            let failed = look.map_or_else(|| "discovery has not answered yet".to_owned(), failed);
            let secs = BOOTSTRAP_LIMIT.as_secs();
            let why =
                format!("founds after {secs} s, as --bootstrap tells it to, because {failed}");
            return Err(Wait::new(NotReady::Discovery, why));
        };
        if look.named.iter().all(|addr| self.outcome(now, *addr).is_some()) {
            return Ok(why);
        }
        let why = "asks the addresses that it knows before it founds, as --bootstrap tells it to";
        Err(Wait::new(NotReady::Alone, why))
    }

    /// Every member of our kind that answers has never been ready, as of a moment ago.
    fn members_are_new(&self, now: Instant) -> Result<(), Wait> {
        let Err(peer) = self.replication().peers_are_new(now) else { return Ok(()) };
        let name = peer.name;
        let why = match peer.stage {
            Some(Stage::Leaving | Stage::Ending) => format!("waits for {name} to leave"),
            Some(Stage::Hidden) => format!("{name} holds data and is not ready itself"),
            Some(Stage::Founded | Stage::Copied) => format!("is about to copy the store of {name}"),
            Some(Stage::New) | None => format!("waits to hear how far {name} has come"),
        };
        Err(Wait::new(NotReady::Copying, why))
    }

    /// No member speaks only formats of replication that this node does not.
    fn members_are_compatible(&self) -> Result<(), Wait> {
        let Some((name, formats)) = self.incompatible().next() else { return Ok(()) };
        let ours = self.config.formats;
        let why = if ours.common(formats).is_some() {
            format!("{name} does not know keys that expire, and some are held here: replace it")
        } else {
            format!(
                "{name} speaks formats {formats} of replication, this node {ours}: roll by a build \
                 that speaks both"
            )
        };
        Err(Wait::new(NotReady::Formats, why))
    }

    /// No named member has died with data that it may bring back.
    fn holders_are_gone(&mut self, now: Instant) -> Result<(), Wait> {
        let mut absent = BTreeMap::new();
        let mut blocks = None;
        for peer in self.replication().absent() {
            if peer.stage.is_none_or(|stage| stage == Stage::New) {
                continue;
            }
            let since = *self.founding.absent.get(&peer.origin).unwrap_or(&now);
            absent.insert(peer.origin, since);
            let is_named =
                self.founding.look.as_ref().is_some_and(|look| look.named.contains(&peer.addr));
            if is_named && now.since(since) < HOLDER_LIMIT {
                let why =
                    format!("{} at {} has the data and does not answer", peer.name, peer.addr);
                blocks = Some(Wait::new(NotReady::Copying, why));
            }
        }
        self.founding.absent = absent;
        blocks.map_or(Ok(()), Err)
    }

    fn nowhere_to_look(&self, now: Instant) -> Verdict {
        let loopback = self.config.advertise.ip().to_canonical().is_loopback();
        let limit = if loopback { CALL_LIMIT_LOOPBACK } else { CALL_LIMIT };
        if now.since(self.founding.began) >= limit {
            return Ok("nowhere to look for others, and nobody has called".to_owned());
        }
        let why = "nowhere to look for others: waits for members that know this node to call";
        Err(Wait::new(NotReady::Alone, why))
    }

    fn nobody_refuses(&self, now: Instant, look: &Look) -> Result<(), Wait> {
        for addr in &look.named {
            if let Some(Outcome::Refused(refusal)) = self.outcome(now, *addr) {
                let is_name = matches!(refusal, Refusal::NameTaken(_));
                let kind = if is_name { NotReady::Name } else { NotReady::Refused };
                return Err(Wait::new(kind, format!("{addr} refuses this node: {refusal}")));
            }
        }
        Ok(())
    }

    /// What became of a named address; that of a member counts by what membership knows, and one
    /// that led to somebody who is no member yet has not answered yet.
    fn outcome(&self, now: Instant, addr: SocketAddr) -> Option<Outcome> {
        let told = self.founding.outcomes.get(&addr);
        let mut states = self.swim.members_at(addr).map(|member| member.state).peekable();
        if states.peek().is_none() {
            let is_member = || self.swim.leads_to_member(now, addr);
            return told.filter(|told| **told != Outcome::Joined || is_member()).cloned();
        }
        if states.any(|state| matches!(state, MemberState::Alive | MemberState::Suspect)) {
            return Some(Outcome::Joined);
        }
        let gone = || Outcome::NoAnswer("the member there is dead".to_owned());
        Some(told.filter(|told| **told != Outcome::Joined).cloned().unwrap_or_else(gone))
    }

    fn nobody_named(&self, now: Instant, look: &Look) -> Verdict {
        if look.names_me && look.only_literal {
            let why = format!(
                "the only address found is our own, {}: join another, or start with --bootstrap",
                self.config.advertise
            );
            return Err(Wait::new(NotReady::Alone, why));
        }
        let waited = now.since(self.founding.began) >= NOBODY_FOR;
        if waited && self.founding.n_nobody >= NOBODY_LOOKS {
            return Ok("discovery names nobody else".to_owned());
        }
        Err(Wait::new(NotReady::Alone, "discovery names nobody else yet"))
    }

    /// This node and those joined are more than half of all nodes named.
    fn majority(&self, now: Instant, look: &Look) -> Verdict {
        let mut tally = Tally::new();
        for peer in &look.peers {
            let counted = tally.add(self.founding.me, peer, |addr| self.outcome(now, addr));
            counted.map_err(|addr| {
                Wait::new(NotReady::Alone, format!("waits for an answer of {addr}"))
            })?;
        }
        tally.add_untried(look.n_untried, self.swim.n_alive().saturating_sub(1));
        if tally.n_all == 1 && (look.named.is_empty() || !look.only_literal) {
            // All of them are this node's own.
            return self.nobody_named(now, look);
        }
        let told = tally.told();
        if tally.is_majority() {
            return Ok(told);
        }
        let why = format!("only {told}, more than half are needed; {}", tally.missing());
        Err(Wait::new(NotReady::Alone, why))
    }
}

/// The sources that failed.
fn failed(look: &Look) -> String {
    if look.failed.is_empty() {
        return "not every source has answered".to_owned();
    }
    look.failed.join("; ")
}

mod tally;
#[cfg(test)]
mod tests;
