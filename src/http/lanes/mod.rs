//! The few private connections to tiny_http.

pub mod lane;
pub mod worker;
