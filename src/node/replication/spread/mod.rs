//! Writes on their way: out to the others, and until enough of them hold them.

pub(super) mod acks;
pub(super) mod backlog;
pub(super) mod handover;
pub(super) mod holders;
pub(super) mod push;
pub(super) mod resend;
pub(super) mod rumor;
pub(super) mod ways;
