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

use super::departed::Departed;
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
    /// Those that are in the table no more.
    pub(super) departed: Departed,
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
            self.depart(&longest, now);
            forgotten = Some(longest);
        }
        self.departed.remove(name);
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

    /// Those who announced no versions are assumed to speak what we speak; those of our kind
    /// follow us, and are passed on as if they had, because one entry that does not fit, a dead
    /// one even, is enough for a member that insists to refuse us all. Returns whose entry is
    /// another now.
    pub(super) fn assume_versions(&mut self, vsn: Vsn) -> Vec<NodeName> {
        let mut changed = Vec::new();
        for member in self.by_name.values_mut() {
            let before = member.vsn;
            let our_kind = (before.dmin, before.dmax) == (vsn.dmin, vsn.dmax);
            if !member.vsn_announced {
                member.vsn = vsn;
            } else if our_kind && before.dcur < vsn.dcur {
                member.vsn.dcur = vsn.dcur;
            }
            if member.vsn != before {
                changed.push(member.name.clone());
            }
        }
        changed
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
            self.depart(name, now);
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

    /// As [`forget`](Members::forget), and its incarnation is remembered.
    pub(super) fn depart(&mut self, name: &NodeName, now: Instant) {
        if let Some(member) = self.forget(name) {
            self.departed.remember(now, member.name, member.incarnation);
        }
    }

    /// The same of a member that is dead or gone, in the probe order or not.
    pub(super) fn depart_absent(&mut self, name: &NodeName, now: Instant) {
        debug_assert!(self.get(name).is_none_or(|member| !member.is_present()));
        if let Some(at) = self.order.iter().position(|known| known == name) {
            self.order.remove(at);
            self.cursor -= usize::from(at < self.cursor);
        }
        self.depart(name, now);
    }

    /// Those dead for longer than `keep` are forgotten and returned.
    pub(super) fn forget_buried(&mut self, now: Instant, keep: Duration) -> Vec<NodeName> {
        let mut forgotten = Vec::new();
        while let Some((since, name)) = self.buried.first()
            && now.since(*since) > keep
        {
            let name = name.clone();
            self.depart(&name, now);
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

    /// One member at random that is dead, buried or not, or gone: it may have been restarted.
    pub(super) fn pick_absent(&self, rng: &mut Rng) -> Option<&Member> {
        let n_absent = self.n_in(MemberState::Dead) + self.n_in(MemberState::Left);
        if n_absent == 0 {
            return None;
        }
        let nth = rng.below(n_absent);
        self.iter().filter(|member| !member.is_present()).nth(nth)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swim::VSN;
    use crate::wire::message::AddrBytes;
    use bytes::Bytes;

    const KEEP: Duration = Duration::from_secs(30);

    fn announcement(n: usize) -> Announcement {
        let addr = AddrBytes::from_ip(std::net::Ipv4Addr::from(0x0a00_0000 + n as u32).into());
        Announcement {
            name: format!("{n:05}").as_str().into(),
            incarnation: 1,
            socket_addr: addr.socket_addr(7946).expect("four bytes"),
            addr,
            port: 7946,
            meta: Bytes::new(),
            vsn: None,
        }
    }

    fn members(n: usize, rng: &mut Rng) -> Members {
        let mut members = Members::default();
        for n in 0..n {
            let announcement = announcement(n);
            assert_eq!(members.add(&announcement, VSN, Instant::ZERO, rng), Ok(None));
            members.accept(&announcement, Instant::ZERO);
        }
        members
    }

    fn name(n: usize) -> NodeName {
        announcement(n).name
    }

    #[test]
    fn every_member_is_probed_once_a_round_and_new_ones_enter_anywhere() {
        let rng = &mut Rng::from_seed(1);
        let mut members = members(9, rng);
        let mut rounds = BTreeSet::new();
        for _ in 0..20 {
            let mut round = Vec::new();
            while let Some(member) = members.step() {
                round.push(member.name.clone());
            }
            assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 9);
            rounds.insert(round);
            assert!(members.reset(&name(0), Instant::ZERO, KEEP, rng).is_empty());
        }
        assert!(rounds.len() > 15, "each round has an order of its own");
        let places: BTreeSet<usize> = (0..200)
            .map(|rng_seed| {
                let members = self::members(9, &mut Rng::from_seed(rng_seed));
                members.order.iter().position(|other| *other == name(8)).expect("it is there")
            })
            .collect();
        assert_eq!(places.len(), 8, "the last to come changes places with any other: {places:?}");
    }

    #[test]
    fn picks_are_different_members_that_fit() {
        let rng = &mut Rng::from_seed(2);
        for n in [1, 5, 8, 9, 100] {
            let members = members(n, rng);
            for _ in 0..100 {
                let picked = members.pick(3, rng, |member| member.name != name(0));
                let names: BTreeSet<&NodeName> = picked.iter().map(|m| &m.name).collect();
                assert_eq!(names.len(), picked.len());
                assert!(!names.contains(&name(0)));
                assert!(picked.len() == 3.min(n - 1) || n == 9, "{n}: {}", picked.len());
            }
        }
    }

    #[test]
    fn the_long_dead_are_buried_the_long_gone_forgotten() {
        let rng = &mut Rng::from_seed(3);
        let mut members = members(5, rng);
        let at = Instant::from_millis;
        members.accuse(&name(0), 1, MemberState::Left, at(0));
        members.accuse(&name(1), 1, MemberState::Dead, at(0));
        members.accuse(&name(2), 1, MemberState::Left, at(0));
        members.accuse(&name(3), 1, MemberState::Dead, at(5_000));
        assert_eq!(members.reset(&name(0), at(31_000), KEEP, rng), [name(2)]);
        assert_eq!(members.check(), Ok(()));
        assert_eq!(members.n_known(), 3, "we never forget ourselves");
        assert!(members.known(&name(1)).is_none());
        assert!(members.get(&name(1)).is_some_and(|member| member.buried));
        assert!(members.known(&name(3)).is_some());
        assert!(members.forget_buried(at(60_000), Duration::from_secs(60)).is_empty());
        assert_eq!(members.forget_buried(at(60_001), Duration::from_secs(60)), [name(1)]);
        assert_eq!(members.check(), Ok(()));
    }

    #[test]
    fn a_full_table_makes_room_by_forgetting_the_longest_buried_only() {
        let rng = &mut Rng::from_seed(4);
        let mut members = members(MEMBERS_MAX, rng);
        let newcomer = announcement(MEMBERS_MAX);
        assert_eq!(members.add(&newcomer, VSN, Instant::ZERO, rng), Err(Full));
        members.accuse(&name(7), 1, MemberState::Dead, Instant::from_millis(2));
        members.accuse(&name(9), 1, MemberState::Dead, Instant::from_millis(1));
        assert_eq!(members.add(&newcomer, VSN, Instant::ZERO, rng), Err(Full));
        members.reset(&name(0), Instant::from_millis(40_000), KEEP, rng);
        assert_eq!(members.add(&newcomer, VSN, Instant::ZERO, rng), Ok(Some(name(9))));
        members.accept(&newcomer, Instant::ZERO);
        assert_eq!(members.check(), Ok(()));
    }
}
