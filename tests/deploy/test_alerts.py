"""Each alert of Prometheus with what it is for: it rings, in its own cluster alone, and nothing else does."""

import re

import pytest
import yaml
from conftest import ROOT, run

ALERTS = ROOT / "deploy/compose/prometheus/alerts.yml"
RULES = {rule["alert"]: rule for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]}
MINUTES = 120
# Long enough for the slowest of them, which waits an hour.
JUDGED = 100
NODES = ("a", "b", "c")

# What a healthy node tells each minute.
WELL = {
    "up{job='gossipykv'": "1",
    "gossipykv_ready{": "1",
    "gossipykv_members{state='alive'": "3",
    "gossipykv_keys{": "1000",
    "gossipykv_store_bytes{": "50000000",
    "gossipykv_store_limit_bytes{": "201326592",
    "gossipykv_clock_ahead_total{": "0",
    "gossipykv_clock_lead_seconds{": "0",
    "gossipykv_gossip_key_messages{key='k'": "1000+60",
    "gossipykv_probe_acks_stream_total{": "0",
    "gossipykv_packets_dropped_total{reason='key'": "0",
    "gossipykv_divergent_buckets_total{": "0",
    "gossipykv_engine_turn_seconds_count{": "0+600",
    "gossipykv_engine_turn_seconds_bucket{le='0.1'": "0+600",
    "gossipykv_http_tls_certificate_expires_timestamp_seconds{": "0",
    "gossipykv_http_tls_certificate_stale{": "0",
    "gossipykv_http_tokens_stale{": "0",
    "gossipykv_records_damaged_total{": "0",
    "gossipykv_peer_lag_writes{peer='b'": "20",
    "gossipykv_http_requests_total{route='/kv/{key}', status='5xx'": "0",
    # A load balancer asks a node that is not ready, too.
    "gossipykv_http_requests_total{route='/health', status='5xx'": "0+12",
    "gossipykv_set_backs_total{": "0",
    "gossipykv_set_back_claims_ignored_total{": "0",
    "gossipykv_peers_incompatible{": "0",
    "gossipykv_peers_blocked{way='udp'": "0",
    "gossipykv_peers_blocked{way='tcp'": "0",
    "gossipykv_gaps_given_up_total{": "0",
    "gossipykv_vector_refused_total{": "0",
    "gossipykv_log_lines_dropped_total{": "0",
}

# The alert, what node `a` (or each of them) tells then, and whether the whole cluster is meant.
ONE, ALL = "one", "all"
CASES = [
    ("NodeDown", ONE, {"up{job='gossipykv'": "0"}, False),
    ("NotReady", ONE, {"gossipykv_ready{": "0"}, False),
    ("MembersDisagree", ONE, {"gossipykv_members{state='alive'": "2"}, True),
    ("ClusterSplit", ALL, {"gossipykv_members{state='alive'": "2"}, True),
    ("StoresDiffer", ONE, {"gossipykv_keys{": "900"}, True),
    ("StoreNearlyFull", ONE, {"gossipykv_store_bytes{": "180000000"}, False),
    ("ClockAhead", ONE, {"gossipykv_clock_ahead_total{": "0+1"}, False),
    ("OwnClockAhead", ONE, {"gossipykv_clock_lead_seconds{": "70"}, False),
    ("KeyWorn", ONE, {"gossipykv_gossip_key_messages{key='k'": "2200000000"}, True),
    ("UdpBlocked", ONE, {"gossipykv_probe_acks_stream_total{": "0+30"}, False),
    ("PacketsDropped", ONE, {"gossipykv_packets_dropped_total{reason='key'": "0+60"}, False),
    ("SafetyNetUsed", ONE, {"gossipykv_divergent_buckets_total{": "0+1"}, False),
    ("TurnsLong", ONE, {"gossipykv_engine_turn_seconds_bucket{le='0.1'": "0+590"}, False),
    ("CertificateExpires", ONE, {"gossipykv_http_tls_certificate_expires_timestamp_seconds{": "900000"}, False),
    ("MemoryDamaged", ONE, {"gossipykv_records_damaged_total{": "0+1"}, False),
    ("ReplicationLag", ONE, {"gossipykv_peer_lag_writes{peer='b'": "5000"}, False),
    ("AnswersFail", ONE, {"gossipykv_http_requests_total{route='/kv/{key}', status='5xx'": "0+60"}, False),
    ("SetBack", ONE, {"gossipykv_set_backs_total{": "0+1"}, False),
    ("WritesClaimed", ONE, {"gossipykv_set_back_claims_ignored_total{": "0+1"}, False),
    ("PeersIncompatible", ONE, {"gossipykv_peers_incompatible{": "1"}, False),
    ("TcpBlocked", ONE, {"gossipykv_peers_blocked{way='tcp'": "1"}, False),
    ("WritesLost", ONE, {"gossipykv_gaps_given_up_total{": "0+1"}, False),
    ("OriginsFull", ONE, {"gossipykv_vector_refused_total{": "0+1"}, False),
    ("SecretsStale", ONE, {"gossipykv_http_tls_certificate_stale{": "1"}, False),
    ("SecretsStale", ONE, {"gossipykv_http_tokens_stale{": "1"}, False),
    ("LogLost", ONE, {"gossipykv_log_lines_dropped_total{": "0+1"}, False),
]  # fmt: skip


def series(cluster, who, changes):
    """What all nodes of a cluster tell, as promtool wants it."""
    rows = []
    for node in NODES:
        told = WELL | (changes if node == "a" or who == ALL else {})
        for name, values in told.items():
            comma = "" if name.endswith("{") else ", "
            rows.append({"series": f"{name}{comma}cluster='{cluster}', instance='{node}'}}", "values": f"{values}x{MINUTES}"})
    return rows


def rung(alert, labels):
    """The alert as it is told, without the labels of the metric that it keeps."""
    rule = RULES[alert]
    said = {key: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels.get(found[1], ""), text)
            for key, text in rule["annotations"].items()}  # fmt: skip
    return {"exp_labels": rule["labels"] | labels, "exp_annotations": said}


KEPT = {"NodeDown": {"job": "gossipykv"}, "TcpBlocked": {"way": "tcp"}}


@pytest.mark.parametrize("alert, who, changes, whole", CASES, ids=[f"{case[0]}-{next(iter(case[2]))}" for case in CASES])
def test_it_rings_and_nothing_else(alert, who, changes, whole, tmp_path):
    assert set(changes) <= set(WELL)
    labels = {"cluster": "sick"} | ({} if whole else {"instance": "a"}) | KEPT.get(alert, {})
    expected = [{"eval_time": f"{JUDGED}m", "alertname": name,
                 "exp_alerts": [rung(alert, labels)] if name == alert else []} for name in RULES]  # fmt: skip
    test = {"interval": "1m", "alert_rule_test": expected,
            "input_series": series("sick", who, changes) + series("well", ONE, {})}  # fmt: skip
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    result = run("promtool", "test", "rules", path)
    assert result.returncode == 0, result.stdout


def test_every_alert_is_shown_to_ring(report):
    assert {case[0] for case in CASES} == set(RULES)
    report(f"{len(RULES)} alerts: each rings for what it is for, in its own cluster, and no other does")
