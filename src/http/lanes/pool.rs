//! All lanes: which of them a request takes, and whether each is alive.

use super::lane::{Job, Lane};
use super::line::{self, Upstream};
use super::secret::Secret;
use super::worker::Worker;
use crate::http::request::Handler;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

/// Most connections to tiny_http for quick requests, each with a thread to parse and one to answer.
const QUICK_MAX: usize = 4;
/// Connections for requests that take their time.
const N_BULK: usize = 2;
/// How often each lane is asked whether it is alive.
const PROOF_PERIOD: Duration = Duration::from_secs(5);
/// How long a lane may take to say that it is alive.
const PROOF_LIMIT: Duration = Duration::from_secs(30);

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
            .map(|n| line::start(&format!("http-{n}"), &secret, handler))
            .collect::<io::Result<Vec<_>>>()?;
        let lanes = |n: usize| std::iter::repeat_with(Lane::default).take(n).collect();
        Ok((Lanes { secret, quick: lanes(n_quick), bulk: lanes(N_BULK) }, ends))
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

    /// Asks every lane, over and over, whether it is alive; returns when one is not.
    pub(in crate::http) async fn prove(&self) -> String {
        loop {
            tokio::time::sleep(PROOF_PERIOD).await;
            for lane in self.all() {
                let job = Job { bytes: self.secret.proof(), ..Job::default() };
                let answer = tokio::time::timeout(PROOF_LIMIT, lane.submit(job)).await;
                if answer.is_err() {
                    return format!(
                        "an HTTP worker has been stuck for {} s",
                        PROOF_LIMIT.as_secs()
                    );
                }
            }
        }
    }
}
