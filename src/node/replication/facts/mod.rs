//! What all mechanisms share: who the peers are, what is known to be held, how far this node is.
//!
//! Facts know no mechanism, and nothing of what follows from them.

pub(super) mod batch;
pub(super) mod counters;
pub(super) mod floor;
pub(super) mod folds;
pub(super) mod grace;
pub(super) mod known;
pub(super) mod met;
pub(super) mod over;
pub(super) mod paths;
pub(super) mod peers;
pub(super) mod rtt;
pub(super) mod set_back;
pub(super) mod shared_folds;
pub(super) mod stage;
