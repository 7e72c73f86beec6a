"""The chart by Helm's own code: linted, its values judged by their schema, and rendered in variants."""

import base64
import json
import re
import subprocess

import helm_python
import pytest
import yaml
from conftest import ROOT, TOOLS, run, tool

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
    "smaller": {"resources": {"limits": {"memory": "256Mi"}, "requests": {"memory": "256Mi"}}},
    "without a limit": {"resources": {"limits": None}, "maxStoreBytes": 1073741824},
    "bare": {"disruption": {"enabled": False}, "networkPolicy": {"enabled": False}},
    "backed up": {"backup": {"place": "s3://a-bucket/kv", "env": [{"name": "AWS_REGION", "value": "eu-west-1"}]}},
    "backed up to a volume": {"backup": {"volume": {"size": "10Gi", "storageClass": "fast"}}, "token": {"enabled": False}},
    "backed up to a claim": {"backup": {"volume": {"existing": "mine"}}, "tls": {"secret": "tls"}, "token": {"enabled": False}},
    "HTTPS": {"tls": {"secret": "kv-tls"}},
    "HTTPS, all of it": {
        "tls": {"secret": "kv-tls", "ca": "tls.crt", "clientCaSecret": "callers", "clientSecret": "ours"},
        "backup": {"place": "s3://a-bucket/kv"}, "monitoring": {"serviceMonitor": True, "prometheusRule": True},
    },
    "HTTPS on IPv6": {"tls": {"secret": "kv-tls"}, "ip": {"family": "IPv6"}},
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
    {"backup": {"place": "bucket/kv"}}, {"backup": {"volume": {"size": "much"}}}, {"tls": {"secret": "kv-tls", "ca": ""}},
    {"backup": {"place": "s3://bucket/kv", "volume": {"size": "1Gi"}}}, {"backup": {"volume": {"size": "1Gi", "existing": "a"}}},
    {"token": {"readKey": "read-token"}}, {"maxStoreBytes": "much"}, {"maxStoreBytes": 201326592, "resources": {"limits": {"memory": "256Mi"}}},
    {"maxStoreBytes": 1073741825, "resources": {"limits": {"memory": "2Gi"}}}, {"maxStoreBytes": 300000000, "resources": {"limits": {"memory": "0.5G"}}},
    {"maxStoreBytes": 1048577, "resources": {"limits": {"memory": 2097152}}}, {"maxStoreBytes": 2097152, "resources": {"limits": {"memory": "2Megs"}}},
    {"tls": {"clientSecret": "ours"}}, {"tls": {"secret": "kv-tls", "clientCaSecret": "callers"}, "backup": {"place": "s3://bucket"}},
    {"backup": {"place": "s3://bucket", "keep": 0}}, {"maxStoreBytes": 0}, {"monitoring": {"interval": "often"}},
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


def refused(resources):
    """What the operator's own types say of its resources."""
    return subprocess.run(["node", ROOT / "tests/deploy/operator.mjs", TOOLS / "node"], input=json.dumps(resources),
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip


def test_what_is_for_the_operator_is_valid(report):
    count = 0
    for name, values in VARIANTS.items():
        theirs = [one for (kind, _), one in rendered(**values).items() if kind in ("ServiceMonitor", "PrometheusRule")]
        result = refused(theirs)
        assert (result.returncode, result.stdout) == (0, ""), (name, result)
        count += len(theirs)
    monitor = rendered(**VARIANTS["HTTPS, all of it"])["ServiceMonitor", "kv-gossipykv"]
    del monitor["spec"]["endpoints"][0]["tlsConfig"]["ca"]["secret"]["key"]
    assert "required property key" in refused([monitor]).stdout, "a wrong one is refused"
    report(f"the operator's types: {count} resources of {len(VARIANTS)} variants")


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


def test_less_memory_is_a_smaller_store():
    """A limit that is lowered alone must not end in the kernel's hands, which takes all nodes at once."""
    def limit(**values):
        return node(rendered(**values))[1]["GOSSIPYKV_MAX_STORE_BYTES"]

    assert limit() == limit(resources={"limits": {"memory": "256Mi"}}) == "auto"
    for memory in ("2Gi", "2147483648", 2147483648, "2097152Ki", "2.2G"):
        assert limit(maxStoreBytes=1073741824, resources={"limits": {"memory": memory}}) == "1073741824", memory
    assert limit(**VARIANTS["without a limit"]) == "1073741824"


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


def test_backups_go_to_a_volume():
    """A folder of it, whose claim stays when the release goes."""
    made = rendered(**VARIANTS["backed up to a volume"])
    claim = made["PersistentVolumeClaim", "kv-gossipykv-backups"]
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                             "resources": {"requests": {"storage": "10Gi"}}}  # fmt: skip
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    for made, name in [(made, "kv-gossipykv-backups"), (rendered(**VARIANTS["backed up to a claim"]), "mine")]:
        spec = made["CronJob", "kv-gossipykv-backup"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert container["args"] == ["backup", "/backups/", "--keep=48"], "with a slash: a folder"
        held = {one["name"]: one for one in spec["volumes"]}
        assert held["backups"]["persistentVolumeClaim"] == {"claimName": name}
        assert {"name": "backups", "mountPath": "/backups"} in container["volumeMounts"]
        # It may write there: the volume is given to the group.
        assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsUser"] == 65532
    assert ("PersistentVolumeClaim", "kv-gossipykv-backups") not in made


def test_https_is_all_or_nothing():
    """Whoever asks a node asks by HTTPS then, and trusts the CA that the values name."""
    made = rendered(**VARIANTS["HTTPS, all of it"])
    spec, environment = node(made)
    (container,) = spec["containers"]
    mounted = {one["mountPath"]: one for one in container["volumeMounts"]}
    volumes = {one["name"]: one.get("secret") for one in spec["volumes"]}

    def held(volumes, mounted, path):
        """The secret and the key behind a path in the container."""
        folder, file = path.rsplit("/", 1)
        assert mounted[folder]["readOnly"] and "subPath" not in mounted[folder], "else it would not change along"
        secret = volumes[mounted[folder]["name"]]
        (item,) = [one for one in secret["items"] if one["path"] == file]
        assert item["mode"] == 0o440
        return secret["secretName"], item["key"]

    assert held(volumes, mounted, environment["GOSSIPYKV_HTTP_TLS_CERT"]) == ("kv-tls", "tls.crt")
    assert held(volumes, mounted, environment["GOSSIPYKV_HTTP_TLS_KEY"]) == ("kv-tls", "tls.key")
    assert held(volumes, mounted, environment["GOSSIPYKV_HTTP_TLS_CLIENT_CA"]) == ("callers", "ca.crt")
    probes = ["startupProbe", "livenessProbe", "readinessProbe"]
    assert {container[probe]["httpGet"]["scheme"] for probe in probes} == {"HTTPS"}
    assert {made["Service", f"kv-gossipykv{kind}"]["spec"]["ports"][-1]["appProtocol"] for kind in ("", "-nodes")} == {"https"}

    job = made["CronJob", "kv-gossipykv-backup"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    asks = {one["name"]: one["value"] for one in job["containers"][0]["env"]}
    mounted = {one["mountPath"]: one for one in job["containers"][0]["volumeMounts"]}
    volumes = {one["name"]: one.get("secret") for one in job["volumes"]}
    assert asks["GOSSIPYKV_SERVER"] == "https://kv-gossipykv.data.svc:8080"
    assert held(volumes, mounted, asks["GOSSIPYKV_CA_FILE"]) == ("kv-tls", "tls.crt")
    assert held(volumes, mounted, asks["GOSSIPYKV_CLIENT_CERT"]) == ("ours", "tls.crt")
    assert held(volumes, mounted, asks["GOSSIPYKV_CLIENT_KEY"]) == ("ours", "tls.key")

    (endpoint,) = made["ServiceMonitor", "kv-gossipykv"]["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == {
        "ca": {"secret": {"name": "kv-tls", "key": "tls.crt"}}, "serverName": "kv-gossipykv.data.svc",
        "cert": {"secret": {"name": "ours", "key": "tls.crt"}}, "keySecret": {"name": "ours", "key": "tls.key"},
    }  # fmt: skip

    plain = rendered(**VARIANTS["backed up"] | VARIANTS["watched"])
    spec, environment = node(plain)
    assert not any("TLS" in name for name in environment) and len(spec["volumes"]) == 1
    assert all("scheme" not in spec["containers"][0][probe]["httpGet"] for probe in probes)
    assert plain["Service", "kv-gossipykv"]["spec"]["ports"][0]["appProtocol"] == "http"
    assert not {"scheme", "tlsConfig"} & set(plain["ServiceMonitor", "kv-gossipykv"]["spec"]["endpoints"][0])


def test_who_only_reads_shows_a_token_of_its_own():
    """http-token may hold several, with roles; whoever asks shows one."""
    values = {"token": {"readKey": "read-token"}, "secret": {"existing": "mine"}}
    made = rendered(**VARIANTS["backed up"] | VARIANTS["watched"] | values)
    (endpoint,) = made["ServiceMonitor", "kv-gossipykv"]["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "mine", "key": "read-token"}
    job = made["CronJob", "kv-gossipykv-backup"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (token,) = [one["secret"] for one in job["volumes"] if one["name"] == "token"]
    assert (token["secretName"], token["items"]) == ("mine", [{"key": "read-token", "path": "http-token", "mode": 0o440}])
    (keys,) = [one["secret"] for one in node(made)[0]["volumes"] if one["name"] == "keys"]
    assert {one["key"] for one in keys["items"]} == {"gossip-keys", "http-token"}, "nodes know them all"


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
    made = rendered(**VARIANTS["watched"])
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


def test_a_backup_that_is_not_made_rings(tmp_path, report):
    """By what kube-state-metrics tells of the job of this release, and of no other."""
    made = rendered(**VARIANTS["backed up"] | {"monitoring": {"prometheusRule": True}})
    groups = made["PrometheusRule", "kv-gossipykv"]["spec"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(groups))
    assert made["CronJob", "kv-gossipykv-backup"]["metadata"]["namespace"] == "data"
    done, created = "kube_cronjob_status_last_successful_time", "kube_cronjob_created"
    ours, other = "{namespace='data', cronjob='kv-gossipykv-backup'}", "{namespace='other', cronjob='kv-gossipykv-backup'}"
    rings = [{
        "exp_labels": {"severity": "warning", "cluster": "data/kv", "namespace": "data", "cronjob": "kv-gossipykv-backup"},
        "exp_annotations": {"summary": "No backup of cluster data/kv was made for 3 hours", "runbook": "docs/runbook.md#a-copy-outside"},
    }]  # fmt: skip
    cases = [
        # An hourly one that fails from the third hour on; another release's never worked.
        ([(done + ours, "0x59 3600x59 7200x600"), (created + ours, "0x720"), (created + other, "0x720")], "290m", []),
        ([(done + ours, "0x59 3600x59 7200x600"), (created + ours, "0x720"), (created + other, "0x720")], "310m", rings),
        ([(created + ours, "0x720")], "170m", []),
        ([(created + ours, "0x720")], "190m", rings),
    ]  # fmt: skip
    tests = [{"interval": "1m", "input_series": [{"series": name, "values": values} for name, values in told],
              "alert_rule_test": [{"eval_time": when, "alertname": "BackupMissing", "exp_alerts": expected}]}
             for told, when, expected in cases]  # fmt: skip
    test = {"rule_files": [str(tmp_path / "rules.yml")], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    result = run("promtool", "test", "rules", tmp_path / "test.yml")
    assert result.returncode == 0, result.stdout
    report("BackupMissing: rings three hours after the last backup, or after the schedule was made")


def test_checkov_is_clean(tmp_path):
    """But for what the plain manifests leave out with a reason, and what is for the one who installs."""
    (tmp_path / "chart.yaml").write_text(yaml.safe_dump_all(rendered().values()))
    plain = (ROOT / "deploy/kubernetes/statefulset.yaml").read_text()
    reasons = re.findall(r"checkov.io/skip\d+: (CKV\w+)=", plain)
    result = run(tool("checkov"), "--skip-download", "--compact", "--quiet", "--framework", "kubernetes",
                 "--skip-check", ",".join(reasons), "--directory", tmp_path)  # fmt: skip
    assert result.returncode == 0, result.stdout
