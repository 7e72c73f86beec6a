//! Letting go of what everybody holds, and of what nobody is missing.

pub(super) mod expiry;
pub(super) mod sweep;
pub(super) mod tails;
