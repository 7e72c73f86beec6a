//! Telling rumors: in rounds to random members, and on the back of every other packet.

use super::io::{Output, Packet};
use super::machine::Swim;
use super::member::MemberState;
use super::scale;
use super::timers::Timer;
use crate::limits::COMPOUND_PARTS_MAX;
use crate::time::Instant;
use bytes::Bytes;
use std::time::Duration;

impl Swim {
    /// Arms the next round if there is something to tell and someone to tell it to. Rounds keep
    /// their phase, so an idle node sleeps through them.
    pub(super) fn gossip_when_needed(&mut self, now: Instant) {
        if self.broadcasts.is_empty()
            || self.members.n_known() < 2
            || self.config.gossip_interval.is_zero()
            || self.config.gossip_fanout == 0
            || self.timers.is_set(&Timer::Gossip)
        {
            return;
        }
        let at = next_round(self.gossip_phase, self.config.gossip_interval, now);
        self.timers.set(Timer::Gossip, at);
    }

    /// One round: a packet of rumors to each of some random members. The recently dead are among
    /// them, so that one declared dead wrongly hears of it; those who left are not.
    pub(super) fn gossip_tick(&mut self, now: Instant) {
        if self.broadcasts.is_empty() {
            return;
        }
        let dead_for_max = self.config.gossip_to_the_dead;
        let here = self.me().socket_addr;
        let receivers: Vec<_> = self
            .members
            .pick(self.config.gossip_fanout, &mut self.rng, |member| {
                member.socket_addr != here
                    && match member.state {
                        MemberState::Alive | MemberState::Suspect => true,
                        MemberState::Dead => now.since(member.state_change) <= dead_for_max,
                        MemberState::Left => false,
                    }
            })
            .into_iter()
            .map(|member| (member.socket_addr, member.name.clone(), member.checks_crc()))
            .collect();
        for (to, name, crc) in receivers {
            let parts = self.take_rumors(self.budget_len, COMPOUND_PARTS_MAX);
            if parts.is_empty() {
                return;
            }
            self.output(Output::Packet(Packet { to, member: Some(name), crc, parts }));
        }
    }

    /// Rumors for one packet with `room` bytes for parts, each counted as told once more.
    pub(super) fn take_rumors(&mut self, room: usize, parts_max: usize) -> Vec<Bytes> {
        let transmits_max =
            scale::retransmit_limit(self.config.retransmit_mult, self.members.n_known());
        self.broadcasts.take(room, parts_max, transmits_max)
    }
}

/// The first round after `now`, rounds being `interval` apart and one of them at `phase`.
fn next_round(phase: Instant, interval: Duration, now: Instant) -> Instant {
    if now < phase {
        return phase;
    }
    let interval_nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let into_round = (now.0 - phase.0) % interval_nanos;
    now + Duration::from_nanos(interval_nanos - into_round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_keep_their_phase() {
        let at = Instant::from_millis;
        let interval = Duration::from_millis(200);
        for (now, expected) in [(0, 50), (49, 50), (50, 250), (249, 250), (1000, 1050)] {
            assert_eq!(next_round(at(50), interval, at(now)), at(expected), "now = {now}");
        }
    }
}
