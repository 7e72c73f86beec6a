//! How far a node has come: what its digests tell of it, and what follows from that for others.

use crate::node::command::Health;
use crate::time::Instant;

/// How far a node has come, as its digests tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has never been ready: it holds at most what clients have written to it.
    New,
    /// Ready, as a founder of whom nobody has copied yet.
    Founded,
    /// Ready in a cluster of several: with a complete copy of a ready node's store, or as the
    /// founder that has given one.
    Copied,
    /// It holds data, and says at present that it is not ready.
    Hidden,
    /// It is ready and about to end: a first copy is taken from it only where nobody else has one
    /// to give, and it is nobody's heir.
    Leaving,
    /// It is about to end, and is not ready.
    Ending,
}

impl Stage {
    /// The stage as a digest carries it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Stage::New => 0,
            Stage::Founded => 1,
            Stage::Copied => 2,
            Stage::Hidden => 3,
            Stage::Leaving => 4,
            Stage::Ending => 5,
        }
    }

    /// What a digest's code stands for. One from a later version counts as hidden, which is never
    /// copied from.
    #[must_use]
    pub fn of(code: u8) -> Stage {
        match code {
            0 => Stage::New,
            1 => Stage::Founded,
            2 => Stage::Copied,
            4 => Stage::Leaving,
            5 => Stage::Ending,
            _ => Stage::Hidden,
        }
    }

    /// Whether a node of this stage is ready, and means to stay.
    #[must_use]
    pub fn is_ready(self) -> bool {
        matches!(self, Stage::Founded | Stage::Copied)
    }

    /// Whether a first copy may be taken from a node of this stage.
    #[must_use]
    pub(in crate::node) fn has_copies(self) -> bool {
        self.is_ready() || self == Stage::Leaving
    }
}

/// What it is doing about its first copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) enum State {
    New,
    Copying { retry_at: Instant, since: Instant },
    Resetting,
    Ready,
}

/// Where this node stands.
#[derive(Debug)]
pub(in crate::node) struct Readiness {
    pub(in crate::node) state: State,
    pub(in crate::node) has_founded: bool,
    /// It has taken a complete first copy.
    pub(in crate::node) has_copied: bool,
    /// It has given one: its cluster is more than this node.
    pub(in crate::node) has_served: bool,
    /// It is about to end.
    pub(in crate::node) is_leaving: bool,
    /// It goes on as another run, and has not compared its store yet.
    pub(in crate::node) was_set_back: bool,
    /// It may not begin a first copy.
    pub(in crate::node) is_held: bool,
}

impl Readiness {
    pub(in crate::node) fn new() -> Readiness {
        Readiness {
            state: State::New,
            has_founded: false,
            has_copied: false,
            has_served: false,
            is_leaving: false,
            was_set_back: false,
            is_held: false,
        }
    }

    /// Takes this node for one that has long been ready.
    pub(in crate::node) fn assume(&mut self) {
        *self = Readiness { state: State::Ready, has_copied: true, ..Readiness::new() };
    }

    pub(in crate::node) fn health(&self) -> Health {
        if self.state == State::Ready { Health::Ok } else { Health::Starting }
    }

    /// Whether a pull from a ready peer would be a first copy.
    pub(in crate::node) fn wants_copy(&self) -> bool {
        matches!(self.state, State::New | State::Copying { .. })
    }

    pub(in crate::node) fn has_been_ready(&self) -> bool {
        self.has_founded || self.has_copied
    }

    /// Whether this node has never been ready, and no first copy is under way.
    pub(in crate::node) fn is_new(&self) -> bool {
        self.state == State::New
    }

    /// Whether this node has slept past forgotten deletes and compares its store with a peer's.
    pub(in crate::node) fn is_resetting(&self) -> bool {
        self.state == State::Resetting
    }

    /// How far it has come, as it tells others.
    pub(in crate::node) fn stage(&self) -> Stage {
        match self.state {
            State::Ready if self.is_leaving => Stage::Leaving,
            _ if self.is_leaving => Stage::Ending,
            State::Ready if self.has_copied || self.has_served => Stage::Copied,
            State::Ready => Stage::Founded,
            _ if self.has_been_ready() => Stage::Hidden,
            State::Resetting => Stage::Hidden,
            State::New | State::Copying { .. } => Stage::New,
        }
    }

    pub(in crate::node) fn deadline(&self) -> Instant {
        match self.state {
            State::Copying { retry_at, .. } => retry_at,
            State::New | State::Resetting | State::Ready => Instant::NEVER,
        }
    }
}
