//! The table of members, the order in which they are probed, and the graveyard.
//!
//! ```text
//! by_name   every member, ourselves and the buried included
//! order     those the protocol knows, shuffled; the cursor walks it; a new one enters at random
//! buried    dead for long: out of the order and of push-pulls, still redialled for a day
//! ```
//!
//! To the rules of the protocol a buried member is unknown: it returns at any incarnation, as it
//! would to a memberlist node that has reaped it.

use super::member::{Announcement, Member, MemberState};
use crate::limits::MEMBERS_MAX;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::message::{NodeName, Vsn};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Below this many members for each one wanted, a shuffle picks them all; above, random draws do.
const SHUFFLE_BELOW: usize = 3;

/// Everyone we know. At most [`MEMBERS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Members {
    by_name: BTreeMap<NodeName, Member>,
    by_addr: BTreeSet<(SocketAddr, NodeName)>,
    order: Vec<NodeName>,
    cursor: usize,
    buried: BTreeSet<(Instant, NodeName)>,
    n_in_state: [usize; 4],
}

/// There is room for no more members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Members {
    /// Adds a member the protocol does not know, as dead, for [`Members::accept`] to fill in. A
    /// buried one of that name is replaced. When full, the longest buried is forgotten and
    /// returned.
    pub(super) fn add(
        &mut self,
        announcement: &Announcement,
        vsn: Vsn,
        now: Instant,
        rng: &mut Rng,
    ) -> Result<Option<NodeName>, Full> {
        let name = &announcement.name;
        debug_assert!(self.known(name).is_none(), "{name:?} is known");
        let mut forgotten = None;
        if self.forget(name).is_none() && self.by_name.len() >= MEMBERS_MAX {
            let (_, longest) = self.buried.first().ok_or(Full)?;
            let longest = longest.clone();
            self.forget(&longest);
            forgotten = Some(longest);
        }
        let member = Member {
            name: name.clone(),
            addr: announcement.addr.clone(),
            port: announcement.port,
            socket_addr: announcement.socket_addr,
            meta: announcement.meta.clone(),
            vsn,
            incarnation: 0,
            state: MemberState::Dead,
            state_change: now,
            udp_blocked: false,
            vsn_announced: false,
            buried: false,
        };
        self.by_addr.insert((member.socket_addr, name.clone()));
        self.n_in_state[member.state as usize] += 1;
        self.by_name.insert(name.clone(), member);
        self.order.push(name.clone());
        let last = self.order.len() - 1;
        let elsewhere = rng.below(last);
        self.order.swap(elsewhere, last);
        Ok(forgotten)
    }

    /// A known member becomes what it announced, alive.
    pub(super) fn accept(&mut self, announcement: &Announcement, now: Instant) {
        let Some(member) = self.by_name.get_mut(&announcement.name) else { return };
        if member.socket_addr != announcement.socket_addr {
            self.by_addr.remove(&(member.socket_addr, member.name.clone()));
            self.by_addr.insert((announcement.socket_addr, member.name.clone()));
        }
        member.addr = announcement.addr.clone();
        member.port = announcement.port;
        member.socket_addr = announcement.socket_addr;
        member.meta = announcement.meta.clone();
        member.incarnation = announcement.incarnation;
        if let Some(vsn) = announcement.vsn {
            member.vsn = vsn;
            member.vsn_announced = true;
        }
        self.enter(&announcement.name, MemberState::Alive, now);
    }

    /// A known member is suspected, dead or gone at `incarnation`.
    pub(super) fn accuse(
        &mut self,
        name: &NodeName,
        incarnation: u32,
        state: MemberState,
        now: Instant,
    ) {
        let Some(member) = self.by_name.get_mut(name) else { return };
        member.incarnation = incarnation;
        self.enter(name, state, now);
    }

    /// Changes what goes without a change of state or address: our own incarnation, meta and
    /// versions, or how a member was reached.
    pub(super) fn renew(&mut self, name: &NodeName, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.by_name.get_mut(name) {
            let fixed = (member.state, member.socket_addr, member.buried);
            change(member);
            debug_assert_eq!(fixed, (member.state, member.socket_addr, member.buried));
        }
    }

    /// Those who announced no versions are assumed to speak what we speak.
    pub(super) fn assume_versions(&mut self, vsn: Vsn) {
        for member in self.by_name.values_mut().filter(|member| !member.vsn_announced) {
            member.vsn = vsn;
        }
    }

    fn enter(&mut self, name: &NodeName, state: MemberState, now: Instant) {
        let Some(member) = self.by_name.get_mut(name) else { return };
        if member.state != state {
            self.n_in_state[member.state as usize] -= 1;
            self.n_in_state[state as usize] += 1;
            member.state = state;
            member.state_change = now;
        }
    }

    /// Walks the probe order one step. `None` at its end: then it is time for
    /// [`Members::reset`].
    pub(super) fn step(&mut self) -> Option<&Member> {
        let name = self.order.get(self.cursor)?;
        self.cursor += 1;
        self.by_name.get(name)
    }

    /// Shuffles the probe order and starts it anew. Those dead or gone for longer than `keep`
    /// leave it: the dead for the graveyard; the gone are forgotten and returned. `me` stays.
    pub(super) fn reset(
        &mut self,
        me: &NodeName,
        now: Instant,
        keep: Duration,
        rng: &mut Rng,
    ) -> Vec<NodeName> {
        let mut order = std::mem::take(&mut self.order);
        let mut gone = Vec::new();
        order.retain(|name| {
            let Some(member) = self.by_name.get_mut(name) else { return false };
            let recent = now.since(member.state_change) <= keep;
            if member.is_present() || recent || name == me {
                return true;
            }
            if member.state == MemberState::Dead {
                member.buried = true;
                self.buried.insert((member.state_change, name.clone()));
            } else {
                gone.push(name.clone());
            }
            false
        });
        self.order = order;
        for name in &gone {
            self.forget(name);
        }
        rng.shuffle(&mut self.order);
        self.cursor = 0;
        gone
    }

    /// Forgets a member that is not in the probe order (any more).
    pub(super) fn forget(&mut self, name: &NodeName) -> Option<Member> {
        let member = self.by_name.remove(name)?;
        self.by_addr.remove(&(member.socket_addr, name.clone()));
        self.buried.remove(&(member.state_change, name.clone()));
        self.n_in_state[member.state as usize] -= 1;
        Some(member)
    }

    /// Those dead for longer than `keep` are forgotten and returned.
    pub(super) fn forget_buried(&mut self, now: Instant, keep: Duration) -> Vec<NodeName> {
        let mut forgotten = Vec::new();
        while let Some((since, name)) = self.buried.first()
            && now.since(*since) > keep
        {
            let name = name.clone();
            self.forget(&name);
            forgotten.push(name);
        }
        forgotten
    }

    /// The member of that name, the buried included.
    pub(super) fn get(&self, name: &NodeName) -> Option<&Member> {
        self.by_name.get(name)
    }

    /// The member of that name, if the protocol knows it.
    pub(super) fn known(&self, name: &NodeName) -> Option<&Member> {
        self.get(name).filter(|member| !member.buried)
    }

    /// Everyone by name, the buried included.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_name.values()
    }

    /// Everyone the protocol knows, by name.
    pub(super) fn iter_known(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| !member.buried)
    }

    /// How many the protocol knows: the `n` of every formula.
    pub(super) fn n_known(&self) -> usize {
        self.order.len()
    }

    pub(super) fn n_in(&self, state: MemberState) -> usize {
        self.n_in_state[state as usize]
    }

    /// Those whose address this is or was.
    pub(super) fn at(&self, addr: SocketAddr) -> impl Iterator<Item = &Member> {
        self.by_addr
            .range((addr, NodeName::default())..)
            .take_while(move |(at, _)| *at == addr)
            .filter_map(|(_, name)| self.by_name.get(name))
    }

    /// Up to `wanted` different known members that `fits` accepts, at random: as memberlist
    /// does, exhaustively where they are few, else by at most `3n` draws.
    pub(super) fn pick(
        &self,
        wanted: usize,
        rng: &mut Rng,
        fits: impl Fn(&Member) -> bool,
    ) -> Vec<&Member> {
        let n = self.order.len();
        let mut picked: Vec<&Member> = Vec::with_capacity(wanted.min(n));
        if n < SHUFFLE_BELOW * wanted {
            let mut places: Vec<usize> = (0..n).collect();
            rng.shuffle(&mut places);
            let members = places.into_iter().filter_map(|at| self.by_name.get(&self.order[at]));
            picked.extend(members.filter(|member| fits(member)).take(wanted));
            return picked;
        }
        for _ in 0..SHUFFLE_BELOW * n {
            if picked.len() >= wanted {
                break;
            }
            if let Some(member) = self.by_name.get(&self.order[rng.below(n)])
                && fits(member)
                && !picked.iter().any(|other| other.name == member.name)
            {
                picked.push(member);
            }
        }
        picked
    }

    /// One dead member at random, buried or not.
    pub(super) fn pick_dead(&self, rng: &mut Rng) -> Option<&Member> {
        let n_dead = self.n_in(MemberState::Dead);
        if n_dead == 0 {
            return None;
        }
        let nth = rng.below(n_dead);
        self.iter().filter(|member| member.state == MemberState::Dead).nth(nth)
    }

    /// Whether every index agrees with the table. For tests.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut n_in_state = [0; 4];
        let order: BTreeSet<&NodeName> = self.order.iter().collect();
        for (name, member) in &self.by_name {
            n_in_state[member.state as usize] += 1;
            if *name != member.name || !self.by_addr.contains(&(member.socket_addr, name.clone())) {
                return Err(format!("{name:?} is not where it should be"));
            }
            let buried = self.buried.contains(&(member.state_change, name.clone()));
            if order.contains(name) == member.buried || buried != member.buried {
                return Err(format!("{name:?} is buried: {buried}, marked {}", member.buried));
            }
            if member.buried && member.state != MemberState::Dead || member.incarnation == 0 {
                return Err(format!("{member:?} cannot be"));
            }
        }
        let n_indexed = (self.by_addr.len(), self.order.len() + self.buried.len());
        if n_indexed != (self.by_name.len(), self.by_name.len()) || n_in_state != self.n_in_state {
            return Err(format!("{} members, {n_indexed:?} indexed", self.by_name.len()));
        }
        Ok(())
    }
}
