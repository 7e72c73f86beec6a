//! What replication counts, as metrics.

use super::facts::peers::Peer;
use super::observe::View;
use crate::node::command::Sample;
use crate::node::links::Links;
use crate::node::stats::sample;

impl View<'_> {
    /// Everything counted here.
    #[must_use]
    pub(in crate::node) fn samples(self, links: &Links) -> Vec<Sample> {
        let mut samples = self.flow_samples(links);
        samples.extend(self.repair_samples());
        samples.extend(self.safety_samples());
        samples.extend(self.forgetting_samples());
        samples.extend(self.peer_samples());
        samples
    }

    fn flow_samples(self, links: &Links) -> Vec<Sample> {
        let c = &self.0.shared.counters;
        let by_path = |direction: &'static str, datagram: u64, link: u64| {
            [("datagram", datagram), ("link", link)].map(|(path, value)| Sample {
                name: "replication_bytes_total",
                help: "Bytes of replication messages, by path and direction.",
                labels: vec![("direction", direction.into()), ("path", path.into())],
                value: value as f64,
            })
        };
        let mut samples = Vec::from(by_path("in", c.datagram_len_in, c.link_len_in));
        samples.extend(by_path("out", c.datagram_len_out, links.sent_len_total));
        for (result, value) in
            [("newer", c.newer_total), ("stale", c.stale_total), ("duplicate", c.duplicate_total)]
        {
            samples.push(Sample {
                name: "replication_records_total",
                help: "Records received from peers, by what the merge made of them.",
                labels: vec![("result", result.into())],
                value: value as f64,
            });
        }
        samples.extend(self.format_samples());
        samples.extend(self.way_samples(links));
        samples
    }

    fn way_samples(self, links: &Links) -> Vec<Sample> {
        let c = &self.0.shared.counters;
        vec![
            sample("replication_datagrams_total", "Replication datagrams sent.", c.datagrams_out),
            sample(
                "replication_unreadable_total",
                "Replication messages dropped as unreadable.",
                c.unreadable_total,
            ),
            sample(
                "replication_resends_total",
                "Retransmissions of unacknowledged writes.",
                c.resends_total,
            ),
            sample(
                "replication_window_full_total",
                "Pushes a full link window kept back; repaired later.",
                c.window_full_total,
            ),
            sample("replication_links", "Replication links open.", links.len() as u64),
            sample(
                "replication_links_dialled_total",
                "Replication links dialled.",
                links.dialled_total,
            ),
            sample(
                "replication_dials_failed_total",
                "Connections to peers that could not be made.",
                c.dials_failed_total,
            ),
            sample(
                "replication_links_overrun_total",
                "Links closed because their other end asked and never read.",
                links.overrun_total,
            ),
            sample(
                "replication_link_queue_bytes",
                "Bytes handed to links and not yet written.",
                links.total_in_flight_len() as u64,
            ),
            sample(
                "rumors_waiting",
                "Rumors still being spread.",
                self.0.rumors.n_waiting() as u64,
            ),
            sample(
                "rumors_dropped_total",
                "Rumors dropped because the queue was full; repaired later.",
                self.0.rumors.dropped_total,
            ),
            sample("rumor_sends_total", "Transmissions of rumors.", self.0.rumors.sends_total),
        ]
    }

    fn format_samples(self) -> Vec<Sample> {
        let c = &self.0.shared.counters;
        let passed_over = |what: &'static str, value: u64| Sample {
            name: "replication_passed_over_total",
            help: "Kinds and fields of replication messages from a later version, passed over.",
            labels: vec![("what", what.into())],
            value: value as f64,
        };
        vec![
            passed_over("field", c.fields_passed_over_total),
            passed_over("kind", c.kinds_passed_over_total),
            #[cfg(feature = "next-format")]
            sample("replication_played_total", "What the next version adds, read.", c.played_total),
            sample(
                "peers_incompatible",
                "Members of our kind that share no replication format with this node.",
                self.0.shared.peers.incompatible().count() as u64,
            ),
        ]
    }

    fn repair_samples(self) -> Vec<Sample> {
        let c = &self.0.shared.counters;
        vec![
            sample(
                "gaps_open",
                "Origins of which writes are known to be missing.",
                self.0.gaps.len() as u64,
            ),
            sample(
                "wants_sent_total",
                "Requests for missing writes sent.",
                self.0.gaps.wants_total,
            ),
            sample(
                "gaps_given_up_total",
                "Gaps that no reachable peer could fill: writes lost with their holders.",
                self.0.gaps.given_up_total,
            ),
            sample(
                "gaps_refused_total",
                "Gaps not asked for yet, because too many were open.",
                self.0.gaps.refused_total,
            ),
            sample(
                "wants_received_total",
                "Requests for missing writes received.",
                c.wants_in_total,
            ),
            sample("digests_sent_total", "Digests sent.", self.0.digests.sent_total),
            sample("pulls_started_total", "Bulk copies asked for.", self.0.pulls.started_total),
            sample("pulls_completed_total", "Bulk copies completed.", self.0.pulls.completed_total),
            sample("pulls_served_total", "Bulk copies served.", self.0.pulls.served_total),
            sample("pulls_serving", "Bulk copies being served.", self.0.pulls.n_served() as u64),
            sample(
                "pulls_refused_total",
                "Bulk copies refused because too many were being served.",
                self.0.pulls.refused_total,
            ),
            sample(
                "pull_records_total",
                "Records received in bulk copies.",
                self.0.pulls.records_in_total,
            ),
        ]
    }

    fn safety_samples(self) -> Vec<Sample> {
        let c = &self.0.shared.counters;
        vec![
            sample(
                "comparisons_total",
                "Bucket comparisons begun.",
                self.0.compare.comparisons_total,
            ),
            sample(
                "comparisons_served_total",
                "Rounds of bucket comparisons served.",
                c.compared_total,
            ),
            sample(
                "divergent_buckets_total",
                "Buckets the safety net found to differ; should stay 0.",
                self.0.compare.leaves_repaired_total,
            ),
            sample(
                "copies_dropped_total",
                "Copies from before a forgotten delete, dropped.",
                self.0.compare.dropped_total,
            ),
            sample(
                "resurrections_refused_total",
                "Copies from before a forgotten delete, refused.",
                c.resurrections_refused_total,
            ),
            sample(
                "unmet_total",
                "Messages with data that did not count: their sender has not named this run.",
                c.unmet_total,
            ),
            sample(
                "resets_total",
                "Times this node hid to compare its store: it may have lacked forgotten deletes.",
                c.resets_total,
            ),
            sample(
                "set_backs_total",
                "Times this node was set back, and went on as another run.",
                c.set_backs_total,
            ),
            sample(
                "set_back_claims_ignored_total",
                "Claims to hold writes that this node has not made which counted for nothing.",
                c.claims_ignored_total,
            ),
            sample(
                "records_damaged_total",
                "Records dropped because their bytes had changed in memory.",
                c.damaged_total,
            ),
            sample(
                "stranded_deletes_told_total",
                "Messages with deletes held past a write that was lost with its writer.",
                self.0.tails.told_total,
            ),
            sample(
                "vector_refused_total",
                "Writes held but not noted for want of room.",
                self.0.shared.known.refused_total(),
            ),
            sample(
                "settles_refused_total",
                "Pushes that settled more than one may.",
                c.settles_refused_total,
            ),
        ]
    }

    fn forgetting_samples(self) -> Vec<Sample> {
        vec![
            sample(
                "clock_lead_seconds",
                "How far this node stamps its writes ahead of its own clock.",
                self.0.shared.counters.clock_lead_ms / 1_000,
            ),
            sample(
                "tombstones_forgotten_total",
                "Tombstones forgotten.",
                self.0.sweep.forgotten_total,
            ),
            sample(
                "tombstone_grace_seconds",
                "How long a delete is remembered at least, as things are.",
                self.grace_ms() / 1_000,
            ),
            sample(
                "origins",
                "Origins in the version vector.",
                self.0.shared.known.n_origins() as u64,
            ),
            sample("origins_folded", "Origins folded away.", self.0.shared.known.n_folded() as u64),
            sample(
                "origins_let_go_total",
                "Folded origins that are not known by name any more.",
                self.0.shared.floors.let_go_total,
            ),
            sample(
                "floors_ignored_total",
                "Times a peer told where its folded origins begin and that counted for nothing.",
                self.0.shared.floors.ignored_total,
            ),
            sample(
                "origins_folded_total",
                "Origins this node folded itself.",
                self.0.sweep.folded_total,
            ),
        ]
    }

    fn peer_samples(self) -> Vec<Sample> {
        let last = self.0.shared.store.last_seq();
        let blocked = |way, is_blocked: fn(&Peer) -> bool| Sample {
            name: "peers_blocked",
            help: "Reachable peers to which one way is blocked: udp (all goes by link), or tcp.",
            labels: vec![("way", String::from(way))],
            value: self.0.shared.peers.reachable().filter(|peer| is_blocked(peer)).count() as f64,
        };
        let blocked = [
            blocked("udp", |peer| peer.paths.udp_blocked),
            blocked("tcp", |peer| peer.paths.tcp_blocked),
        ];
        self.0
            .shared
            .peers
            .reachable()
            .map(|peer| Sample {
                name: "peer_lag_writes",
                help: "Writes of this node that a peer has not acknowledged.",
                labels: vec![("peer", peer.info.name.to_string())],
                value: last.saturating_sub(peer.acked) as f64,
            })
            .chain(blocked)
            .collect()
    }
}
