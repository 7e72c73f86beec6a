//! What a bench has measured, for people and as JSON.

use super::super::failure::{Failure, complain};
use super::super::output;
use super::super::table::Table;
use super::load::{Kind, Load};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;

/// The quantiles that are told, and what they are called.
const QUANTILES: [(f64, &str); 4] =
    [(0.5, "p50_ms"), (0.9, "p90_ms"), (0.99, "p99_ms"), (0.999, "p99_9_ms")];

/// What was measured.
pub(super) struct Report {
    servers: Vec<String>,
    prefix: String,
    n_clients: usize,
    n_keys: usize,
    value_len: usize,
    seconds: f64,
    asked_rate: Option<u32>,
    n_unsent: u64,
    times: [Histogram<u64>; 3],
    n_missing: u64,
    errors: BTreeMap<String, u64>,
    kept: bool,
    n_left: usize,
}

impl Report {
    pub(super) fn of(load: &Load, kept: bool) -> Report {
        let measured = load.measured();
        Report {
            servers: load.clients[..load.n_nodes].iter().map(ToString::to_string).collect(),
            prefix: load.plan.prefix.clone(),
            n_clients: load.plan.n_clients,
            n_keys: load.plan.n_keys,
            value_len: load.plan.value_len,
            seconds: load.seconds(),
            asked_rate: load.plan.rate,
            n_unsent: load.n_unsent(),
            times: measured.times.clone(),
            n_missing: measured.n_missing,
            errors: measured.errors.clone(),
            kept,
            n_left: load.n_left(),
        }
    }

    /// Prints it, and complains of keys that are still there and should not be.
    ///
    /// # Errors
    /// The output.
    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        output::print(|out| {
            if as_json {
                return Ok(writeln!(out, "{}", self.json())?);
            }
            Ok(write!(out, "{}", self.text())?)
        })?;
        if self.n_left > 0 && !self.kept {
            let (n, prefix) = (self.n_left, &self.prefix);
            complain(&format!(
                "{n} keys that begin with {prefix:?} may still be there: they could not be deleted"
            ));
        }
        Ok(())
    }

    fn rate(&self, n: u64) -> f64 {
        n as f64 / self.seconds.max(0.001)
    }

    fn n_answered(&self) -> u64 {
        self.times[Kind::Put as usize].len() + self.times[Kind::Get as usize].len()
    }

    fn json(&self) -> Value {
        let part = |kind: Kind| {
            let times = &self.times[kind as usize];
            let mut part = json!({ "requests": times.len(), "max_ms": millis(times.max()) });
            for (quantile, name) in QUANTILES {
                part[name] = millis(times.value_at_quantile(quantile)).into();
            }
            if kind != Kind::Visible {
                part["rate"] = self.rate(times.len()).into();
            }
            part
        };
        json!({
            "servers": self.servers,
            "clients": self.n_clients,
            "keys": self.n_keys,
            "value_size": self.value_len,
            "seconds": self.seconds,
            "requests": self.n_answered(),
            "rate": self.rate(self.n_answered()),
            "asked_rate": self.asked_rate,
            "unsent": self.n_unsent,
            "put": part(Kind::Put),
            "get": part(Kind::Get),
            "visible": (self.servers.len() > 1).then(|| part(Kind::Visible)),
            "missing": self.n_missing,
            "errors": self.errors,
            "prefix": self.prefix,
            "left": self.n_left,
        })
    }

    fn text(&self) -> String {
        let heading = ["", "REQUESTS", "A SECOND", "P50 MS", "P90", "P99", "P99.9", "MAX"];
        let mut table = Table::new(&heading);
        for (kind, name) in [(Kind::Put, "put"), (Kind::Get, "get"), (Kind::Visible, "visible")] {
            let times = &self.times[kind as usize];
            if times.is_empty() {
                continue;
            }
            let rate = match kind {
                Kind::Visible => String::new(),
                _ => format!("{:.0}", self.rate(times.len())),
            };
            let quantiles = QUANTILES.map(|(quantile, _)| times.value_at_quantile(quantile));
            let mut cells = vec![name.to_owned(), times.len().to_string(), rate];
            let all = quantiles.into_iter().chain([times.max()]);
            cells.extend(all.map(|micros| format!("{:.3}", millis(micros))));
            table.row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let mut text = format!(
            "{table}{} requests in {:.1} s, {:.0} a second\n",
            self.n_answered(),
            self.seconds,
            self.rate(self.n_answered())
        );
        if self.n_unsent > 0 {
            let n = self.n_unsent;
            text.push_str(&format!("{n} requests were due and not sent: no client was free\n"));
        }
        if self.n_missing > 0 {
            text.push_str(&format!("{} gets found no key\n", self.n_missing));
        }
        for (error, n) in &self.errors {
            text.push_str(&format!("errors: {n} times {error}\n"));
        }
        if self.kept && self.n_left > 0 {
            text.push_str(&format!("kept: {} keys under {:?}\n", self.n_left, self.prefix));
        }
        text
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
