//! What is missing or differs: found, asked for, copied, compared.

pub(super) mod absence;
pub(super) mod compare;
pub(super) mod digest;
pub(super) mod gaps;
pub(super) mod judge;
pub(super) mod leaves;
pub(super) mod marks;
pub(super) mod pull;
pub(super) mod ready;
pub(super) mod scrub;
pub(super) mod walk;
