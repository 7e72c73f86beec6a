//! How long the turns of the engine take: whoever asks the node, and every probe, waits for one.

use crate::node::command::Sample;
use std::time::Duration;

const HELP: &str =
    "Time that one turn of the gossip loop took: all that asks the node waits for it.";

/// Upper bounds of the buckets, in microseconds.
const BOUNDS_MICROS: [u64; 10] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 1_000_000];

/// A histogram of turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Turns in each bucket, and past the last bound.
    buckets: [u64; BOUNDS_MICROS.len() + 1],
    sum: Duration,
}

impl Turns {
    /// A turn took so long.
    pub fn took(&mut self, turn: Duration) {
        let within = |bound: &u64| u128::from(*bound) < turn.as_micros();
        self.buckets[BOUNDS_MICROS.partition_point(within)] += 1;
        self.sum = self.sum.saturating_add(turn);
    }

    /// The histogram as Prometheus wants it.
    pub fn samples(&self) -> Vec<Sample> {
        let bounds = BOUNDS_MICROS.iter().map(|micros| (*micros as f64 / 1e6).to_string());
        let mut n = 0;
        let mut samples = Vec::new();
        for (bound, in_bucket) in bounds.chain(["+Inf".to_owned()]).zip(self.buckets) {
            n += in_bucket;
            samples.push(sample("engine_turn_seconds_bucket", vec![("le", bound)], n as f64));
        }
        samples.push(sample("engine_turn_seconds_sum", Vec::new(), self.sum.as_secs_f64()));
        samples.push(sample("engine_turn_seconds_count", Vec::new(), n as f64));
        samples
    }
}

fn sample(name: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Sample {
    Sample { name, help: HELP, labels, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_in_the_buckets_that_it_fits() {
        let mut turns = Turns::default();
        for micros in [0, 100, 101, 10_000, 2_000_000] {
            turns.took(Duration::from_micros(micros));
        }
        let samples = turns.samples();
        let within = |bound: &str| {
            let is_it = |sample: &&Sample| sample.labels.iter().any(|(_, le)| le == bound);
            samples.iter().find(is_it).expect("a bucket").value
        };
        let told = ["0.0001", "0.00025", "0.005", "0.01", "1", "+Inf"].map(within);
        assert_eq!(told, [2.0, 3.0, 3.0, 4.0, 4.0, 5.0]);
        let of = |name: &str| samples.iter().find(|sample| sample.name == name).map(|s| s.value);
        assert_eq!(of("engine_turn_seconds_count"), Some(5.0));
        assert_eq!(of("engine_turn_seconds_sum"), Some(2.010_201));
    }
}
