"""The chart by Helm's own code: linted, its values judged by their schema, and rendered in variants."""

import base64
import re

import helm_python
import pytest
import yaml
from conftest import ROOT, run, tool

CHART = ROOT / "deploy/helm/gossipykv"
VARIANTS = {
    "as it is": {},
    "five nodes with a digest": {"replicas": 5, "image": {"repository": "r.example/kv", "digest": f"sha256:{'0' * 64}"}},
    "a secret that is there": {"secret": {"existing": "mine"}},
    "no token": {"token": {"enabled": False}},
    "IPv6": {"ip": {"family": "IPv6", "policy": "SingleStack"}},
    "both, IPv6 first": {"ip": {"family": "IPv6", "policy": "PreferDualStack"}},
    "watched": {"monitoring": {"serviceMonitor": True, "prometheusRule": True, "labels": {"release": "prometheus"}}},
    "larger": {"maxStoreBytes": 1610612736, "resources": {"limits": {"memory": "4Gi"}}},
    "bare": {"disruption": {"enabled": False}, "networkPolicy": {"enabled": False}},
    "backed up": {"backup": {"place": "s3://a-bucket/kv", "env": [{"name": "AWS_REGION", "value": "eu-west-1"}]}},
    "with everything": {
        "nodeSelector": {"disk": "none"}, "tolerations": [{"key": "a", "operator": "Exists"}], "podLabels": {"team": "a"},
        "podAnnotations": {"a": "b"}, "networkPolicy": {"apiFrom": [{"namespaceSelector": {}}]},
        "image": {"repository": "kv", "tag": "1", "pullSecrets": [{"name": "pull"}]},
    },
}  # fmt: skip


def rendered(**values):
    """Every document of the chart by kind and name, and the text of all."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name="kv", namespace="data")
    documents = [one for name, text in files.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def test_lint_is_clean(report):
    for name, values in VARIANTS.items():
        result = helm_python.lint(CHART, values, strict=True)
        # 1 is information: a chart might have a picture.
        assert result["errors"] == [] and all(one["severity"] <= 1 for one in result["messages"]), (name, result)
    report(f"helm lint --strict ({helm_python.helm_sdk_version()}): clean with {len(VARIANTS)} sets of values")


@pytest.mark.parametrize("wrong", [
    {"replicas": "three"}, {"replica": 3}, {"ip": {"family": "IPv5"}}, {"image": {"repository": "kv", "digest": "latest"}},
    {"backup": {"place": "bucket/kv"}}, {"backup": {"place": "s3://bucket", "keep": 0}}, {"maxStoreBytes": 0}, {"monitoring": {"interval": "often"}},
])  # fmt: skip
def test_wrong_values_are_refused(wrong):
    with pytest.raises(helm_python.HelmError):
        rendered(**wrong)


def test_manifests_are_valid(tmp_path, report):
    count = 0
    for name, values in VARIANTS.items():
        core = [one for (kind, _), one in rendered(**values).items() if kind not in ("ServiceMonitor", "PrometheusRule")]
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all(core))
        for version in ("1.30.0", "1.37.0"):
            result = run(tool("kubernetes-validate"), "--strict", "-k", version, path)
            assert result.returncode == 0 and result.stdout.count(" passed for resource ") == len(core), result.stdout
        count += len(core)
    report(f"kubernetes-validate --strict: {count} resources of {len(VARIANTS)} variants against 1.30 and 1.37")


def node(made):
    spec = made["StatefulSet", "kv-gossipykv"]["spec"]["template"]["spec"]
    return spec, {one["name"]: one.get("value") for one in spec["containers"][0]["env"]}


def test_it_is_what_the_plain_manifests_are():
    """But for names and what can be chosen; who mends one must mend the other."""
    plain = yaml.safe_load((ROOT / "deploy/kubernetes/statefulset.yaml").read_text())["spec"]
    spec, environment = node(rendered())
    theirs = plain["template"]["spec"]
    for key in ("securityContext", "automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds"):
        assert spec[key] == theirs[key], key
    ours, other = spec["containers"][0], theirs["containers"][0]
    for key in ("args", "ports", "lifecycle", "startupProbe", "livenessProbe", "readinessProbe", "resources",
                "securityContext", "volumeMounts"):  # fmt: skip
        assert ours[key] == other[key], key
    written = {one["name"]: one.get("value") for one in other["env"]}
    differ = {"GOSSIPYKV_DISCOVER_SRV", "GOSSIPYKV_LABEL", "GOSSIPYKV_HTTP_TOKEN", "GOSSIPYKV_HTTP_HOST"}
    assert {k: environment[k] for k in written if k not in differ} == {k: written[k] for k in written if k not in differ}
    flags = "".join((ROOT / f"src/cli/{name}.rs").read_text() for name in ("config", "front"))
    known = set(re.findall(r'"(GOSSIPYKV_[A-Z_]+)"', flags))
    assert {name for name in environment if not name.startswith("POD_")} <= known


def test_nodes_find_each_other_and_nobody_else():
    for values in VARIANTS.values():
        made = rendered(**values)
        spec, environment = node(made)
        port, protocol, service = environment["GOSSIPYKV_DISCOVER_SRV"].split(".")[:3]
        nodes = made["Service", service]["spec"]
        assert nodes["publishNotReadyAddresses"] and (port, protocol) == ("_gossip", "_tcp")
        labels = made["StatefulSet", "kv-gossipykv"]["spec"]["template"]["metadata"]["labels"]
        for (kind, name), one in made.items():
            chosen = {"Service": one.get("spec", {}).get("selector"),
                      "PodDisruptionBudget": one.get("spec", {}).get("selector", {}).get("matchLabels"),
                      "NetworkPolicy": one.get("spec", {}).get("podSelector", {}).get("matchLabels")}.get(kind, {})  # fmt: skip
            assert chosen.items() <= labels.items(), (kind, name)
        family = values.get("ip", {}).get("family", "IPv4")
        assert nodes["ipFamilies"] == [family]
        wildcard = "[::]" if family == "IPv6" else "0.0.0.0"
        assert environment["GOSSIPYKV_BIND"] == f"{wildcard}:7947" and environment["GOSSIPYKV_HTTP"] == f"{wildcard}:8080"


def test_backups_ask_the_service_and_are_no_nodes():
    made = rendered(**VARIANTS["backed up"])
    job = made["CronJob", "kv-gossipykv-backup"]["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = job["spec"]["containers"]
    assert container["args"] == ["backup", "s3://a-bucket/kv", "--keep=48"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["GOSSIPYKV_SERVER"] == "http://kv-gossipykv.data.svc:8080" and environment["AWS_REGION"] == "eu-west-1"
    assert made["Service", "kv-gossipykv"]["spec"]["ports"][0]["port"] == 8080
    assert environment["GOSSIPYKV_HTTP_TOKEN_FILE"] == "/run/gossipykv/http-token"
    # No service, no budget and no rule of the network counts it among the nodes.
    labels = job["metadata"]["labels"]
    assert not made["Service", "kv-gossipykv"]["spec"]["selector"].items() <= labels.items()
    assert ("CronJob", "kv-gossipykv-backup") not in rendered()
    narrow = rendered(networkPolicy={"apiFrom": [{"namespaceSelector": {}}]}, **VARIANTS["backed up"])
    api = narrow["NetworkPolicy", "kv-gossipykv"]["spec"]["ingress"][0]["from"]
    assert {"podSelector": {"matchLabels": labels}} in api and len(api) == 2


def test_there_is_a_token_unless_it_is_not_wanted():
    made = rendered()
    spec, environment = node(made)
    secret = made["Secret", "kv-gossipykv"]
    assert environment["GOSSIPYKV_HTTP_TOKEN_FILE"] == "/run/gossipykv/http-token"
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    keys = base64.b64decode(secret["data"]["gossip-keys"])
    assert len(base64.b64decode(keys, validate=True)) == 24 and len(base64.b64decode(secret["data"]["http-token"])) == 43
    environment = node(rendered(token={"enabled": False, "hosts": ["kv.example"]}))[1]
    assert "GOSSIPYKV_HTTP_TOKEN_FILE" not in environment
    names = environment["GOSSIPYKV_HTTP_HOST"].split(",")
    assert (names[0], names[-1]) == ("kv-gossipykv", "kv.example") and len(names) == 5
    brought = rendered(secret={"existing": "mine"})
    assert ("Secret", "kv-gossipykv") not in brought
    assert node(brought)[0]["volumes"][0]["secret"]["secretName"] == "mine"


def test_it_is_watched_by_the_same_alerts():
    made = rendered(maxStoreBytes=805306368, **VARIANTS["watched"])
    monitor = made["ServiceMonitor", "kv-gossipykv"]["spec"]
    watched = made["Service", "kv-gossipykv-nodes"]
    assert monitor["selector"]["matchLabels"].items() <= watched["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {one["name"] for one in watched["spec"]["ports"]}
    assert endpoint["authorization"]["credentials"] == {"name": "kv-gossipykv", "key": "http-token"}
    assert {one["targetLabel"] for one in endpoint["relabelings"]} == {"job", "cluster"}
    rules = made["PrometheusRule", "kv-gossipykv"]["spec"]
    assert rules == yaml.safe_load((ROOT / "deploy/compose/prometheus/alerts.yml").read_text())
    assert made["PrometheusRule", "kv-gossipykv"]["metadata"]["labels"]["release"] == "prometheus"


def test_checkov_is_clean(tmp_path):
    """But for what the plain manifests leave out with a reason, and what is for the one who installs."""
    (tmp_path / "chart.yaml").write_text(yaml.safe_dump_all(rendered().values()))
    plain = (ROOT / "deploy/kubernetes/statefulset.yaml").read_text()
    reasons = re.findall(r"checkov.io/skip\d+: (CKV\w+)=", plain)
    result = run(tool("checkov"), "--skip-download", "--compact", "--quiet", "--framework", "kubernetes",
                 "--skip-check", ",".join(reasons), "--directory", tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stdout
