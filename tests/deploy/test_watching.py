"""Alarms and the dashboard on AWS, fed with the status lines of nodes.

CloudWatch itself is not here: `Told` does with a minute's lines what its metric filters and alarms do,
as far as these templates use them.
"""

import json
import re

import pytest
import yaml
from conftest import ROOT
from resolve import Resolved

LISTENER = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/shared/50dc6c495c0c9188/f2f7dc8efc522ab2"
SPACE = "GossipyKV/kv"
STATISTICS = {"Maximum": max, "Minimum": min, "Sum": sum, "SampleCount": len}
COMPARISONS = {"GreaterThanThreshold": lambda a, b: a > b, "LessThanThreshold": lambda a, b: a < b}
WELL = {
    "level": "INFO", "message": "status", "ready": 1, "members_alive": 4, "keys": 1000, "store_bytes": 50_000_000,
    "store_limit_bytes": 201_326_592, "lag_writes": 3, "gaps": 0, "clock_ahead": 0, "damaged": 0,
    "resident_bytes": 200_000_000,
}  # fmt: skip


def transformations(service):
    """Metric: (the filter's pattern, the field or number that is its value)."""
    found = {}
    for one in Resolved(service).of_type("AWS::Logs::MetricFilter").values():
        (made,) = one["MetricTransformations"]
        assert made["MetricNamespace"] == SPACE and made["MetricName"] not in found
        found[made["MetricName"]] = (one["FilterPattern"], made["MetricValue"])
    return found


def alarms(service):
    return Resolved(service, AlarmTopicArn="arn:aws:sns:eu-west-1:123456789012:t").of_type("AWS::CloudWatch::Alarm")


def asked_for(alarm):
    """What of our own metrics an alarm looks at: [(id, metric, statistic)]."""
    if "Metrics" not in alarm:
        return [("told", alarm["MetricName"], alarm.get("Statistic"))] if alarm["Namespace"] == SPACE else []
    parts = [(one["Id"], one["MetricStat"]) for one in alarm["Metrics"] if "MetricStat" in one]
    return [(name, part["Metric"]["MetricName"], part["Stat"]) for name, part in parts
            if part["Metric"]["Namespace"] == SPACE]  # fmt: skip


def test_what_filters_take_is_what_nodes_say(service):
    """The lines below are ours; those of a node are written by the program."""
    said = (ROOT / "src" / "cli" / "status.rs").read_text()
    fields = {value[2:] for _, value in transformations(service).values() if value.startswith("$.")}
    assert len(fields) > 5
    for field in sorted(fields | (set(WELL) - {"level", "message"})):
        assert re.search(rf"^\s+{field}( =|,$)", said, re.M), f"no line of a node has {field}"


class Told:
    """An alarm that hears of minutes, each a list of lines."""

    def __init__(self, service, name):
        self.alarm = alarms(service)[name]
        self.filters = transformations(service)

    def values(self, metric, lines):
        pattern, value = self.filters[metric]
        field, wanted = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', pattern).groups()
        hits = [line for line in lines if line.get(field) == wanted]
        return [line[value[2:]] for line in hits if value[2:] in line] if value.startswith("$.") else [float(value)] * len(hits)

    def datapoint(self, lines):
        known = {}
        for name, metric, statistic in asked_for(self.alarm):
            values = self.values(metric, lines)
            if not values:
                return None
            known[name] = STATISTICS[statistic](values)
        if "Metrics" not in self.alarm:
            return known["told"]
        (expression,) = [one["Expression"] for one in self.alarm["Metrics"] if "Expression" in one]
        return eval(expression, {"__builtins__": {}, "MAX": max}, known)  # one of ours

    def rings(self, *minutes):
        """Whether it rings at the end of these minutes."""
        over = COMPARISONS[self.alarm["ComparisonOperator"]]
        missing = self.alarm["TreatMissingData"] == "breaching"
        points = [self.datapoint(lines) for lines in minutes][-self.alarm["EvaluationPeriods"] :]
        hits = [missing if point is None else over(point, float(self.alarm["Threshold"])) for point in points]
        return sum(hits) >= self.alarm["DatapointsToAlarm"]


def nodes(*changes):
    """One line of each node; a healthy one for an empty dict."""
    return [WELL | change for change in changes]


ALL_WELL = nodes({}, {}, {}, {})
HALVES = nodes(*[{"members_alive": 2}] * 4)
# What rings for minutes of this kind, and nothing else does.
CASES = {
    "all is well": ([], ALL_WELL),
    "halves of the same size, all of which agree": (["ClusterSplit"], HALVES),
    "one cut off": (["ClusterSplit"], nodes({"members_alive": 1}, *[{"members_alive": 3}] * 3)),
    "one is not ready": (["NodeNotReady"], nodes({"ready": 0}, {}, {}, {})),
    "no line at all": (["NodeNotReady"], []),
    "a store nearly full": (["StoreNearlyFull"], nodes({"store_bytes": 175_000_000}, {}, {}, {})),
    "a store with room": ([], nodes({"store_bytes": 165_000_000}, {}, {}, {})),
    "a store without a limit": ([], nodes({"store_bytes": 1, "store_limit_bytes": 1 << 40}, {}, {}, {})),
    "a peer that acknowledges nothing": (["ReplicationLag"], nodes({"lag_writes": 5000}, {}, {}, {})),
    "a clock ahead": (["ClockWrong"], nodes({"clock_ahead": 1}, {}, {}, {})),
    "damage in memory": (["MemoryDamaged"], nodes({}, {}, {"damaged": 1}, {})),
    "an error": (["ErrorsLogged"], [*ALL_WELL, {"level": "ERROR", "message": "records were damaged in memory"}]),
}


@pytest.mark.parametrize("what", CASES)
def test_what_rings(service, what, report):
    expected, minute = CASES[what]
    ours = {name for name, alarm in alarms(service).items() if asked_for(alarm)} - {"NodesBroken"}
    assert len(ours) == 7
    ringing = sorted(name for name in ours if Told(service, name).rings(*[minute] * 10))
    assert ringing == sorted(expected)
    report(f"{what}: {', '.join(ringing) or 'nothing'} rings")


def test_each_says_how_bad_which_cluster_and_where_to_read(service, backup):
    """CloudWatch tells name and description, and nothing else that is ours."""
    rules = yaml.safe_load((ROOT / "deploy/compose/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    elsewhere = {rule["alert"]: rule["labels"]["severity"] for rule in rules}
    book = (ROOT / "docs/runbook.md").read_text()
    told = alarms(service) | Resolved(backup).of_type("AWS::CloudWatch::Alarm")
    assert len(told) > 14
    for name, alarm in told.items():
        severity = re.fullmatch(r"(critical|warning) - .{10,} - docs/runbook\.md(#a-copy-outside)?", alarm["AlarmDescription"])
        assert severity, (name, alarm["AlarmDescription"])
        # Without a name of its own it is called STACK-NAME-.., and the stack is the cluster.
        assert "AlarmName" not in alarm and (f"`{name}`" in book or severity[2])
        assert severity[1] == elsewhere.get(name, severity[1]), f"{name} is another thing for Prometheus"


def test_what_passes_does_not_ring(service):
    split, ready = Told(service, "ClusterSplit"), Told(service, "NodeNotReady")
    # A node's line that falls into the next minute, where its next one is, too.
    early, late = nodes({}, {}, {}), nodes({}, {}, {}, {}, {})
    assert not split.rings(ALL_WELL, early, late, ALL_WELL, ALL_WELL)
    # A roll: another node, ready after two minutes.
    comes = nodes(*[{"members_alive": 5}] * 4, {"members_alive": 5, "ready": 0})
    assert not split.rings(ALL_WELL, comes, comes, nodes(*[{"members_alive": 5}] * 5), ALL_WELL)
    assert not ready.rings(*[ALL_WELL] * 4, comes, comes, *[ALL_WELL] * 4)
    # Rings within five minutes.
    assert split.rings(ALL_WELL, HALVES, HALVES, HALVES, HALVES)


def test_every_metric_is_made_and_looked_at(service):
    made = set(transformations(service))
    assert {"Ready", "Members", "Keys", "StoreBytes", "StoreLimit", "Lag", "Gaps", "ClockAhead", "Damaged", "Resident"} <= made
    rung = {metric for alarm in alarms(service).values() for _, metric, _ in asked_for(alarm)}
    shown = {metric[1] for metric in shown_metrics(service) if metric[0] == SPACE}
    assert rung <= made and shown <= made
    assert made == rung | shown, "a metric costs money"


def shown_metrics(service, **given):
    body = json.loads(Resolved(service, **given)["Dashboard"]["DashboardBody"])
    return [metric for widget in body["widgets"] for metric in widget["properties"]["metrics"]]


def dimensions(pairs):
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


@pytest.mark.parametrize("given", [{}, {"ListenerArn": LISTENER, "ListenerSecurityGroupId": "sg-1"}])
def test_the_dashboard_asks_what_the_alarms_ask(service, given):
    resolved = Resolved(service, **given)
    known = {}
    for alarm in resolved.of_type("AWS::CloudWatch::Alarm").values():
        parts = [one["MetricStat"]["Metric"] for one in alarm.get("Metrics", []) if "MetricStat" in one] or [alarm]
        for part in parts:
            names = {one["Name"]: written(one["Value"]) for one in part.get("Dimensions", [])}
            if "TargetGroup" in names or "ServiceName" in names:
                known[part["Namespace"]] = names
    foreign = [metric for metric in shown_metrics(service, **given) if metric[0] != SPACE]
    assert len(foreign) == 6
    for metric in foreign:
        assert dimensions(metric[2:-1]) == known[metric[0]], metric
    if given:
        assert known["AWS/ApplicationELB"]["LoadBalancer"] == "app/shared/50dc6c495c0c9188"


def written(value):
    """What only AWS knows, as it is written in a text."""
    if isinstance(value, dict):
        ((function, of),) = value.items()
        return f"${{{of if function == 'Ref' else '.'.join(of)}}}"
    return value


def test_the_dashboard_is_laid_out_and_its_name_is_the_regions(service):
    made = Resolved(service)["Dashboard"]
    assert made["DashboardName"] == "kv-eu-west-1", "of two regions no two have one name"
    places = [(one["x"], one["y"], one["width"], one["height"]) for one in json.loads(made["DashboardBody"])["widgets"]]
    cells = [(x + dx, y + dy) for x, y, width, height in places for dx in range(width) for dy in range(height)]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert all(metric[-1]["stat"] for metric in shown_metrics(service))
