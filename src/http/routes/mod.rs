//! Every route, answered.

pub mod concern;
pub mod context;
pub mod entry;
pub mod keys;
pub mod list;
pub mod members;
pub mod metrics;
pub mod page;
pub mod percent;
pub mod precondition;
