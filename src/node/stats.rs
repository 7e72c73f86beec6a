//! Everything the node counts, as metrics.

use super::Node;
use super::command::Sample;
use crate::swim::MemberState;

/// A sample without labels.
pub(super) fn sample(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample { name, help, labels: Vec::new(), value: value as f64 }
}

impl Node {
    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = self.member_samples();
        samples.extend(self.swim_samples());
        samples.extend(self.refused_samples());
        samples.extend(self.ignored_samples());
        samples.extend(self.store_samples());
        samples.extend(self.replication().samples(&self.links));
        samples
    }

    fn member_samples(&self) -> Vec<Sample> {
        let states = [
            ("alive", MemberState::Alive),
            ("suspect", MemberState::Suspect),
            ("dead", MemberState::Dead),
            ("left", MemberState::Left),
        ];
        states
            .into_iter()
            .map(|(name, state)| Sample {
                name: "members",
                help: "Members known, by state.",
                labels: vec![("state", name.into())],
                value: self.swim.members().filter(|member| member.state == state).count() as f64,
            })
            .collect()
    }

    fn swim_samples(&self) -> Vec<Sample> {
        let s = self.swim.stats();
        let x = &self.exchanges;
        vec![
            sample(
                "health_score",
                "Lifeguard's local health: 0 is healthy, 7 the worst.",
                u64::from(self.swim.health_score()),
            ),
            sample(
                "incarnation",
                "This node's incarnation.",
                u64::from(self.swim.me().incarnation),
            ),
            sample("probes_total", "Probes begun.", s.probes),
            sample("probe_failures_total", "Probes nobody answered.", s.probe_failures),
            sample(
                "probe_acks_relayed_total",
                "Probes answered only through others.",
                s.probe_acks_relayed,
            ),
            sample(
                "probe_acks_stream_total",
                "Probes answered only over TCP: UDP to that member does not work.",
                s.probe_acks_stream,
            ),
            sample("suspicions_total", "Suspicions begun.", s.suspicions),
            sample("recoveries_total", "Suspicions ended by refutation.", s.recoveries),
            sample("deaths_total", "Members declared dead.", s.deaths),
            sample("refutes_total", "Accusations of this node refuted.", s.refutes),
            sample("conflicts_total", "Names found to be claimed by two live nodes.", s.conflicts),
            sample(
                "name_inquiries_total",
                "Names announced from another address, and asked about at both.",
                s.inquiries,
            ),
            sample(
                "name_inquiries_dropped_total",
                "Names not asked about: too many at once.",
                s.inquiries_dropped,
            ),
            sample("broadcasts_total", "Membership broadcasts queued.", s.broadcasts),
            sample(
                "broadcasts_dropped_total",
                "Membership broadcasts dropped because the queue was full.",
                s.broadcasts_dropped,
            ),
            sample(
                "push_pulls_failed_total",
                "Push-pulls begun here that failed.",
                s.push_pulls_failed,
            ),
            sample(
                "merges_refused_total",
                "Push-pulls not merged because of their protocol versions.",
                s.merges_refused,
            ),
            sample("members_refused_total", "Announced members not taken.", s.refusals.total()),
            sample(
                "joins_dropped_total",
                "Addresses to join dropped because too many were waiting.",
                s.joins_dropped,
            ),
            sample("push_pulls_out_total", "Push-pulls begun here.", x.push_pulls_out_total),
            sample("push_pulls_in_total", "Push-pulls answered.", x.push_pulls_in_total),
        ]
    }

    fn refused_samples(&self) -> impl Iterator<Item = Sample> {
        let refused = &self.swim.stats().refused;
        [("key", refused.key), ("label", refused.label), ("silence", refused.silence)]
            .map(|(reason, value)| Sample {
                name: "push_pulls_refused_total",
                help: "Streams begun here that the other end refused, by reason.",
                labels: vec![("reason", reason.into())],
                value: value as f64,
            })
            .into_iter()
    }

    fn ignored_samples(&self) -> Vec<Sample> {
        let (s, d) = (&self.swim.stats().ignored, &self.dropped);
        let mut samples: Vec<Sample> = [
            ("stale", s.stale),
            ("unknown_member", s.unknown_member),
            ("implausible", s.implausible),
            ("foreign_ping", s.foreign_ping),
            ("unexpected_ack", s.unexpected_ack),
            ("malformed", s.malformed),
        ]
        .into_iter()
        .map(|(reason, value)| Sample {
            name: "messages_ignored_total",
            help: "Membership messages without effect, by reason.",
            labels: vec![("reason", reason.into())],
            value: value as f64,
        })
        .collect();
        let p = &d.packets;
        let dropped = [
            ("key", p.key),
            ("label", p.label),
            ("checksum", p.checksum),
            ("malformed", p.malformed),
        ];
        samples.extend(dropped.map(|(reason, value)| Sample {
            name: "packets_dropped_total",
            help: "Datagrams dropped whole, by reason.",
            labels: vec![("reason", reason.into())],
            value: value as f64,
        }));
        samples.extend([
            sample(
                "packet_parts_dropped_total",
                "Parts of datagrams that could not be decoded.",
                d.parts_total,
            ),
            sample(
                "foreign_user_messages_total",
                "User messages of other programs, passed over.",
                d.foreign_user_total,
            ),
        ]);
        samples
    }

    fn store_samples(&self) -> Vec<Sample> {
        let s = self.store.stats();
        vec![
            sample("keys", "Live keys.", s.n_live),
            sample("ttl_keys", "Live keys that expire.", s.n_lasting),
            sample("expired_total", "Keys that have expired here.", self.store.expired_total()),
            sample("tombstones", "Deletes remembered, and keys that have expired.", s.n_tombstones),
            sample("tombstone_bytes", "Bytes of their records.", s.tombstone_bytes),
            sample("store_bytes", "Bytes of all records, tombstones included.", s.bytes),
            sample(
                "store_limit_bytes",
                "What writes may grow the store to; 0 for no limit.",
                self.store.limit(),
            ),
            sample(
                "store_bound_bytes",
                "The smallest limit of a ready member, where it is below this node's; else 0.",
                self.store.bound().map_or(0, |bound| bound.len_max),
            ),
            sample("writes_total", "Writes taken by this node.", s.last_seq),
            sample(
                "own_log_entries",
                "Own writes whose keys are remembered for repair.",
                s.own_log_len,
            ),
            sample(
                "remote_log_entries",
                "Peers' writes whose keys are remembered for repair.",
                s.remote_log_len,
            ),
            sample(
                "clock_ahead_total",
                "Records kept whose stamp is far ahead of our clock.",
                s.clock_ahead_total,
            ),
            sample(
                "hlc_millis",
                "The hybrid clock, in milliseconds since the Unix epoch.",
                s.hlc.millis(),
            ),
        ]
    }
}
