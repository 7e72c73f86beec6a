//! The few private connections to tiny_http. This folder is all that tiny_http costs.
//!
//! ```text
//! gate            lanes                                              routes
//!  |   Job                                                             |
//!  |-------> Lane ==(line: one connection)==> tiny_http --> worker --> Handler
//!  |   Answer  |                                              | ^
//!  |<----------|--- long bodies: a channel, in order ---------|-'
//!              `<============= answers, in order =============`
//! ```
//!
//! - [`pool`]: all lanes; which of them a request takes, and whether each is alive.
//! - [`lane`]: the gate's end of one: many clients share it, and none is waited for.
//! - `line`: the connection between them, proven to be private; [`secret`] is its password.
//! - [`worker`]: the only file that names tiny_http; it parses, and has the routes answer.

mod lane;
mod line;
mod pool;
mod secret;
#[cfg(test)]
mod tests;
mod worker;

pub(super) use lane::{Answer, COPIED_BODY_LEN_MAX, Ending, Job};
pub(super) use line::Upstream;
pub(super) use pool::Lanes;
pub(super) use worker::{BODY_OUT_OF_BAND, Worker};
