//! How often members that are slow have others accused who answer: with Lifeguard, and without.
//!
//! Two kinds of slow. A *stopped* member has no processor: nothing of it runs, its timers neither.
//! A *held* one does not get its messages in or out in time while its timers fire, so that it
//! sees silence everywhere: that is the anomaly of the Lifeguard paper (Dadgar, Phillips, Currey,
//! DSN-W 2018, section V), whose grid of lengths and pauses this is.

use super::mesh::{Mesh, name};
use crate::rng::Rng;
use crate::swim::Config;
use crate::swim::io::Event;
use crate::time::Instant;
use std::time::Duration;

/// Members in each measurement.
pub const MEMBERS: usize = 100;

/// What the slow members suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// Stopped for up to this long, and up to so long at work between.
    Stopped(Duration, Duration),
    /// Messages held for this long, all at once, and so long between.
    Held(Duration, Duration),
}

/// Members declared dead that were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accused {
    /// Healthy members declared dead, by anybody.
    pub innocent: u64,
    /// Of these declarations, those made at healthy members.
    pub innocent_at_healthy: u64,
    /// Slow members declared dead at healthy members: they do answer, too late.
    pub slow: u64,
}

impl std::ops::AddAssign for Accused {
    fn add_assign(&mut self, more: Accused) {
        self.innocent += more.innocent;
        self.innocent_at_healthy += more.innocent_at_healthy;
        self.slow += more.slow;
    }
}

/// LAN timing, with Lifeguard or with plain SWIM's fixed timeouts.
fn timing(lifeguard: bool) -> Config {
    let mut config = Config::lan();
    if !lifeguard {
        config.awareness_max = 1;
        config.suspicion_max_mult = 1;
    }
    config
}

/// [`MEMBERS`] members of which `n_slow` are slow again and again for `span`.
#[must_use]
pub fn slow_members(
    n_slow: usize,
    slow: Slow,
    lifeguard: bool,
    span: Duration,
    rng_seed: u64,
) -> Accused {
    let mut rng = Rng::from_seed(rng_seed);
    let mut mesh = Mesh::settled(MEMBERS, &timing(lifeguard), rng.next_u64());
    mesh.run_until(mesh.now + Duration::from_secs(3));
    mesh.events.clear();
    let end = mesh.now + span;
    // What begins or ends when, for whom.
    let first = |rng: &mut Rng| match slow {
        Slow::Stopped(most, _) => rng.duration_below(most),
        Slow::Held(..) => Duration::ZERO,
    };
    let mut turns: Vec<(Instant, usize, bool)> =
        (0..n_slow).map(|index| (mesh.now + first(&mut rng), index, true)).collect();
    while let Some((at, index, begins)) = turns.iter().min().copied().filter(|turn| turn.0 < end) {
        mesh.run_until(at);
        let lasts = match slow {
            Slow::Stopped(stopped, between) => {
                mesh.block(index, begins);
                rng.duration_below(if begins { stopped } else { between })
            }
            Slow::Held(held, between) => {
                mesh.mute(index, begins);
                if begins { held } else { between }
            }
        };
        turns.retain(|turn| turn.1 != index);
        turns.push((at + lasts, index, !begins));
    }
    mesh.run_until(end);
    count(&mesh, n_slow)
}

fn count(mesh: &Mesh, n_slow: usize) -> Accused {
    let slow_names: Vec<String> = (0..n_slow).map(name).collect();
    let mut accused = Accused::default();
    for (_, at, event) in &mesh.events {
        let Event::Failed(dead) = event else { continue };
        let (dead_is_slow, at_slow) = (slow_names.contains(&dead.to_string()), *at < n_slow);
        accused.innocent += u64::from(!dead_is_slow);
        accused.innocent_at_healthy += u64::from(!dead_is_slow && !at_slow);
        accused.slow += u64::from(dead_is_slow && !at_slow);
    }
    accused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifeguard_has_few_accused_whose_accuser_hears_nothing() {
        let slow = Slow::Held(Duration::from_secs(16), Duration::from_secs(1));
        let run = |lifeguard| slow_members(4, slow, lifeguard, Duration::from_secs(60), 1);
        let (plain, with) = (run(false), run(true));
        assert!(plain.innocent > 0, "{plain:?}");
        assert!(with.innocent * 4 < plain.innocent, "{with:?} of {plain:?}");
    }
}
