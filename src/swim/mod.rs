//! Membership: SWIM with Lifeguard, as hashicorp/memberlist speaks it.
//!
//! Typed messages, times and randomness in; packets, exchanges and events out. Knows no key, no
//! byte layer and no socket.
//!
//! ```text
//!                 alive, higher incarnation (only the member itself raises it)
//!            +---------------------------------------------------------------+
//!            v                                                               |
//!         [Alive] -- probe failed, or accused --> [Suspect] -- timer, or --> [Dead] --> graveyard
//!            |                                        |         told dead     |         redialled
//!            +---- dead{from = itself} ---> [Left] <--+                       |         for a day
//!                                             |  reaped                       |
//!                                             v                               v
//!                                         forgotten                       forgotten
//! ```
//!
//! Reading order: [`machine`] (the four verbs), [`member`] and `members` (the table), `merge` (what
//! a rumor does to it), `probe` and `relay` (who answers), `suspicion` and `awareness`
//! (Lifeguard), `broadcast` and `gossip` (how rumors travel), `exchange` (push-pull),
//! `names` (two addresses, one name), `lifecycle` (join, leave, refute), `calls` (members restarted
//! on one machine). `docs/membership.md` has the rules with their reasons.

mod aliases;
pub mod awareness;
pub mod broadcast;
mod calls;
pub mod config;
mod departed;
mod exchange;
mod gossip;
pub mod io;
mod lifecycle;
pub mod machine;
pub mod member;
mod members;
mod merge;
mod names;
mod probe;
mod relay;
pub mod scale;
pub mod stats;
pub mod suspicion;
mod timers;
mod versions;

pub use config::Config;
pub use lifecycle::{ForgetError, Identity, VSN};
pub use machine::Swim;
pub use member::{Member, MemberState};
pub use stats::Stats;
