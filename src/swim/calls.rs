//! Calls on one machine: whoever was restarted there hears at once of the members that know it.
//!
//! A node on loopback that looks for nobody founds a cluster at once, so members that know it from
//! before have to be quicker. They dial a member on loopback every [`CALL_EVERY`] while it is
//! suspected, dead or gone, or when a connection to it has broken, for [`CALL_FOR`] and until it
//! answers.
//! On a network none of this happens: there the founding rule leaves more time.

use super::exchange::Purpose;
use super::machine::Swim;
use super::timers::Timer;
use crate::limits::CALLS_MAX;
use crate::time::Instant;
use crate::wire::message::NodeName;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Time between two calls to one member.
const CALL_EVERY: Duration = Duration::from_millis(50);
/// How long a member is called.
const CALL_FOR: Duration = Duration::from_secs(3600);

/// Whom this node calls, and until when.
#[derive(Debug, Default)]
pub(super) struct Calls {
    until: BTreeMap<SocketAddr, Instant>,
}

impl Calls {
    /// The member there has answered, and stays.
    pub(super) fn answered(&mut self, addr: SocketAddr) {
        self.until.remove(&addr);
    }
}

impl Swim {
    /// Calls the member at `addr` until it answers, when it and this node are on loopback. With
    /// [`CALLS_MAX`] members to call, further ones are left to the redial of the dead.
    pub fn call(&mut self, now: Instant, addr: SocketAddr) {
        let on_loopback = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
        let me = self.me().socket_addr;
        let calls = &mut self.calls.until;
        if on_loopback(addr) && on_loopback(me) && addr != me && calls.len() < CALLS_MAX {
            calls.insert(addr, now + CALL_FOR);
            if !self.timers.is_set(&Timer::Call) {
                self.timers.set(Timer::Call, now + CALL_EVERY);
            }
        }
    }

    /// Calls the member of that name.
    pub(super) fn call_member(&mut self, now: Instant, name: &NodeName) {
        if let Some(addr) = self.member(name).map(|member| member.socket_addr) {
            self.call(now, addr);
        }
    }

    /// Dials everybody who is called and is not being dialled already.
    pub(super) fn call_tick(&mut self, now: Instant) {
        self.calls.until.retain(|_, until| now < *until);
        if self.calls.until.is_empty() || self.is_leaving() {
            return;
        }
        self.timers.set(Timer::Call, now + CALL_EVERY);
        let called: Vec<SocketAddr> = self.calls.until.keys().copied().collect();
        for addr in called {
            let name = self.members_at(addr).next().map(|member| member.name.clone());
            // One that has left is forgotten in the table, and may come back all the same.
            if !self.exchanges.dials(addr) {
                self.begin_push_pull(now, Purpose::Redial, addr, name, false);
            }
        }
    }
}
