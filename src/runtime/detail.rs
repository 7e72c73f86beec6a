//! What the engine does, for whoever asks for `debug` or `trace`: each connection for what and how
//! it ended, each datagram, and what is counted as failed, refused or dropped, by reason.
//!
//! Counters are where every mechanism says what it dropped and why, so the lines are made of them:
//! now and then the node is asked for its numbers, and those that have grown are told.

use crate::node::command::Sample;
use crate::node::io::ConnId;
use crate::time::Instant;
use crate::wire::stream::Frame;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tracing::Level;

/// How often the numbers are looked at.
const PAUSE: Duration = Duration::from_millis(250);

/// Parts of the names of counters that count an exchange, a pull, or what came to nothing.
const TELLING: [&str; 15] = [
    "aborted",
    "comparisons",
    "dropped",
    "errors",
    "failed",
    "failures",
    "given_up",
    "ignored",
    "overrun",
    "passed_over",
    "pull",
    "refused",
    "resets",
    "timeouts",
    "unreadable",
];

/// Writes the lines; costs next to nothing where nobody wants them.
#[derive(Debug, Default)]
pub(super) struct Detail {
    told: BTreeMap<String, f64>,
    next: Instant,
}

impl Detail {
    /// Whether it is time to ask for the numbers; a yes counts as done.
    pub(super) fn wants_numbers(&mut self, now: Instant) -> bool {
        if !tracing::enabled!(Level::DEBUG) || now < self.next {
            return false;
        }
        self.next = now + PAUSE;
        true
    }

    /// Tells the counters that have grown since the last time.
    pub fn numbers(&mut self, samples: &[Sample]) {
        for sample in samples.iter().filter(|sample| is_telling(sample.name)) {
            let labels: Vec<&str> = sample.labels.iter().map(|(_, value)| &**value).collect();
            let reason = labels.join(", ");
            let told = self.told.entry(format!("{} {reason}", sample.name)).or_default();
            let more = sample.value - *told;
            *told = sample.value;
            if more > 0.0 {
                let reason = Some(reason).filter(|reason| !reason.is_empty());
                tracing::debug!(counter = sample.name, reason, more, "{}", sample.help);
            }
        }
    }

    /// A connection that this node opens.
    pub fn dial(&self, conn: ConnId, peer: SocketAddr, frame: &Frame) {
        tracing::debug!(conn = conn.0, %peer, what = what(frame), "dials");
    }

    /// A frame that came on a connection.
    pub fn frame(&self, conn: ConnId, from: SocketAddr, frame: &Frame) {
        match frame {
            Frame::Kv(_) => tracing::trace!(conn = conn.0, %from, "a frame of replication came"),
            frame => tracing::debug!(conn = conn.0, %from, what = what(frame), "hears"),
        }
    }

    /// A connection that has ended.
    pub fn closed(&self, conn: ConnId, error: Option<&str>) {
        match error {
            Some(why) => tracing::debug!(conn = conn.0, why, "connection failed"),
            None => tracing::debug!(conn = conn.0, "connection ended"),
        }
    }

    /// A datagram that came.
    pub fn received(&self, from: SocketAddr, len: usize) {
        tracing::trace!(%from, len, "datagram received");
    }

    /// A datagram that is sent.
    pub fn sent(&self, to: SocketAddr, len: usize) {
        tracing::trace!(%to, len, "datagram sent");
    }
}

fn is_telling(name: &str) -> bool {
    name.ends_with("_total") && TELLING.iter().any(|part| name.contains(part))
}

/// What a connection is for, by a frame on it.
fn what(frame: &Frame) -> &'static str {
    match frame {
        Frame::Ping(_) | Frame::Ack(_) => "probe",
        Frame::PushPull(push) if push.join => "join",
        Frame::PushPull(_) => "push-pull",
        Frame::Kv(_) => "replication link",
        Frame::User(_) => "user message",
        Frame::Error(_) => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_or_was_dropped_is_told_and_what_goes_well_is_not() {
        for name in ["packets_dropped_total", "pulls_started_total", "probe_failures_total"] {
            assert!(is_telling(name), "{name}");
        }
        for name in ["datagrams_sent_total", "keys", "tickets", "engine_turns_total"] {
            assert!(!is_telling(name), "{name}");
        }
    }
}
