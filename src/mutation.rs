//! Deliberate bugs, to see that the simulator's checks find them.
//!
//! A program built without the feature `mutations` has none of this: `mutated!` is the constant
//! `false` there. With the feature each thread may have one bug switched on.

/// Whether this thread is to have the bug of this name: `false` without the feature `mutations`.
macro_rules! mutated {
    ($bug:ident) => {{
        #[cfg(feature = "mutations")]
        let on = $crate::mutation::is_on($crate::mutation::Mutation::$bug);
        #[cfg(not(feature = "mutations"))]
        let on = false;
        on
    }};
}
pub(crate) use mutated;

#[cfg(feature = "mutations")]
pub use on::{MUTATIONS, Mutation, is_on, switch};

#[cfg(feature = "mutations")]
mod on {
    use std::cell::Cell;

    /// One deliberate bug.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Mutation {
        /// Merging: a live record replaces a tombstone whatever their versions.
        TombstoneCompare,
        /// Merging: of two versions of one time the first to arrive stays.
        TieBreak,
        /// Expiring: what is left gets a stamp of its own, that of the expiry.
        ExpiryStamp,
        /// Expiring: what is left is no record that beats anything older: it is dropped.
        ExpiryDrops,
        /// Expiring: of one write in two forms the greater bytes stay.
        ExpiryForm,
        /// Expiring: a key that was renewed goes when it would have without that.
        SweepRenewed,
        /// Writing: the version of what is replaced is not looked at.
        WriteFloor,
        /// Clock: a stamp far ahead is followed.
        FarAhead,
        /// Clock: it follows the wall clock back.
        ClockBack,
        /// Readiness: a first copy is taken from, and served by, a node that is not ready.
        CopyFromAnybody,
        /// Readiness: a founder never joins a cluster that was founded apart.
        NeverYield,
        /// Founding: on silence, whatever discovery saw.
        FoundOnSilence,
        /// Sweep: a tombstone is forgotten when its grace is over, whoever lacks it.
        ForgetEarly,
        /// Receiving: a copy from before a forgotten delete is taken.
        Resurrect,
        /// Pull: the end of the copy claims one write more than was sent.
        ClaimMore,
        /// Pull: tombstones are left out of the copy.
        CopyLiveOnly,
        /// Gaps: nothing that is missing is asked for.
        NeverAsk,
        /// Acknowledging: up to the highest write seen instead of the first gap.
        AckPastGap,
        /// Folding: origins are never folded.
        NeverFold,
        /// Folding: every member counts as holding what was folded, whatever it has said.
        FoldForAll,
        /// Folding: a member that was folded while it was cut off stays so.
        StayFolded,
        /// Pull: the marks of forgotten deletes do not go with the copy.
        LoseMarks,
        /// Reset: it ends before all shards have been compared.
        ResetEarly,
        /// Reset: compared with any ready peer, be it another that has slept.
        WalkWithAnybody,
        /// Comparing: a tombstone that a peer has forgotten sooner is dropped.
        DropTombstones,
        /// Sweep: deletes held past a lost write stay where they are.
        LeaveStranded,
        /// Datagrams: filled past their budget.
        OverBudget,
        /// Push-pull: our digest is told to members not of our kind.
        TellForeign,
        /// Digests: told fifty times a second.
        Chatty,
        /// Resending: a deadline that is not served, so that the node spins.
        Spin,
        /// Membership: another member's incarnation is raised in its name.
        RaiseOthers,
        /// Membership: an accusation of ourselves is not refuted.
        NeverRefute,
        /// Membership: a suspicion never ends.
        NeverBury,
        /// Packets: another cluster's label is accepted.
        AnyLabel,
        /// Formats: every message goes out as it was made, whatever its receiver reads.
        NewestToAll,
        /// Formats: a member that shares none with us counts as a peer.
        CountIncompatible,
        /// Readiness: the first copy never counts as complete.
        NeverReady,
        /// Watching: a reader that comes back is told of no deletes.
        WatchNoDeletes,
        /// Watching: a token says as seen what is held past a gap.
        WatchClaimMore,
        /// Watching: a token is never too old.
        WatchNeverReset,
        /// Watching: an expiry counts as seen with its write.
        WatchNoExpiry,
    }

    /// All of them, by name.
    pub const MUTATIONS: [(&str, Mutation); 41] = [
        ("tombstone-compare", Mutation::TombstoneCompare),
        ("tie-break", Mutation::TieBreak),
        ("expiry-gets-own-stamp", Mutation::ExpiryStamp),
        ("older-returns", Mutation::ExpiryDrops),
        ("expiry-is-a-coin", Mutation::ExpiryForm),
        ("renewal-is-late", Mutation::SweepRenewed),
        ("write-floor", Mutation::WriteFloor),
        ("far-ahead", Mutation::FarAhead),
        ("clock-back", Mutation::ClockBack),
        ("forget-early", Mutation::ForgetEarly),
        ("resurrect", Mutation::Resurrect),
        ("claim-more", Mutation::ClaimMore),
        ("copy-live-only", Mutation::CopyLiveOnly),
        ("never-ask", Mutation::NeverAsk),
        ("ack-past-gap", Mutation::AckPastGap),
        ("never-fold", Mutation::NeverFold),
        ("fold-for-all", Mutation::FoldForAll),
        ("stay-folded", Mutation::StayFolded),
        ("lose-marks", Mutation::LoseMarks),
        ("reset-early", Mutation::ResetEarly),
        ("walk-with-anybody", Mutation::WalkWithAnybody),
        ("drop-tombstones", Mutation::DropTombstones),
        ("leave-stranded", Mutation::LeaveStranded),
        ("over-budget", Mutation::OverBudget),
        ("tell-foreign", Mutation::TellForeign),
        ("chatty", Mutation::Chatty),
        ("spin", Mutation::Spin),
        ("raise-others", Mutation::RaiseOthers),
        ("never-refute", Mutation::NeverRefute),
        ("never-bury", Mutation::NeverBury),
        ("any-label", Mutation::AnyLabel),
        ("newest-to-all", Mutation::NewestToAll),
        ("count-incompatible", Mutation::CountIncompatible),
        ("never-ready", Mutation::NeverReady),
        ("copy-from-anybody", Mutation::CopyFromAnybody),
        ("never-yield", Mutation::NeverYield),
        ("found-on-silence", Mutation::FoundOnSilence),
        ("watch-no-deletes", Mutation::WatchNoDeletes),
        ("watch-claim-more", Mutation::WatchClaimMore),
        ("watch-never-reset", Mutation::WatchNeverReset),
        ("watch-no-expiry", Mutation::WatchNoExpiry),
    ];

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Switches this thread's bug.
    pub fn switch(mutation: Option<Mutation>) {
        ON.set(mutation);
    }

    /// Whether this thread has this bug.
    #[must_use]
    pub fn is_on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }
}
