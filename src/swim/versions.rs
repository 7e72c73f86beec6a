//! Protocol versions: which push-pulls go together, and which delegate version we speak.
//!
//! A push-pull is merged when any alive member in it and we understand each other; alive members
//! that do not fit are left out. memberlist asks that the versions of all members suit all others,
//! of every entry, dead or alive, and refuses everything because of one that does not. Without an
//! encryption key anybody can make a member up by one datagram, and so would keep every node that
//! starts out of its cluster. An entry that announces no versions, which counts as 0 there, is
//! assumed to speak what we speak, and passed on so.
//!
//! Delegate versions have no value that suits both a plain memberlist cluster (0 0 0) and a Serf
//! one (2 5 5). We understand 0 to 5, speak 0, and adopt what the cluster we meet speaks.

use super::lifecycle::next_incarnation;
use super::machine::Swim;
use super::member::{Member, MemberState};
use crate::wire::message::{Message, NodeName, PushNodeState, Vsn};

/// The state of an alive member as it travels.
const ALIVE: i64 = MemberState::Alive as i64;

/// Whether anything of what `remote` says may be merged: an alive member in it, other than us,
/// understands what we speak and speaks what we understand. A list that names none says nothing
/// that could not be merged. The error names the first one that does not fit.
pub(super) fn verify(me: &NodeName, own: Vsn, remote: &[PushNodeState]) -> Result<(), String> {
    let is_other = |state: &&PushNodeState| state.state == ALIVE && state.name != *me;
    let mut why = None;
    for state in remote.iter().filter(is_other) {
        match check(me, own, state) {
            Ok(()) => return Ok(()),
            Err(misfit) => why = why.or(Some(misfit)),
        }
    }
    why.map_or(Ok(()), Err)
}

/// Whether an entry is to be merged. What it says about ourselves counts, and that a member is not
/// alive; and that one is alive whose versions fit ours.
pub(super) fn fits(me: &NodeName, own: Vsn, state: &PushNodeState) -> bool {
    state.name == *me || state.state != ALIVE || check(me, own, state).is_ok()
}

/// Whether a member and we understand each other. One of our kind that speaks less than we do does:
/// it may not have heard of a version that was adopted, and our answer makes it follow.
fn check(me: &NodeName, own: Vsn, state: &PushNodeState) -> Result<(), String> {
    let Some(theirs) = announced(state).filter(|theirs| !is_presumed(*theirs, own)) else {
        return Ok(());
    };
    understands(own, &state.name, theirs)?;
    understands(theirs, me, own)
}

/// Whether one that announces `vsn` understands what `name` speaks.
fn understands(vsn: Vsn, name: &NodeName, speaks: Vsn) -> Result<(), String> {
    let Vsn { pmin, pmax, dmin, dmax, .. } = vsn;
    let Vsn { pcur, dcur, .. } = speaks;
    if !(pmin..=pmax).contains(&pcur) {
        return Err(format!("{name} speaks protocol {pcur}, not {pmin} to {pmax}"));
    }
    if !(dmin..=dmax).contains(&dcur) {
        return Err(format!("{name} speaks delegate protocol {dcur}, not {dmin} to {dmax}"));
    }
    Ok(())
}

/// The versions an entry announces, if it does: six bytes, and protocol 0 is none.
fn announced(state: &PushNodeState) -> Option<Vsn> {
    Vsn::from_bytes(state.vsn.as_ref()?).filter(|vsn| vsn.pmin != 0 && vsn.pcur != 0)
}

/// The delegate version to adopt when a member alive announces `theirs`: one that insists on more
/// than we speak, or one of our own kind that has adopted more before us.
fn adoptable(own: Vsn, theirs: Vsn) -> Option<u8> {
    let insists = theirs.dmin > own.dcur && (theirs.dmin..=theirs.dmax).contains(&theirs.dcur);
    let our_kind = (theirs.dmin, theirs.dmax) == (own.dmin, own.dmax);
    let within = theirs.dcur > own.dcur && theirs.dcur <= own.dmax;
    ((insists || our_kind) && within).then_some(theirs.dcur)
}

/// Whether `told` is what a member of our kind makes of `own` when it has adopted a version and
/// we have not yet: ours but for a later current one.
pub(super) fn is_presumed(own: Vsn, told: Vsn) -> bool {
    told == Vsn { dcur: told.dcur, ..own } && adoptable(own, told).is_some()
}

/// Writes into an entry of our kind what it will speak once it has our answer.
pub(super) fn presume(own: Vsn, state: &mut PushNodeState) {
    if announced(state).is_some_and(|vsn| is_presumed(vsn, own)) {
        state.vsn = Some(own.to_bytes());
    }
}

impl Swim {
    /// Adopts the delegate version of the cluster a push-pull comes from, unless an alive member in
    /// it could not follow. True when ours changed.
    pub(super) fn adopt_from_states(&mut self, remote: &[PushNodeState]) -> bool {
        let own = self.me().vsn;
        let alive = remote.iter().filter(|s| s.state == ALIVE && s.name != self.name);
        let alive: Vec<Vsn> = alive.filter_map(announced).collect();
        let dcur = alive.iter().filter_map(|theirs| adoptable(own, *theirs)).max();
        let all_follow = |dcur: &u8| alive.iter().all(|theirs| theirs.dmax >= *dcur);
        self.adopt(dcur.filter(all_follow))
    }

    /// Follows a member of our own kind that has adopted a delegate version. True when ours
    /// changed.
    pub(super) fn adopt_from_alive(&mut self, theirs: Vsn) -> bool {
        let own = self.me().vsn;
        theirs.dmin == own.dmin && self.adopt(adoptable(own, theirs))
    }

    /// Speaks `dcur` from now on, unless an alive member could not follow: a stranger's push-pull
    /// must not cut us off from our own cluster.
    fn adopt(&mut self, dcur: Option<u8>) -> bool {
        let Some(dcur) = dcur else { return false };
        let follows =
            |member: &Member| member.state != MemberState::Alive || member.vsn.dmax >= dcur;
        if self.is_leaving() || !self.members.iter_known().all(follows) {
            return false;
        }
        self.members.renew(&self.name, |me| {
            me.vsn.dcur = dcur;
            me.incarnation = next_incarnation(me.incarnation, 0);
        });
        let changed = self.members.assume_versions(self.me().vsn);
        self.announce();
        self.reword(&changed);
        true
    }

    /// Tells anew what is still waiting to be told of these: a rumor in the old version that
    /// overtakes our answer makes the member that insists refuse it.
    fn reword(&mut self, changed: &[NodeName]) {
        for name in changed {
            if !self.broadcasts.tells_of(name) {
                continue;
            }
            let member = self.members.known(name);
            let alive = member.filter(|member| member.state == MemberState::Alive);
            if let Some(rumor) = alive.map(|member| Message::Alive(member.to_alive())) {
                self.broadcast(name, &rumor, false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vsn(dmin: u8, dmax: u8, dcur: u8) -> Vsn {
        Vsn { pmin: 1, pmax: 5, pcur: 2, dmin, dmax, dcur }
    }

    #[test]
    fn a_cluster_that_insists_is_followed() {
        let own = vsn(0, 5, 0);
        for (theirs, expected) in [
            (vsn(0, 0, 0), None),
            (vsn(2, 5, 5), Some(5)),
            (vsn(2, 5, 4), Some(4)),
            (vsn(2, 9, 9), None),
            (vsn(6, 9, 6), None),
            (vsn(0, 5, 4), Some(4)),
            (vsn(0, 5, 0), None),
            (vsn(2, 5, 6), None),
        ] {
            assert_eq!(adoptable(own, theirs), expected, "{theirs:?}");
        }
        assert_eq!(adoptable(vsn(0, 5, 4), vsn(2, 5, 5)), None, "4 will do");
    }

    fn state(name: &str, state: MemberState, vsn: &'static [u8]) -> PushNodeState {
        PushNodeState {
            name: name.into(),
            state: state as i64,
            vsn: Some(bytes::Bytes::from_static(vsn)),
            ..PushNodeState::default()
        }
    }

    #[test]
    fn who_fits_is_merged_whoever_else_is_named() {
        let me: NodeName = "me".into();
        let own = vsn(0, 5, 0);
        let plain = || state("plain", MemberState::Alive, &[1, 5, 2, 0, 0, 0]);
        let serf = || state("serf", MemberState::Alive, &[1, 5, 2, 2, 5, 5]);
        let alone = |state: PushNodeState| verify(&me, own, &[state]);
        assert_eq!(alone(plain()), Ok(()));
        let refused = |why: &str| Err(why.to_owned());
        assert_eq!(alone(serf()), refused("me speaks delegate protocol 0, not 2 to 5"));
        let odd = |bytes| state("odd", MemberState::Alive, bytes);
        for (bytes, why) in [
            (&[1, 5, 2, 2, 5, 174], "odd speaks delegate protocol 174, not 0 to 5"),
            (&[1, 5, 7, 0, 5, 0], "odd speaks protocol 7, not 1 to 5"),
            (&[3, 5, 3, 0, 5, 0], "me speaks protocol 2, not 3 to 5"),
            (&[1, 1, 1, 0, 5, 0], "me speaks protocol 2, not 1 to 1"),
        ] {
            assert_eq!(alone(odd(bytes)), refused(why));
            let both = [odd(bytes), plain()];
            assert_eq!(verify(&me, own, &both), Ok(()), "one that was made up stops nothing");
            assert_eq!(both.map(|state| fits(&me, own, &state)), [false, true]);
        }
        let silent = [
            state("none", MemberState::Dead, &[]),
            state("zeros", MemberState::Left, &[0; 6]),
            state("short", MemberState::Alive, &[1, 5, 2]),
            state("me", MemberState::Alive, &[1, 5, 2, 2, 5, 5]),
            state("old", MemberState::Dead, &[1, 5, 7, 0, 0, 0]),
        ];
        assert_eq!(verify(&me, own, &silent), Ok(()), "what says nothing stops nothing");
        assert!(silent.iter().all(|state| fits(&me, own, state)));
        assert_eq!(verify(&me, own, &silent[3..]), Ok(()), "nobody else is alive");
        let late = state("late", MemberState::Alive, &[1, 5, 2, 0, 5, 0]);
        assert_eq!(verify(&me, vsn(0, 5, 5), &[late]), Ok(()), "one of our kind will follow");
    }
}
