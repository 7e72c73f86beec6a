"""Ports, names and timeouts that several files tell must be the same in all of them.

The numbers of the contract are written here once more; everything else is read from the files.
"""

import base64
import json
import math
import re

import yaml
from conftest import ROOT, run
from resolve import Resolved

GOSSIP_PORT, HTTP_PORT = 7947, 8080
# A stopping node ends this long after its leave timeout at the latest.
AFTER_LEAVE_SECONDS = 2
FAMILY = {"ImageUri", "VpcId", "PublicSubnetIds", "PrivateSubnetIds"}


def seconds(text):
    value, unit = re.fullmatch(r"(\d+)\s*(s|m|)", str(text)).groups()
    return int(value) * {"": 1, "s": 1, "m": 60}[unit]


def container(service):
    (one,) = service["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    return one


def ecs_environment(service, **given):
    (node,) = Resolved(service, **given)["TaskDefinition"]["ContainerDefinitions"]
    return {entry["Name"]: entry["Value"] for entry in node["Environment"]}


def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def manifests(kind):
    found = [
        document
        for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] == kind
    ]
    return {document["metadata"]["name"]: document for document in found} if kind == "Service" else found[0]


def pod():
    return manifests("StatefulSet")["spec"]["template"]["spec"]


def pod_environment():
    return {entry["name"]: entry.get("value") for entry in pod()["containers"][0]["env"]}


def unit():
    return (ROOT / "deploy/systemd/gossipykv.service").read_text()


def dockerfile():
    return (ROOT / "Dockerfile").read_text()


def source(path):
    return (ROOT / path).read_text()


def sources(room=""):
    return "\n".join(path.read_text() for path in sorted((ROOT / "src" / room).rglob("*.rs")))


# -- Ports --------------------------------------------------------------------------------------


def test_the_program_has_the_contracts_ports():
    assert f"GOSSIP_PORT: u16 = {GOSSIP_PORT}" in source("src/discovery/mod.rs")
    config = source("src/cli/config.rs")
    assert f'default_value = "0.0.0.0:{GOSSIP_PORT}"' in config
    assert f'default_value = "127.0.0.1:{HTTP_PORT}"' in config


def test_the_image_exposes_them():
    exposed = re.search(r"^EXPOSE (.*)$", dockerfile(), re.M).group(1).split()
    assert sorted(exposed) == sorted([f"{HTTP_PORT}/tcp", f"{GOSSIP_PORT}/tcp", f"{GOSSIP_PORT}/udp"])
    assert f"ENV GOSSIPYKV_HTTP=0.0.0.0:{HTTP_PORT}\n" in dockerfile()


def test_the_task_maps_them(service):
    mapped = {(m["ContainerPort"], m["Protocol"]) for m in container(service)["PortMappings"]}
    assert mapped == {(HTTP_PORT, "tcp"), (GOSSIP_PORT, "tcp"), (GOSSIP_PORT, "udp")}
    for stack in ("dualstack", "ipv6"):
        environment = ecs_environment(service, IpStack=stack)
        assert environment["GOSSIPYKV_HTTP"].endswith(f":{HTTP_PORT}")
        assert environment["GOSSIPYKV_BIND"].endswith(f":{GOSSIP_PORT}")


def test_load_balancer_and_registry_lead_to_them(service):
    resources = service["Resources"]
    properties = resources["Service"]["Properties"]
    (balanced,) = properties["LoadBalancers"]
    (registry,) = properties["ServiceRegistries"]
    name = container(service)["Name"]
    assert (balanced["ContainerName"], balanced["ContainerPort"]) == (name, HTTP_PORT)
    assert (registry["ContainerName"], registry["ContainerPort"]) == (name, GOSSIP_PORT)
    assert resources["TargetGroup"]["Properties"]["HealthCheckPath"] == "/health"


def test_security_groups_open_them_and_nothing_else(service):
    resources = Resolved(service).resources
    tasks = {"Fn::GetAtt": ["TaskSecurityGroup", "GroupId"]}
    balancer = {"Fn::GetAtt": ["LoadBalancerSecurityGroup", "GroupId"]}
    into_tasks = set()
    for rule in resources["TaskSecurityGroup"]["Properties"]["SecurityGroupIngress"]:
        assert rule["SourceSecurityGroupId"] == balancer
        into_tasks.add((rule["IpProtocol"], rule["FromPort"], rule["ToPort"], "balancer"))
    for resource in resources.values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress" and properties["GroupId"] == tasks:
            assert properties["SourceSecurityGroupId"] == tasks
            into_tasks.add((properties["IpProtocol"], properties["FromPort"], properties["ToPort"], "tasks"))
    assert into_tasks == {
        ("tcp", HTTP_PORT, HTTP_PORT, "balancer"),
        ("tcp", GOSSIP_PORT, GOSSIP_PORT, "tasks"),
        ("udp", GOSSIP_PORT, GOSSIP_PORT, "tasks"),
    }
    out = {(r["Properties"]["IpProtocol"], r["Properties"]["FromPort"]) for r in resources.values()
           if r["Type"] == "AWS::EC2::SecurityGroupEgress" and r["Properties"]["GroupId"] == tasks}  # fmt: skip
    assert out == {("tcp", GOSSIP_PORT), ("udp", GOSSIP_PORT)}


def test_compose_and_kubernetes_have_them():
    services = compose()["services"]
    for number in (1, 2, 3):
        (port,) = services[f"node{number}"]["ports"]
        assert port == f"127.0.0.1:{HTTP_PORT + number}:{HTTP_PORT}"
    ports = {(p["name"], p["containerPort"], p["protocol"]) for p in pod()["containers"][0]["ports"]}
    assert ports == {("http", HTTP_PORT, "TCP"), ("gossip", GOSSIP_PORT, "TCP"), ("gossip-udp", GOSSIP_PORT, "UDP")}
    policy = manifests("NetworkPolicy")["spec"]
    ingress = [{(p["port"], p["protocol"]) for p in rule["ports"]} for rule in policy["ingress"]]
    gossip = {(GOSSIP_PORT, "TCP"), (GOSSIP_PORT, "UDP")}
    assert ingress == [{(HTTP_PORT, "TCP")}, gossip]
    assert "from" in policy["ingress"][1], "gossip comes from nodes only"
    assert {(p["port"], p["protocol"]) for p in policy["egress"][0]["ports"]} == gossip
    prometheus = source("deploy/compose/prometheus/prometheus.yml")
    assert f"regex: (.+):{GOSSIP_PORT}" in prometheus and f"replacement: $1:{HTTP_PORT}" in prometheus
    assert re.findall(r"^srv-host=.*,(\d+)$", source("deploy/compose/dns/dnsmasq.conf"), re.M) == [str(GOSSIP_PORT)] * 3


# -- Names --------------------------------------------------------------------------------------


def test_every_variable_is_one_the_program_reads(service):
    flags = source("src/cli/config.rs") + source("src/cli/front.rs")
    known = set(re.findall(r'"(GOSSIPYKV_[A-Z_]+|LOG_LEVEL)"', flags))
    secrets = container(service)["Secrets"]
    named = {entry["Name"] if "Name" in entry else entry["Fn::If"][1]["Name"] for entry in secrets}
    assert named == {"GOSSIPYKV_ENCRYPT_KEYS", "GOSSIPYKV_HTTP_TOKEN"}
    used = named | set(ecs_environment(service)) | set(compose()["x-node"]["environment"])
    used |= {name for name in pod_environment() if not name.startswith("POD_")}
    used |= set(re.findall(r"^Environment=(\w+)=", unit(), re.M)) | set(re.findall(r"^ENV (\w+)=", dockerfile(), re.M))
    assert used <= known, f"nobody reads {used - known}"


def test_without_a_token_nodes_go_by_the_names_that_callers_use(service):
    """Otherwise whoever asks by a name gets 421. Health checks may use any."""
    assert "GOSSIPYKV_HTTP_HOST" not in ecs_environment(service)
    assert ecs_environment(service, HttpToken="none")["GOSSIPYKV_HTTP_HOST"] == "*"
    names = compose()["x-node"]["environment"]["GOSSIPYKV_HTTP_HOST"].split(",")
    for name, node in compose()["services"].items():
        if name.startswith("node"):
            # Prometheus asks by the alias, which is what the SRV record names.
            assert {name, *node["networks"]["gossip"]["aliases"]} <= set(names)
    name = "gossipykv"
    assert name in manifests("Service")
    domain = [name, "$(POD_NAMESPACE)", "svc", "cluster.local"]
    expected = [".".join(domain[:length]) for length in (1, 2, 3, 4)]
    assert pod_environment()["GOSSIPYKV_HTTP_HOST"].split(",") == expected


def test_every_metric_is_one_the_program_has():
    text = sources()
    dashboard = source("deploy/compose/grafana/dashboards/gossipykv.json")
    used = set(re.findall(r"\bgossipykv_([a-z_]+)\b", dashboard + source("deploy/compose/prometheus/alerts.yml")))
    assert len(used) > 25
    missing = {name for name in used if f'"{name}"' not in text}
    assert missing == set(), f"no such metric: {missing}"
    panels = json.loads(dashboard)["panels"]
    assert all(panel["description"] and panel["targets"] for panel in panels if panel["type"] != "row")


def test_every_alarm_is_in_the_runbook(service):
    book = source("docs/runbook.md")
    for name, resource in service["Resources"].items():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            assert f"`{name}`" in book, f"the runbook does not tell what {name} means"
    rules = yaml.safe_load(source("deploy/compose/prometheus/alerts.yml"))["groups"][0]["rules"]
    for rule in rules:
        assert f"`{rule['alert']}`" in book, f"the runbook does not tell what {rule['alert']} means"
        assert rule["labels"]["severity"] in ("critical", "warning")
        # A page in a repository: whoever hosts it knows the address before that.
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^#+ (.*)$", source(page), re.M)
        assert anchor in {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert "$labels.cluster" in rule["annotations"]["summary"], "which cluster it is"


# What should stand still and rings nothing, with the reason.
RINGS_NOT = {
    "gaps_open": "writes on their way; what lasts rings StoresDiffer, and the lag of who made them",
    "push_pulls_refused_total": "the node that dials is told so by NotReady or MembersDisagree",
    "streams_displaced_total": "a scan from outside is no work for tonight, and costs members nothing",
    "http_refusals_total": "clients beyond a bound; those that are refused with 5xx ring AnswersFail",
    "health_score": "a busy node; a deaf one rings TurnsLong",
    "replication_passed_over_total": "it rises while a newer version runs beside, as it should",
}


def test_what_should_stand_still_rings():
    """Whatever the runbook wants to be 0 or to stand still has an alert that the row names, or a reason."""
    alerts = {rule["alert"]: rule["expr"] for rule in
              yaml.safe_load(source("deploy/compose/prometheus/alerts.yml"))["groups"][0]["rules"]}  # fmt: skip
    rows = re.findall(r"^\| `gossipykv_(\w+)[^|]*\| (?:0|stands still)\b([^|]*)\|(.*)\|$", source("docs/runbook.md"), re.M)
    assert len(rows) > 15
    silent = set()
    for name, _, action in rows:
        named = [alert for alert in re.findall(r"`(\w+)`", action) if alert in alerts]
        rung = [alert for alert, expression in alerts.items() if re.search(rf"\bgossipykv_{name}\b", expression)]
        assert set(rung) <= set(named), f"the row of {name} does not name {rung}"
        if not rung:
            silent.add(name)
    assert silent == set(RINGS_NOT), silent ^ set(RINGS_NOT)


def test_discovery_asks_for_the_record_that_is_kept(service):
    resources = service["Resources"]
    assert resources["GossipDiscovery"]["Properties"]["DnsConfig"]["DnsRecords"][0]["Type"] == "SRV"
    asked = ecs_environment(service)["GOSSIPYKV_DISCOVER_SRV"]
    assert asked == "${GossipDiscovery.Name}." + Resolved(service)["Namespace"]["Name"]
    assert int(resources["Namespace"]["Properties"]["Properties"]["DnsProperties"]["SOA"]["TTL"]) <= 15

    asked = compose()["x-node"]["environment"]["GOSSIPYKV_DISCOVER_SRV"]
    records = re.findall(r"^srv-host=([^,]+),([^,]+),", source("deploy/compose/dns/dnsmasq.conf"), re.M)
    assert {name for name, _ in records} == {asked}
    services = compose()["services"]
    aliases = {services[f"node{n}"]["networks"]["gossip"]["aliases"][0] for n in (1, 2, 3)}
    assert {target for _, target in records} == aliases
    assert f"names: [{asked}]" in source("deploy/compose/prometheus/prometheus.yml")
    assert compose()["x-node"]["dns"] == services["dns"]["networks"]["gossip"]["ipv4_address"]

    asked = pod_environment()["GOSSIPYKV_DISCOVER_SRV"]
    port, protocol, name, *_ = asked.split(".")
    headless = manifests("Service")[name]["spec"]
    assert headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"] is True
    assert (port, protocol) in {(f"_{p['name']}", f"_{p['protocol'].lower()}") for p in headless["ports"]}
    assert manifests("StatefulSet")["spec"]["serviceName"] == name


def test_selectors_select_the_pods():
    labels = manifests("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert manifests("StatefulSet")["spec"]["selector"]["matchLabels"] == labels
    assert manifests("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert manifests("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    for one in manifests("Service").values():
        assert one["spec"]["selector"] == labels


def test_the_same_user_and_program_everywhere(service):
    user = re.search(r"^USER (\S+)$", dockerfile(), re.M).group(1)
    program = json.loads(re.search(r"^ENTRYPOINT (.*)$", dockerfile(), re.M).group(1))[0]
    assert container(service)["User"] == user
    context = pod()["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user and context["runAsNonRoot"]
    checks = [
        container(service)["HealthCheck"]["Command"],
        compose()["x-node"]["healthcheck"]["test"],
        ["CMD", *json.loads(re.search(r"^HEALTHCHECK .* CMD (.*)$", dockerfile(), re.M).group(1))],
    ]
    assert checks == [["CMD", program, "health"]] * 3
    assert container(service)["Command"] == json.loads(re.search(r"^CMD (.*)$", dockerfile(), re.M).group(1)) == ["agent"]


def test_every_parameter_file_fits_its_template(service, network):
    filled = FAMILY | {"DesiredCount"}
    for folder in (ROOT / "cloudformation/parameters").iterdir():
        for name, template in (("network", network), ("service", service)):
            lines = (folder / f"{name}.params").read_text().splitlines()
            for line in filter(lambda line: line and not line.startswith("#"), lines):
                key, value = line.split("=", 1)
                parameter = template["Parameters"][key]
                assert key not in filled, f"{key} is filled in by the scripts"
                allowed = [str(v) for v in parameter.get("AllowedValues", [value])]
                assert value in allowed and re.search(parameter.get("AllowedPattern", ""), value)
                if parameter["Type"] == "Number" and "MinValue" in parameter:
                    assert parameter["MinValue"] <= int(value) <= parameter["MaxValue"]
    for output in ("VpcId", "PublicSubnetIds", "PrivateSubnetIds"):
        assert output in network["Outputs"] and output in service["Parameters"]
    text = source("deploy/deploy.sh") + source("deploy/lib.sh")
    for output in re.findall(r'stack_output "\$(?:STACK)" (\w+)', text):
        assert output in service["Outputs"], output


def test_the_scripts_read_the_templates_parameters_and_defaults(service, network):
    """They do so without YAML's rules, by the shape that the templates have."""
    script = """
        . "$(dirname -- "$0")/lib.sh"
        . "$(dirname -- "$0")/remember.sh"
        read_template network "$NETWORK_TEMPLATE" && read_template service "$SERVICE_TEMPLATE"
        cat "$WORK/network.template" "$WORK/service.template"
    """
    shown = run("sh", "-c", script, ROOT / "deploy/test.sh", check=True).stdout
    parameters = {**network["Parameters"], **service["Parameters"]}
    expected = {name: str(one.get("Default", "")) for name, one in parameters.items()}
    assert dict(line.split("=", 1) for line in shown.splitlines()) == expected


# -- Times --------------------------------------------------------------------------------------


def test_a_leaving_node_has_the_time_it_needs(service):
    """What kills a node must wait longer than the node may take to leave."""
    ecs = container(service)
    drain = seconds(ecs_environment(service)["GOSSIPYKV_DRAIN_DELAY"])
    leave = seconds(ecs_environment(service)["GOSSIPYKV_LEAVE_TIMEOUT"])
    assert drain + leave + AFTER_LEAVE_SECONDS < ecs["StopTimeout"] <= 120

    node = compose()["x-node"]
    drain = seconds(re.search(r":-(\d+s)", node["environment"]["GOSSIPYKV_DRAIN_DELAY"]).group(1))
    leave = seconds(node["environment"]["GOSSIPYKV_LEAVE_TIMEOUT"])
    assert drain + leave + AFTER_LEAVE_SECONDS < seconds(node["stop_grace_period"])

    sleep = pod()["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    leave = seconds(pod_environment()["GOSSIPYKV_LEAVE_TIMEOUT"])
    assert sleep + leave + AFTER_LEAVE_SECONDS < pod()["terminationGracePeriodSeconds"]

    leave = seconds(re.search(r"GOSSIPYKV_LEAVE_TIMEOUT=(\S+)", unit()).group(1))
    assert leave + AFTER_LEAVE_SECONDS < seconds(re.search(r"TimeoutStopSec=(\S+)", unit()).group(1))


def default_of(flag):
    return re.search(rf'default_value = "(\w+)"\)\]\n\s+{flag}: ', source("src/cli/config.rs")).group(1)


def test_the_pages_tell_the_times_of_the_end(service):
    """Those of the template in the runbook, those of the program in the page about HTTP."""
    environment, stop = ecs_environment(service), container(service)["StopTimeout"]
    target = service["Resources"]["TargetGroup"]["Properties"]
    attributes = {a["Key"]: a["Value"] for a in target["TargetGroupAttributes"]}
    lines = [line.strip("| ").split(" | ") for line in source("docs/runbook.md").splitlines()]
    rows = {cells[2].strip("`"): cells[1] for cells in lines if len(cells) == 3}
    drain = environment["GOSSIPYKV_DRAIN_DELAY"]
    assert rows["--drain-delay` (`GOSSIPYKV_DRAIN_DELAY`)"] == str(seconds(drain))
    leave = seconds(environment["GOSSIPYKV_LEAVE_TIMEOUT"])
    assert rows["--leave-timeout` (`GOSSIPYKV_LEAVE_TIMEOUT`)"].startswith(f"up to {leave},")
    assert rows["target group health check"] == (
        f"{target['UnhealthyThresholdCount']} x {target['HealthCheckIntervalSeconds']}, "
        f"and {target['HealthCheckTimeoutSeconds']} for an answer"
    )
    assert rows["deregistration_delay"] == attributes["deregistration_delay.timeout_seconds"]
    assert rows["the program"] == f"up to {AFTER_LEAVE_SECONDS} more"
    assert rows["StopTimeout"] == str(stop)

    http = " ".join(source("docs/http.md").split())
    for flag in ("drain-delay", "leave-timeout"):
        default = seconds(default_of(flag.replace("-", "_")))
        assert f"`--{flag}` ({default} s)" in http
    assert f"--drain-delay {drain}" in source("README.md")


def test_the_load_balancer_ends_idle_connections_first(service):
    """Else it would now and then send a request to a node that is just hanging up: a 502."""
    attributes = service["Resources"]["LoadBalancer"]["Properties"]["LoadBalancerAttributes"]
    (idle,) = [a["Value"] for a in attributes if a.get("Key") == "idle_timeout.timeout_seconds"]
    (ours,) = re.findall(r"\bidle: Duration::from_secs\((\d+)\)", sources("http"))
    assert int(idle) < int(ours)


def test_probes_agree(service):
    health = container(service)["HealthCheck"]
    check = compose()["x-node"]["healthcheck"]
    written = dict(re.findall(r"--([a-z-]+)=(\S+)", re.search(r"^HEALTHCHECK (.*) CMD", dockerfile(), re.M).group(1)))
    assert (health["Interval"], health["Timeout"], health["Retries"], health["StartPeriod"]) == (
        seconds(check["interval"]), seconds(check["timeout"]), check["retries"], seconds(check["start_period"]),
    ) == (
        seconds(written["interval"]), seconds(written["timeout"]), int(written["retries"]), seconds(written["start-period"]),
    )  # fmt: skip
    assert health["Timeout"] < health["Interval"]


def test_a_rolling_deployment_replaces_one_at_a_time(service):
    """A new task comes before an old one goes, whatever the count, and only one."""
    configuration = service["Resources"]["Service"]["Properties"]["DeploymentConfiguration"]
    assert configuration["MinimumHealthyPercent"] == 100
    assert configuration["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    least = service["Parameters"]["DesiredCount"]["MinValue"]
    for count in range(least, 4):
        assert math.floor(count * configuration["MaximumPercent"] / 100) == count + 1


def test_readiness_is_seen_before_the_grace_is_over(service):
    target = service["Resources"]["TargetGroup"]["Properties"]
    attributes = {a["Key"]: a["Value"] for a in target["TargetGroupAttributes"]}
    delay = int(attributes["deregistration_delay.timeout_seconds"])
    # At worst readiness turns just after a check, and each of those that follow takes all its time.
    seen = target["HealthCheckIntervalSeconds"] * target["UnhealthyThresholdCount"] + target["HealthCheckTimeoutSeconds"]
    assert target["HealthCheckTimeoutSeconds"] < target["HealthCheckIntervalSeconds"]
    assert seen <= delay, "a task that turned unready is known as such before its time is over"
    drain = seconds(ecs_environment(service)["GOSSIPYKV_DRAIN_DELAY"])
    assert seen < drain and delay <= drain, "it serves until the load balancer has let go of it"
    assert delay < container(service)["StopTimeout"]
    healthy = target["HealthCheckIntervalSeconds"] * target["HealthyThresholdCount"]
    grace = service["Resources"]["Service"]["Properties"]["HealthCheckGracePeriodSeconds"]
    assert healthy + container(service)["HealthCheck"]["StartPeriod"] < grace
    # A task is not ready before it has copied the store, and ECS must not kill it for that.
    largest = max(int(size["StoreBytes"]) for size in service["Mappings"]["Sizes"].values())
    assert largest / (grace - healthy - container(service)["HealthCheck"]["StartPeriod"]) < 13e6, "bytes a second"
    probe = pod()["containers"][0]["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= pod()["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]


# -- Sizes and secrets --------------------------------------------------------------------------


def test_the_store_fits_the_memory(service):
    for size in service["Mappings"]["Sizes"].values():
        memory = int(size["Memory"]) << 20
        assert int(size["StoreBytes"]) * 8 == memory * 3, "three eighths"
    small = service["Mappings"]["Sizes"]["small"]["StoreBytes"]
    assert compose()["x-node"]["environment"]["GOSSIPYKV_MAX_STORE_BYTES"] == small
    # Its memory is patched by whoever applies it.
    assert pod_environment()["GOSSIPYKV_MAX_STORE_BYTES"] == "auto"
    assert pod()["containers"][0]["resources"]["limits"]["memory"] == "512Mi"
    # The alert goes by what each node says is its limit.
    assert "* (gossipykv_store_limit_bytes > 0)" in source("deploy/compose/prometheus/alerts.yml")


def test_generated_and_example_keys_are_keys(service):
    secret = service["Resources"]["GossipKey"]["Properties"]["GenerateSecretString"]
    assert secret["ExcludePunctuation"] and not secret["IncludeSpace"]
    generated = "aZ9" * secret["PasswordLength"]
    assert len(base64.b64decode(generated[: secret["PasswordLength"]], validate=True)) in (16, 24, 32)
    written = compose()["x-node"]["environment"]["GOSSIPYKV_ENCRYPT_KEYS"]
    example = re.fullmatch(r"\$\{GOSSIPYKV_ENCRYPT_KEYS:-(\S+)\}", written).group(1)
    assert len(base64.b64decode(example, validate=True)) in (16, 24, 32)


def test_the_image_is_one_program_and_nothing_else():
    last = dockerfile().split("\nFROM ")[-1]
    assert last.startswith("scratch\n")
    assert re.findall(r"^(?:COPY|ADD) (.*)$", last, re.M) == ["--from=build /image/gossipykv /gossipykv"]
    assert "RUN" not in last
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert ignored[1] == "*" and {"!Cargo.toml", "!Cargo.lock", "!build.rs", "!src"} <= set(ignored)


def test_the_toolchain_is_new_enough():
    wanted = re.search(r'^rust-version = "([\d.]+)"', source("Cargo.toml"), re.M).group(1)
    for path in ("Dockerfile", "compose.yaml"):
        given = re.search(r"rust:([\d.]+)-slim", source(path)).group(1)
        assert tuple(map(int, given.split("."))) >= tuple(map(int, wanted.split(".")))


def test_make_test_is_what_ci_runs():
    assert "\ntest: ## all tests, as CI runs them\n\t@$(NEED_CARGO)\n\tbash tests/run\n" in source("Makefile")
    assert run("git", "-C", ROOT, "ls-files", "--error-unmatch", "Makefile").returncode == 0
