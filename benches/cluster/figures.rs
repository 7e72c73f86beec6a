//! What a row measured: named figures, one of each a run, told as medians.

use std::collections::BTreeMap;
use std::time::Duration;

/// How much of everything. The smoke run takes little of each.
pub struct Scale {
    /// Sequential PUTs of `visible`.
    pub n_visible: usize,
    /// PUTs of `rate`.
    pub n_puts: usize,
    /// Values of `bulk`.
    pub n_bulk: usize,
    /// Keys in a full map.
    pub n_keys: usize,
    /// Writes on each side of a partition.
    pub n_apart: usize,
    /// How long a partition lasts.
    pub apart: Duration,
    /// How long a member is stopped.
    pub stopped: Duration,
    /// How long `idle` counts, and a client is watched before a join.
    pub watched: Duration,
}

impl Scale {
    /// What `docs/benchmarks.md` quotes.
    pub fn full() -> Scale {
        Scale {
            n_visible: 1_000,
            n_puts: 200_000,
            n_bulk: 1_000,
            n_keys: 1_000_000,
            n_apart: 10_000,
            apart: Duration::from_secs(60),
            stopped: Duration::from_secs(120),
            watched: Duration::from_secs(10),
        }
    }

    /// Enough to see that each row still runs.
    pub fn smoke() -> Scale {
        Scale {
            n_visible: 5,
            n_puts: 300,
            n_bulk: 10,
            n_keys: 500,
            n_apart: 30,
            apart: Duration::from_millis(300),
            stopped: Duration::from_millis(300),
            watched: Duration::from_millis(300),
        }
    }
}

/// The figures of a row.
pub struct Figures {
    of_all_runs: BTreeMap<(usize, &'static str), Vec<f64>>,
    next: usize,
}

impl Figures {
    pub fn new() -> Figures {
        Figures { of_all_runs: BTreeMap::new(), next: 0 }
    }

    /// Notes a figure of this run, and tells it at once: a run may take minutes.
    pub fn note(&mut self, name: &'static str, value: f64) {
        println!("    {name}: {}", shown(value));
        self.of_all_runs.entry((self.next, name)).or_default().push(value);
        self.next += 1;
    }

    pub fn note_millis(&mut self, name: &'static str, value: Duration) {
        self.note(name, value.as_secs_f64() * 1e3);
    }

    /// The next run begins.
    pub fn end_run(&mut self) {
        println!("    --");
        self.next = 0;
    }

    /// The row as a table.
    pub fn print(&self) {
        println!("| figure | median | of all runs |\n|---|---|---|");
        for ((_, name), values) in &self.of_all_runs {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let all: Vec<String> = sorted.iter().copied().map(shown).collect();
            println!("| {name} | {} | {} |", shown(sorted[sorted.len() / 2]), all.join(", "));
        }
    }
}

fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A value below which this share of all lies.
pub fn quantile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    let at = (values.len() as f64 * share) as usize;
    values[at.min(values.len() - 1)]
}
