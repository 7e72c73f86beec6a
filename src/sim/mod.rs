//! The deterministic simulator: whole clusters in virtual time, through faults, from one seed.
//!
//! Reading order: [`options`] (what a seed draws), `start` (how it begins), [`run`] (chaos, then
//! calm), `faults`, `orchestrate`, `dns`, `workload` and `watch` (what happens), [`cluster`],
//! `conns`, [`host`] and [`network`] (the shell around the same [`crate::node::Node`] that runs in
//! production), [`history`], `standing` and [`check`] (the promises),
//! [`trace`]; then [`sweep`] (many seeds) and [`minimize`] (a smaller run that breaks too).
//! On a [`mesh`] of membership machines, [`measure`] and [`slowness`] hold SWIM to its papers;
//! [`settled`] begins a cluster for measuring replication.

pub mod check;
pub mod cluster;
mod conns;
mod counts;
mod dns;
mod faults;
pub mod foreign;
pub mod history;
pub mod host;
pub mod measure;
pub mod mesh;
pub mod minimize;
pub mod network;
pub mod options;
mod orchestrate;
pub mod run;
pub mod settled;
pub mod slowness;
mod standing;
mod start;
mod story;
pub mod sweep;
pub mod trace;
mod ttl;
mod watch;
mod workload;
