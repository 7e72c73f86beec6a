"""Templates, rules, scripts and manifests by the checkers of others."""

import json
import re
import shutil

import yaml
from conftest import BACKUP, NETWORK, ROOT, RULES, SERVICE, TOOLS, Template, cfn_guard, cfn_lint, dashboard, run, tool
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def test_cfn_lint_is_clean(report):
    result = cfn_lint("--include-checks", "I", "--regions", "ALL_REGIONS", "--", NETWORK, SERVICE, BACKUP)
    assert result.returncode == 0 and result.stdout == "", result.stdout
    report("cfn-lint: clean in all regions, informational checks included")


def test_cfn_guard_is_clean(report):
    result = cfn_guard(NETWORK, SERVICE, BACKUP)
    assert result.returncode == 0, result.stdout
    report("cfn-guard: clean")


def test_every_rule_has_its_unit_tests(report):
    tests = ROOT / "cloudformation/rules/tests/ecs_tests.yaml"
    result = run(tool("cfn-guard"), "test", "-r", RULES, "-t", tests)
    assert result.returncode == 0, result.stdout
    rules = set(re.findall(r"^rule (\w+)", RULES.read_text(), re.M))
    seen = {(name, word) for case in yaml.safe_load(tests.read_text())
            for name, word in case["expectations"]["rules"].items()}  # fmt: skip
    for rule in rules:
        for word in ("PASS", "FAIL", "SKIP"):
            assert (rule, word) in seen, f"no unit test in which {rule} says {word}"
    report(f"cfn-guard test: {len(rules)} rules, each shown to pass, to fail and to skip")


def test_checkov_is_clean_and_says_why_it_skips(report):
    result = run(
        tool("checkov"), "--skip-download", "--compact", "--output", "json",
        "--framework", "cloudformation", "kubernetes", "dockerfile", "--directory", ROOT,
        "--skip-path", "target", "--skip-path", "tests", "--skip-path", "src",
    )  # fmt: skip
    reports = json.loads(result.stdout[result.stdout.index("[") :])
    kinds = {found["check_type"]: found["results"] for found in reports}
    assert set(kinds) == {"cloudformation", "kubernetes", "dockerfile"}
    for kind, results in kinds.items():
        failed = [f"{c['check_id']} {c['resource']}: {c['check_name']}" for c in results["failed_checks"]]
        assert failed == [], f"{kind}: {failed}"
        assert results["passed_checks"], kind
        for skipped in results["skipped_checks"]:
            comment = skipped["check_result"]["suppress_comment"]
            assert len(comment) > 20, f"{skipped['check_id']} is skipped without a reason"
        report(
            f"checkov {kind}: {len(results['passed_checks'])} passed, 0 failed, "
            f"{len(results['skipped_checks'])} skipped with a reason"
        )


def test_templates_can_be_sent(report):
    """Without a bucket, that is; and what is sent is what is here, but for what AWS does nothing with."""
    script = '. "$(dirname -- "$0")/lib.sh"; . "$(dirname -- "$0")/change.sh"; compact "$1"'
    for path in (NETWORK, SERVICE, BACKUP):
        sent = run("sh", "-c", script, ROOT / "deploy/test.sh", path, check=True).stdout
        assert len(sent.encode()) <= 51_200, f"{path} would need a bucket"
        whole = yaml.load(path.read_text(), Template)
        whole.pop("Metadata", None)
        for resource in whole["Resources"].values():
            resource.pop("Metadata", None)
        assert yaml.load(sent, Template) == whole
        report(f"{path.name}: {len(sent.encode())} bytes of 51,200 as it is sent")


def test_every_parameter_is_described_and_constrained():
    free = {"VpcId", "PublicSubnetIds", "PrivateSubnetIds", "SubnetIds"}
    for path in (NETWORK, SERVICE, BACKUP):
        for name, parameter in yaml.load(path.read_text(), Template)["Parameters"].items():
            assert len(parameter.get("Description", "")) > 10, name
            bounds = {"AllowedValues", "AllowedPattern", "MinValue"} & set(parameter)
            assert bounds or name in free, f"{name} takes anything"
            if "AllowedPattern" in parameter:
                assert "ConstraintDescription" in parameter, name


def test_scripts():
    scripts = sorted((ROOT / "deploy").glob("*.sh"))
    assert len(scripts) >= 5
    result = run("shellcheck", "-s", "sh", "-x", "-P", ROOT / "deploy", *scripts)
    assert result.returncode == 0, result.stdout
    result = run("shellcheck", "-s", "bash", *(ROOT / "tests" / name for name in ("deploy/run", "run", "formats/upgrade")))
    assert result.returncode == 0, result.stdout


def test_dockerfiles(report):
    files = [ROOT / "Dockerfile", ROOT / "deploy/compose/dns/Dockerfile"]
    result = run(tool("hadolint"), "--config", ROOT / ".hadolint.yaml", *files)
    assert result.returncode == 0, result.stdout
    report(f"hadolint: {len(files)} files clean")


# What GitHub has brought since the actionlint that can be installed from a registry of packages, which
# calls it unknown: runners, and a permission.
NEWER_THAN_ACTIONLINT = ('label "ubuntu-24.04"', 'label "ubuntu-24.04-arm"', 'permission scope "attestations"')


def test_workflows(report):
    """Among much else: every action is named by its commit, and no job keeps the token it does not need."""
    result = run(tool("zizmor"), "--offline", "--no-progress", "--color", "never", ROOT / ".github")
    assert result.returncode == 0 and "No findings to report" in result.stdout, result.stdout
    workflows = sorted((ROOT / ".github/workflows").glob("*.yml"))
    result = run("node", ROOT / "tests/deploy/actionlint.cjs", TOOLS / "node", *workflows)
    said = [line for line in result.stdout.splitlines() if not any(word in line for word in NEWER_THAN_ACTIONLINT)]
    assert said == [], "\n".join(said)
    uses = [line for path in workflows for line in path.read_text().splitlines() if "uses:" in line]
    assert uses and all(re.search(r"@[0-9a-f]{40} # v[\d.]+$", line) for line in uses), uses
    report(f"zizmor, actionlint: clean; {len(uses)} actions by commit")


def test_kubernetes_manifests(report):
    manifests = sorted(set((ROOT / "deploy/kubernetes").glob("*.yaml")))
    kustomization = yaml.safe_load((ROOT / "deploy/kubernetes/kustomization.yaml").read_text())
    resources = [path for path in manifests if path.name != "kustomization.yaml"]
    assert sorted(kustomization["resources"]) == [path.name for path in resources]
    kinds = [doc["kind"] for path in resources for doc in yaml.safe_load_all(path.read_text())]
    assert sorted(kinds) == [
        "NetworkPolicy", "PodDisruptionBudget", "Service", "Service", "StatefulSet",
    ]  # fmt: skip
    for version in ("1.30.0", "1.37.0"):
        result = run(tool("kubernetes-validate"), "--strict", "-k", version, *resources)
        assert result.returncode == 0, result.stdout
        assert result.stdout.count(" passed for resource ") == len(kinds), result.stdout
    report(f"kubernetes-validate --strict: {len(kinds)} resources against 1.30 and 1.37")


def test_a_wrong_manifest_is_refused(tmp_path):
    text = (ROOT / "deploy/kubernetes/statefulset.yaml").read_text()
    broken = tmp_path / "broken.yaml"
    broken.write_text(text.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))
    assert run(tool("kubernetes-validate"), "--strict", broken).returncode != 0


def test_systemd_unit(tmp_path, report):
    unit = (ROOT / "deploy/systemd/gossipykv.service").read_text()
    assert "\nExecStart=gossipykv " in unit, "by name: it is in one place by hand and in another by the package"
    program = shutil.which("true")
    copy = tmp_path / "gossipykv.service"
    copy.write_text(unit.replace("ExecStart=gossipykv ", f"ExecStart={program} "))
    result = run("systemd-analyze", "verify", copy)
    assert result.returncode == 0 and result.stdout == "", result.stdout
    result = run("systemd-analyze", "security", "--offline=true", "--threshold=20", copy)
    assert result.returncode == 0, result.stdout
    exposure = re.search(r"Overall exposure level.*: ([\d.]+)", result.stdout).group(1)
    report(f"systemd-analyze: verified, exposure {exposure} of 10")


def test_prometheus_files(tmp_path, report):
    folder = ROOT / "deploy/compose/prometheus"
    result = run("promtool", "check", "config", folder / "prometheus.yml")
    rules = yaml.safe_load((folder / "alerts.yml").read_text())["groups"][0]["rules"]
    assert result.returncode == 0 and f"{len(rules)} rules found" in result.stdout, result.stdout
    # Alerts that fire, so that the rules are known to be more than well-formed: in `one` the nodes
    # count differently, `two` is in two halves of the same size, and `three` is well.
    series = {
        "gossipykv_members{state='alive', cluster='one', instance='a'}": "3x10",
        "gossipykv_members{state='alive', cluster='one', instance='b'}": "2x10",
        "gossipykv_store_bytes{cluster='one', instance='a'}": "200000000x10",
        "gossipykv_store_limit_bytes{cluster='one', instance='a'}": "201326592x10",
        "gossipykv_store_bytes{cluster='one', instance='b'}": "200000000x10",
        "gossipykv_store_limit_bytes{cluster='one', instance='b'}": "0x10",
        "gossipykv_store_bytes{cluster='three', instance='g'}": "200000000x10",
        "gossipykv_store_limit_bytes{cluster='three', instance='g'}": "402653184x10",
        **{f"gossipykv_members{{state='alive', cluster='two', instance='{name}'}}": "2x10" for name in "cdef"},
        **{f"up{{job='gossipykv', cluster='two', instance='{name}'}}": "1x10" for name in "cdef"},
        **{f"gossipykv_members{{state='alive', cluster='three', instance='{name}'}}": "2x10" for name in "gh"},
        **{f"up{{job='gossipykv', cluster='three', instance='{name}'}}": "1x10" for name in "gh"},
    }
    book = "docs/runbook.md#what-each-alarm-means"

    def fires(name, severity, summary, **labels):
        wanted = {"exp_labels": {"severity": severity, **labels}, "exp_annotations": {"summary": summary, "runbook": book}}
        return {"eval_time": "10m", "alertname": name, "exp_alerts": [wanted]}

    tests = [
        fires("MembersDisagree", "critical", "Nodes of cluster one count different numbers of alive members", cluster="one"),
        fires("ClusterSplit", "critical",
              "No node of cluster two sees all that answer: it is in parts of the same size", cluster="two"),
        fires("StoreNearlyFull", "warning", "a of cluster one will soon refuse writes with 507", cluster="one", instance="a"),
        {"eval_time": "10m", "alertname": "NodeDown", "exp_alerts": []},
    ]  # fmt: skip
    (tmp_path / "test.yml").write_text(yaml.safe_dump({
        "rule_files": [str(folder / "alerts.yml")], "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "alert_rule_test": tests,
                   "input_series": [{"series": name, "values": values} for name, values in series.items()]}],
    }))  # fmt: skip
    result = run("promtool", "test", "rules", tmp_path / "test.yml")
    assert result.returncode == 0, result.stdout
    report(f"promtool: {len(rules)} alerts; a split into halves rings, in its own cluster alone")


def test_the_dashboard_is_one(tmp_path, report):
    panels, expressions = dashboard()
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Cluster", "HTTP", "Store", "Replication", "Membership", "Readiness", "Process"]
    for word in ("ready", "peer_lag_writes", "process_resident_bytes", "process_cpu_seconds_total", "store_limit_bytes"):
        assert f"gossipykv_{word}{{" in " ".join(expressions), word
    # Every expression is PromQL: as a rule of its own.
    rules = [{"record": f"panel:{n}", "expr": text} for n, text in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = run("promtool", "check", "rules", tmp_path / "rules.yml")
    assert result.returncode == 0 and f"{len(rules)} rules found" in result.stdout, result.stdout
    # Grafana finds what the panels ask, and the panels themselves, where compose.yaml puts them.
    folder = ROOT / "deploy/compose/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert used == {"${datasource}"} and source["isDefault"], "any Grafana's Prometheus will do"
    raw = (ROOT / "deploy/compose/grafana/dashboards/gossipykv.json").read_text()
    variables = {one["name"]: one for one in json.loads(raw)["templating"]["list"]}
    assert variables["datasource"]["query"] == source["type"] and variables["cluster"]["allValue"] == ".*"
    selectors = re.findall(r"gossipykv_\w+(\{[^}]*\})?", " ".join(expressions))
    assert all('cluster=~".*"' in one for one in selectors), "every expression is of the chosen clusters"
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    service, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert compose[service]["dns"] == compose["node1"]["dns"], "it asks where the record is"
    assert compose[service]["ports"] == [f"127.0.0.1:{port}:{port}"]
    (provider,) = yaml.safe_load((folder / "dashboards/gossipykv.yml").read_text())["providers"]
    path = provider["options"]["path"]
    grafana = compose["grafana"]
    assert f"./deploy/compose/grafana/dashboards:{path}:ro" in grafana["volumes"]
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{path}/gossipykv.json"
    report(f"dashboard: {len(panels)} panels, {len(expressions)} expressions, all PromQL")


def fields(value, path=""):
    """Every field of what was read from JSON, and what it holds."""
    if isinstance(value, dict):
        for name, held in value.items():
            yield from fields(held, f"{path}/{name}")
    elif isinstance(value, list):
        for place, held in enumerate(value):
            yield from fields(held, f"{path}/{place}")
    else:
        yield path, value


def through_grafana(shown):
    """What Grafana's own types make of a dashboard: they keep what they know."""
    read = Dashboard.from_json(json.loads(json.dumps(shown)))
    return json.loads(JSONEncoder(sort_keys=True).encode(read))


def test_grafana_knows_every_field_of_the_dashboard(report):
    """No Grafana is here to look at it; these types are made of its own schemas."""
    register_default_plugins()
    shown = json.loads((ROOT / "deploy/compose/grafana/dashboards/gossipykv.json").read_text())
    kept = dict(fields(through_grafana(shown)))
    unknown = [path for path, value in fields(shown) if kept.get(path) != value]
    assert unknown == []
    # One that is misspelt is passed over.
    place, panel = next(one for one in enumerate(shown["panels"]) if one[1].get("fieldConfig"))
    panel["fieldConfigs"] = panel.pop("fieldConfig")
    passed_over = dict(fields(shown)).keys() - dict(fields(through_grafana(shown))).keys()
    assert passed_over and all(path.startswith(f"/panels/{place}/fieldConfigs/") for path in passed_over)
    report(f"Grafana's types: {len(kept)} fields of the dashboard, all known")


def test_make_lists_its_targets():
    shown = run("make", "--no-print-directory", "-C", ROOT, env={"MAKEFLAGS": ""}, check=True).stdout
    for target in ("clean", "test", "image", "push", "lint", "diff", "deploy", "backup", "destroy"):
        assert f"make {target} " in shown
