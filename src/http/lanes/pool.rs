//! All lanes: which of them a request takes, and whether each is alive.

use super::lane::{Answer, Job, Lane};
use super::line::{self, Upstream};
use super::secret::Secret;
use super::worker::{Kind, Worker};
use crate::http::request::Handler;
use crate::limits::{
    HTTP_BULK_DEPTH_MAX, HTTP_BULK_WAITING_MAX, HTTP_CONNECTIONS_HARD_MAX, HTTP_LANE_DEPTH_MAX,
};
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Most connections to tiny_http for quick requests, each with a thread to parse and one to answer.
const QUICK_MAX: usize = 4;
/// Connections for requests that take their time.
const N_BULK: usize = 2;
/// How often each lane is looked at, whether it is alive.
const PROOF_PERIOD: Duration = Duration::from_secs(5);
/// How often in a row its answers may have stood still.
const STILL_MAX: u32 = 6;

/// The gate's ends of all lanes.
pub(in crate::http) struct Lanes {
    secret: Secret,
    quick: Vec<Lane>,
    /// For lists and long bodies, so that what is quick does not wait behind them.
    bulk: Vec<Lane>,
}

impl Lanes {
    /// Starts a worker for each lane, and proves the connection to it. What is returned beside the
    /// lanes belongs to them in their order; [`Lane::run`] takes the upstream.
    ///
    /// # Errors
    /// A thread, a socket or random bytes were refused.
    pub(in crate::http) fn start(
        handler: &Arc<dyn Handler>,
    ) -> io::Result<(Lanes, Vec<(Worker, Upstream)>)> {
        let n_cores = std::thread::available_parallelism().map_or(2, NonZero::get);
        let n_quick = n_cores.clamp(2, QUICK_MAX);
        let secret = Secret::random()?;
        let ends = (0..n_quick + N_BULK)
            .map(|n| {
                let kind = if n < n_quick { Kind::Quick } else { Kind::Bulk };
                line::start(&format!("http-{n}"), &secret, handler, kind)
            })
            .collect::<io::Result<Vec<_>>>()?;
        // What is quick never waits long, and there are no more clients than connections.
        let quick = || Lane::new(HTTP_LANE_DEPTH_MAX, HTTP_CONNECTIONS_HARD_MAX);
        let bulk = || Lane::new(HTTP_BULK_DEPTH_MAX, HTTP_BULK_WAITING_MAX);
        let lanes = Lanes {
            secret,
            quick: std::iter::repeat_with(quick).take(n_quick).collect(),
            bulk: std::iter::repeat_with(bulk).take(N_BULK).collect(),
        };
        Ok((lanes, ends))
    }

    /// What tells the workers that a request comes from the gate.
    pub(in crate::http) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Every lane, in the order in which they were started.
    pub(in crate::http) fn all(&self) -> impl Iterator<Item = &Lane> {
        self.quick.iter().chain(&self.bulk)
    }

    /// The lane with the least to do.
    pub(in crate::http) fn least_loaded(&self, is_bulk: bool) -> &Lane {
        let lanes = if is_bulk { &self.bulk } else { &self.quick };
        let mut best = &lanes[0];
        let mut least = best.load();
        for lane in &lanes[1..] {
            if least == 0 {
                break;
            }
            let load = lane.load();
            if load < least {
                (best, least) = (lane, load);
            }
        }
        best
    }

    /// Looks at every lane, over and over, whether it is alive; returns when one is not.
    pub(in crate::http) async fn prove(&self) -> String {
        let mut looks: Vec<Look> = self.all().map(|_| Look::default()).collect();
        loop {
            tokio::time::sleep(PROOF_PERIOD).await;
            for (lane, look) in self.all().zip(&mut looks) {
                if look.at(lane, &self.secret) >= STILL_MAX {
                    let limit = (STILL_MAX * PROOF_PERIOD).as_secs();
                    return format!("an HTTP worker has been stuck for {limit} s");
                }
            }
        }
    }
}

/// What was seen of a lane when it was last looked at.
///
/// A lane is stuck when it has something to do and its answers stand still. However much waits, as
/// long as answers come it is alive. A lane with nothing to do is asked for a proof.
#[derive(Default)]
struct Look {
    answered: u64,
    n_still: u32,
    proof: Option<oneshot::Receiver<Answer>>,
}

impl Look {
    /// Looks again; returns how often in a row it has stood still.
    fn at(&mut self, lane: &Lane, secret: &Secret) -> u32 {
        let answered = lane.answered();
        let is_still = answered == self.answered && lane.load() > 0;
        self.n_still = if is_still { self.n_still + 1 } else { 0 };
        self.answered = answered;
        if lane.load() == 0 {
            // The last one has been answered, and this one is kept: it would be forgotten else.
            self.proof = lane.submit(Job { bytes: secret.proof(), ..Job::default() });
        }
        self.n_still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_stuck_when_its_answers_stand_still() {
        let (lane, secret) = (Lane::new(4, 4), Secret::new([7; 16]));
        let mut look = Look::default();
        // Nobody drives the lane, so its proof is never answered.
        assert_eq!([look.at(&lane, &secret), lane.load() as u32], [0, 1]);
        assert_eq!([look.at(&lane, &secret), look.at(&lane, &secret)], [1, 2]);
        // Forgotten requests are no load, and a full lane takes no more.
        let waiting: Vec<_> = (0..3).map(|_| lane.submit(Job::default())).collect();
        assert!(waiting.iter().all(Option::is_some) && lane.load() == 4);
        assert!(lane.submit(Job::default()).is_none());
        drop(waiting);
        assert!(lane.submit(Job::default()).is_some());
        assert_eq!(lane.load(), 2);
    }
}
