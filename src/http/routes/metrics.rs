//! `GET /metrics`: everything counted, in Prometheus' text format.

use super::context::{Api, Call, NODE_LIMIT, Outcome};
use crate::http::counters::{CLASSES, Counters, LATENCY_BOUNDS_MICROS, Reason};
use crate::http::failure::Failure;
use crate::http::route::LABELS;
use crate::http::shared::Shared;
use crate::http::tls::{Tls, Unmet};
use crate::http::tokens::Role;
use crate::node::command::{Command, NotReady, Reply, Sample};
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Asks the node for its numbers and adds our own. Ours are told even when the node is stuck, or
/// too many ask it something: that is when they are wanted.
pub(super) fn answer(api: &Api, call: Call<'_>) -> Result<Outcome, Failure> {
    let own = own(api);
    Ok(api.ask_node_if_free(call, Command::Stats, NODE_LIMIT, move |reply, response| {
        let mut samples = own;
        let is_up = match reply {
            Some(Reply::Stats(stats)) => {
                samples.extend(stats);
                1
            }
            _ => 0,
        };
        samples.push(plain("node_replies", "Whether the node told its numbers just now.", is_up));
        response.body(200, CONTENT_TYPE, text(samples).as_bytes())
    }))
}

fn plain(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample { name, help, labels: Vec::new(), value: value as f64 }
}

/// What HTTP itself counts.
fn own(api: &Api) -> Vec<Sample> {
    let Shared { config, counters, budget, pending, hub, rosters, bridge, .. } = &*api.shared;
    let n_watches = (hub.n_watches() + rosters.n_watches()) as u64;
    let mut samples = vec![
        Sample {
            name: "build_info",
            help: "Always 1; the labels say what is running.",
            labels: vec![
                ("version", config.version.version.to_owned()),
                ("commit", config.version.hash.to_owned()),
            ],
            value: 1.0,
        },
        plain("http_connections", "Client connections.", counters.n_open() as u64),
        plain("http_connections_total", "Client connections accepted.", counters.accepted()),
        plain(
            "http_accept_failures_total",
            "Accepts that failed, for want of descriptors or because the client was gone.",
            counters.accept_failures(),
        ),
        plain("http_held_bytes", "Bodies and answers held for slow clients.", {
            budget.taken() as u64
        }),
        plain("http_watches", "Streams and long polls open.", n_watches),
        plain(
            "feed_overruns_total",
            "Rounds in which more keys changed than the watches are told: they look through all.",
            bridge.store().feed_overruns_total(),
        ),
        plain("http_waiting", "Requests that wait for the node.", pending.n_taken() as u64),
    ];
    samples.push(plain(
        "log_lines_dropped_total",
        "Log lines dropped because standard error took none: its reader stands.",
        config.log_lines_dropped.load(Relaxed),
    ));
    samples.extend(tokens(api.shared.as_ref()));
    samples.extend(of_tls(config.tls.as_deref()));
    samples.extend(readiness(api));
    for reason in Reason::ALL {
        samples.push(Sample {
            name: "http_refusals_total",
            help: "Requests and connections the gate turned away, by reason.",
            labels: vec![("reason", reason.label().to_owned())],
            value: counters.refusals(reason) as f64,
        });
    }
    for (label, row) in LABELS.iter().zip(counters.answers()) {
        for (class, n) in CLASSES.iter().zip(row) {
            samples.push(Sample {
                name: "http_requests_total",
                help: "Requests answered by a route, by class of status.",
                labels: vec![("route", (*label).to_owned()), ("status", (*class).to_owned())],
                value: n as f64,
            });
        }
    }
    samples.extend(latency(counters));
    samples
}

/// Requests by the token that they showed.
fn tokens(shared: &Shared) -> Vec<Sample> {
    let tokens = shared.config.tokens.as_ref();
    let local = ("(local)".to_owned(), Role::Admin, shared.n_local.load(Relaxed));
    let counts = tokens.map(|tokens| tokens.counts()).unwrap_or_default();
    let sample = |(name, role, n): (String, Role, u64)| Sample {
        name: "http_token_requests_total",
        help: "Requests that showed a token, by its name; (local) is the secret of this host.",
        labels: vec![("token", name), ("role", role.name().to_owned())],
        value: n as f64,
    };
    let mut samples: Vec<Sample> = counts.into_iter().chain([local]).map(sample).collect();
    samples.push(plain(
        "http_tokens_stale",
        "Whether the file of tokens cannot be read any more, so that old ones are in use.",
        u64::from(tokens.is_some_and(|tokens| tokens.is_stale())),
    ));
    samples
}

/// Handshakes, and how long the certificate lasts. Told without one as well, so that whoever looks
/// for them finds them.
fn of_tls(tls: Option<&Tls>) -> Vec<Sample> {
    let unmet = |why: Unmet| Sample {
        name: "http_tls_handshake_failures_total",
        help: "TLS handshakes that came to nothing, by reason.",
        labels: vec![("reason", why.label().to_owned())],
        value: tls.map_or(0, |tls| tls.n_unmet(why)) as f64,
    };
    let mut samples: Vec<Sample> = Unmet::ALL.into_iter().map(unmet).collect();
    let n_met = tls.map_or(0, Tls::n_met);
    samples.push(plain("http_tls_handshakes_total", "TLS handshakes completed.", n_met));
    samples.push(plain(
        "http_tls_certificate_expires_timestamp_seconds",
        "When the certificate in use, or one of its chain, expires, since 1970; 0 of plain HTTP.",
        tls.map_or(0, |tls| tls.expires().as_secs()),
    ));
    samples.push(plain(
        "http_tls_certificate_stale",
        "Whether the files of the certificate cannot be used any more, so that an old one is.",
        u64::from(tls.is_some_and(Tls::is_stale)),
    ));
    samples
}

/// Told by HTTP, so that it is told when the node is stuck, too.
fn readiness(api: &Api) -> Vec<Sample> {
    let not_ready = api.not_ready();
    let kinds = NotReady::ALL.map(|kind| Sample {
        name: "not_ready",
        help: "What keeps this node from being ready: 1 at the one kind that does.",
        labels: vec![("reason", kind.as_str().to_owned())],
        value: if not_ready == Some(kind) { 1.0 } else { 0.0 },
    });
    let is_ready = u64::from(not_ready.is_none());
    let mut samples = vec![plain("ready", "Whether /health says 200.", is_ready)];
    samples.extend(kinds);
    samples
}

const LATENCY_HELP: &str = "Time from the last byte of a request to the last of its answer.";

fn latency(counters: &Counters) -> Vec<Sample> {
    let mut n = 0;
    let mut samples = Vec::new();
    let bounds = LATENCY_BOUNDS_MICROS.iter().map(|&micros| (micros as f64 / 1e6).to_string());
    let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
    for (bound, in_bucket) in bounds.zip(counters.latency()) {
        n += in_bucket;
        samples.push(Sample {
            name: "http_request_duration_seconds_bucket",
            help: LATENCY_HELP,
            labels: vec![("le", bound)],
            value: n as f64,
        });
    }
    let sum = counters.latency_micros() as f64 / 1e6;
    let rest = [
        ("http_request_duration_seconds_sum", sum),
        ("http_request_duration_seconds_count", n as f64),
    ];
    samples.extend(rest.map(|(name, value)| Sample {
        name,
        help: LATENCY_HELP,
        labels: Vec::new(),
        value,
    }));
    samples
}

/// The family a sample belongs to, and its type: the parts of a histogram are one family.
fn family(name: &str) -> (&str, &'static str) {
    for suffix in ["_bucket", "_sum", "_count"] {
        if let Some(family) = name.strip_suffix(suffix)
            && family.ends_with("_seconds")
        {
            return (family, "histogram");
        }
    }
    (name, if name.ends_with("_total") { "counter" } else { "gauge" })
}

/// Samples of one family stand together, whatever order they come in.
fn text(mut samples: Vec<Sample>) -> String {
    samples.sort_by(|a, b| family(a.name).cmp(&family(b.name)));
    let mut out = String::new();
    let mut last = "";
    for sample in &samples {
        let (name, kind) = family(sample.name);
        if name != last {
            // Writing to a string does not fail.
            let _ = writeln!(out, "# HELP gossipykv_{name} {}", escape(sample.help, false));
            let _ = writeln!(out, "# TYPE gossipykv_{name} {kind}");
            last = name;
        }
        let _ = write!(out, "gossipykv_{}", sample.name);
        for (n, (label, value)) in sample.labels.iter().enumerate() {
            let before = if n == 0 { '{' } else { ',' };
            let _ = write!(out, "{before}{label}=\"{}\"", escape(value, true));
        }
        if !sample.labels.is_empty() {
            out.push('}');
        }
        let _ = writeln!(out, " {}", sample.value);
    }
    out
}

fn escape(text: &str, is_quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if is_quoted { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_are_described_once() {
        let sample = |name, label: &str, value| Sample {
            name,
            help: "Some \\ help.",
            labels: if label.is_empty() { vec![] } else { vec![("l", label.to_owned())] },
            value,
        };
        let samples = vec![
            sample("b_total", "x", 1.0),
            sample("took_seconds_bucket", "+Inf", 2.0),
            sample("a", "", 0.5),
            sample("took_seconds_sum", "", 0.25),
            sample("b_total", "\"q\"\\\n", 1e15),
        ];
        let expected = "\
            # HELP gossipykv_a Some \\\\ help.\n\
            # TYPE gossipykv_a gauge\n\
            gossipykv_a 0.5\n\
            # HELP gossipykv_b_total Some \\\\ help.\n\
            # TYPE gossipykv_b_total counter\n\
            gossipykv_b_total{l=\"x\"} 1\n\
            gossipykv_b_total{l=\"\\\"q\\\"\\\\\\n\"} 1000000000000000\n\
            # HELP gossipykv_took_seconds Some \\\\ help.\n\
            # TYPE gossipykv_took_seconds histogram\n\
            gossipykv_took_seconds_bucket{l=\"+Inf\"} 2\n\
            gossipykv_took_seconds_sum 0.25\n";
        assert_eq!(text(samples), expected);
    }
}
