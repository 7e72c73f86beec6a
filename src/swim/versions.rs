//! Protocol versions: which push-pulls go together, and which delegate version we speak.
//!
//! A push-pull is merged only when every member's current version lies within what every alive
//! member understands. A member that announces no versions would count as 0 there and stop all
//! push-pulls of those who know it (as it does among Go nodes); we leave such an entry out of the
//! comparison, assume that it speaks what we speak, and pass it on so.
//!
//! Delegate versions have no value that suits both a plain memberlist cluster (0 0 0) and a Serf
//! one (2 5 5). We understand 0 to 5, speak 0, and adopt what the cluster we meet speaks.

use super::lifecycle::next_incarnation;
use super::machine::Swim;
use super::member::{Member, MemberState};
use super::members::Members;
use crate::wire::message::{Message, NodeName, PushNodeState, Vsn};

/// What all alive members understand.
#[derive(Debug, Clone, Copy)]
struct Common {
    p: (u8, u8),
    d: (u8, u8),
}

impl Common {
    fn narrow(&mut self, vsn: Vsn) {
        self.p = (self.p.0.max(vsn.pmin), self.p.1.min(vsn.pmax));
        self.d = (self.d.0.max(vsn.dmin), self.d.1.min(vsn.dmax));
    }

    fn check(&self, name: &NodeName, vsn: Vsn) -> Result<(), String> {
        let Common { p: (pmin, pmax), d: (dmin, dmax) } = *self;
        if !(pmin..=pmax).contains(&vsn.pcur) {
            return Err(format!("{name} speaks protocol {}, not {pmin} to {pmax}", vsn.pcur));
        }
        if !(dmin..=dmax).contains(&vsn.dcur) {
            let dcur = vsn.dcur;
            return Err(format!("{name} speaks delegate protocol {dcur}, not {dmin} to {dmax}"));
        }
        Ok(())
    }
}

/// Whether what `remote` says may be merged with what we know. What it says about ourselves does
/// not count, nor that one of our kind speaks less than we do: both may be from before a version
/// was adopted, and our answer makes the other adopt it.
pub(super) fn verify(
    me: &NodeName,
    own: Vsn,
    members: &Members,
    remote: &[PushNodeState],
) -> Result<(), String> {
    let mut common = Common { p: (0, u8::MAX), d: (0, u8::MAX) };
    let others = || {
        remote
            .iter()
            .filter(|state| state.name != *me)
            .filter_map(|state| Some((state, announced(state)?)))
    };
    let check = |common: Common, name, vsn| {
        if is_presumed(vsn, own) { Ok(()) } else { common.check(name, vsn) }
    };
    for (_, vsn) in others().filter(|(state, _)| state.state == MemberState::Alive as i64) {
        common.narrow(vsn);
    }
    for member in members.iter_known().filter(|member| member.state == MemberState::Alive) {
        common.narrow(member.vsn);
    }
    for (state, vsn) in others() {
        check(common, &state.name, vsn)?;
    }
    members.iter_known().try_for_each(|member| check(common, &member.name, member.vsn))
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

/// Writes into an entry of our kind what it will speak once it has our answer. Only of states that
/// `verify` has let through: then no member alive keeps it from following.
pub(super) fn presume(own: Vsn, state: &mut PushNodeState) {
    if announced(state).is_some_and(|vsn| is_presumed(vsn, own)) {
        state.vsn = Some(own.to_bytes());
    }
}

impl Swim {
    /// Adopts the delegate version of the cluster a push-pull comes from. True when ours changed.
    pub(super) fn adopt_from_states(&mut self, remote: &[PushNodeState]) -> bool {
        let own = self.me().vsn;
        let dcur = remote
            .iter()
            .filter(|state| state.state == MemberState::Alive as i64 && state.name != self.name)
            .filter_map(|state| adoptable(own, announced(state)?))
            .max();
        self.adopt(dcur)
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
    fn every_current_version_must_suit_everyone_alive() {
        let verify_as =
            |own, states: &[PushNodeState]| verify(&"me".into(), own, &Members::default(), states);
        let verify = |states: &[PushNodeState]| verify_as(vsn(0, 5, 0), states);
        let plain = || state("plain", MemberState::Alive, &[1, 5, 2, 0, 0, 0]);
        let serf = || state("serf", MemberState::Alive, &[1, 5, 2, 2, 5, 5]);
        assert_eq!(verify(&[plain()]), Ok(()));
        assert_eq!(
            verify(&[plain(), serf()]),
            Err("plain speaks delegate protocol 0, not 2 to 0".to_owned())
        );
        let old = state("old", MemberState::Dead, &[1, 5, 7, 0, 0, 0]);
        assert_eq!(verify(&[plain(), old]), Err("old speaks protocol 7, not 1 to 5".to_owned()));
        let silent = [
            plain(),
            state("none", MemberState::Dead, &[]),
            state("zeros", MemberState::Left, &[0; 6]),
            state("short", MemberState::Alive, &[1, 5, 2]),
            state("me", MemberState::Alive, &[1, 5, 2, 2, 5, 5]),
        ];
        assert_eq!(verify(&silent), Ok(()), "what says nothing stops nothing");
        let late = [state("late", MemberState::Alive, &[1, 5, 2, 0, 5, 0]), serf()];
        let refused = Err("late speaks delegate protocol 0, not 2 to 5".to_owned());
        assert_eq!(verify(&late), refused, "we have adopted nothing either");
        assert_eq!(verify_as(vsn(0, 5, 5), &late), Ok(()), "one of our kind will follow");
    }
}
