"""Three containers of compose.yaml: formed through SRV, one killed, all replaced under load."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.parse

import engine
import pytest
import yaml
from conftest import ROOT, TOOLS, dashboard, run
from engine import alive, http, is_ready, url, wait_for

BALANCER_PORT, CONTROL_PORT = 8090, 8099
# As in compose.yaml, and as ECS and Kubernetes have it.
STOP_SECONDS = 60
DRAIN_SECONDS, LEAVE_SECONDS = 2, 20


@pytest.fixture(scope="module")
def compose(image):
    with engine.Compose() as project:
        wait_for("all three ready", lambda: all(is_ready(n) for n in (1, 2, 3)), 30)
        wait_for("all three see three", lambda: all(len(alive(n)) == 3 for n in (1, 2, 3)), 30)
        yield project


@contextlib.contextmanager
def load(ports, puts, gets, path):
    """A running load; its report is in what is yielded, once the block has ended."""
    report = {}
    ports = ",".join(map(str, ports))
    command = [sys.executable, ROOT / "tests/deploy/load.py", path, ports, str(puts), str(gets), "300"]
    process = subprocess.Popen([str(part) for part in command])
    try:
        yield report
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        report |= json.loads(path.read_text())
    finally:
        process.kill()
        process.wait()


def replace(project, service):
    """Removes a container that has ended and starts another in its place."""
    project("rm", "--force", service)
    project("up", "--detach", "--no-build", "--no-deps", service)


def stop(container):
    """Exit code and seconds of a container asked to end."""
    began = time.monotonic()
    engine.docker("stop", "--time", str(STOP_SECONDS), container)
    took = time.monotonic() - began
    return int(engine.docker("inspect", "--format", "{{.State.ExitCode}}", container)), took


def lost(written, numbers):
    """Keys that a node does not have, by node, once they have had a moment to arrive."""

    def missing():
        return {n: set(written) - set(engine.keys(n)) for n in numbers}

    with contextlib.suppress(AssertionError):
        wait_for("every key on every node", lambda: not any(missing().values()), 10)
    return missing()


def test_found_each_other_through_srv(compose, report):
    for number in (1, 2, 3):
        log = compose("logs", "--no-color", f"node{number}")
        assert "SRV gossip.gossipykv.internal." in log, log
        environment = engine.docker("inspect", "--format", "{{.Config.Env}}", compose.container(f"node{number}"))
        assert "GOSSIPYKV_JOIN" not in environment
    report("three containers formed a cluster through the SRV record alone")


def test_a_put_on_one_is_seen_on_all(compose):
    assert http("PUT", url(1, "/kv/colour/blue")) == (200, '{"colour":"blue"}')
    for number in (1, 2, 3):
        wait_for("the key", lambda n=number: http("GET", url(n, "/kv/colour")) == (200, '{"colour":"blue"}'), 5)


def prometheus(path):
    status, body = http("GET", f"http://127.0.0.1:9090/api/v1/{path}")
    return json.loads(body)["data"] if status == 200 else {}


def test_prometheus_finds_them_and_the_dashboard_shows_something(compose, report):
    """The profile `monitoring` with a real Prometheus; Grafana only draws what it answers."""
    engine.prometheus_image()

    def scraped():
        targets = prometheus("targets").get("activeTargets", [])
        return len([target for target in targets if target["health"] == "up"]) == 3

    def shown(expression):
        return prometheus(f"query?query={urllib.parse.quote(expression)}").get("result")

    compose("--profile", "monitoring", "up", "--detach", "--no-build", "--no-deps", "prometheus")
    try:
        wait_for("three nodes scraped", scraped, 60)
        _, expressions = dashboard()
        for expression in expressions:
            result = wait_for(f"something to show: {expression}", lambda e=expression: shown(e), 60)
            for label in re.findall(r"by \(([^)]*)\)", expression):
                wanted = {name.strip() for name in label.split(",")} - {"le"}
                assert all(wanted <= set(row["metric"]) for row in result), (expression, result)

        alerts = yaml.safe_load((ROOT / "deploy/compose/prometheus/alerts.yml").read_text())
        written = len(alerts["groups"][0]["rules"])

        def judged():
            rules = prometheus("rules")["groups"][0]["rules"]
            return len(rules) == written and {rule["health"] for rule in rules} == {"ok"}

        wait_for("every alert evaluated", judged, 30)
        report(f"Prometheus scrapes three nodes; all {len(expressions)} expressions of the dashboard show something")
    finally:
        if not scraped():
            print(compose("--profile", "monitoring", "logs", "--no-color", "--tail", "20", "prometheus", check=False))
        compose("--profile", "monitoring", "rm", "--stop", "--force", "prometheus", check=False)


def test_they_run_without_any_right(compose):
    for number in (1, 2, 3):
        container = compose.container(f"node{number}")
        host = json.loads(engine.docker("inspect", "--format", "{{json .HostConfig}}", container))
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
        pid = engine.docker("inspect", "--format", "{{.State.Pid}}", container)
        status = run("cat", f"/proc/{pid}/status", check=True).stdout
        assert "\nUid:\t65532\t65532\t" in status and "\nCapEff:\t0000000000000000" in status
        assert "\nNSpid:" in status and status.split("\nNSpid:\t")[1].split("\n")[0].split("\t")[-1] == "1"
        check = "{{.State.Health.Status}}"
        wait_for("healthy", lambda c=container: engine.docker("inspect", "--format", check, c) == "healthy", 30)


def test_one_killed_and_replaced_under_load(compose, tmp_path, report):
    """Clients of the two others notice nothing."""
    names = alive(1)
    with load([8081, 8082], 200, 200, tmp_path / "load.json") as result:
        time.sleep(2)
        victim = compose.container("node3")
        # Not `docker kill` alone: compose would start it again under its old name.
        engine.docker("rm", "--force", victim)
        time.sleep(3)
        replace(compose, "node3")
        wait_for("the new one ready", lambda: is_ready(3), 60)
        wait_for("three again", lambda: all(len(alive(n)) == 3 for n in (1, 2, 3)), 60)
        assert alive(1) != names, "it is another member"
        time.sleep(2)
    assert result["failures"] == [], result["failures"][:5]
    assert len(result["written"]) > 500
    missing = lost(result["written"], (1, 2, 3))
    assert not any(missing.values()), {n: sorted(keys)[:5] for n, keys in missing.items()}
    report(
        f"one of three killed and replaced under load: {sum(result['counts'].values())} requests to the "
        f"others, 0 failed; {len(result['written'])} keys written, 0 lost"
    )


def test_sigterm_ends_in_good_order(compose, report):
    container = compose.container("node2")
    names = alive(1)
    code, took = stop(container)
    assert code == 0 and took < DRAIN_SECONDS + LEAVE_SECONDS + 2
    left = wait_for("it is known to have left", lambda: names - alive(1), 5)
    assert len(left) == 1
    states = {m["name"]: m["state"] for m in json.loads(http("GET", url(1, "/members"))[1])["members"]}
    assert states.get(left.pop(), "left") == "left", "not dead: it has said so"
    replace(compose, "node2")
    wait_for("three again", lambda: is_ready(2) and len(alive(1)) == 3, 60)
    report(f"SIGTERM: exit 0 after {took:.1f} s of {STOP_SECONDS}")


HAPROXY = f"""
global
    maxconn 2000
    log 127.0.0.1:5514 format raw local0
    stats socket ipv4@127.0.0.1:{CONTROL_PORT} level admin
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    # As an ALB: a request goes to one node once.
    retries 0
    http-reuse safe
frontend api
    bind 127.0.0.1:{BALANCER_PORT}
    default_backend nodes
backend nodes
    balance leastconn
    option httpchk GET /health
    # What the target group has, ten times as fast.
    default-server check inter 500ms fall 2 rise 2
    server node1 127.0.0.1:8081
    server node2 127.0.0.1:8082
    server node3 127.0.0.1:8083
"""


class Balancer:
    """haproxy, which looks at /health and never sends a request twice."""

    def __enter__(self):
        path = TOOLS / "haproxy.cfg"
        path.write_text(textwrap.dedent(HAPROXY))
        self.process = subprocess.Popen(["haproxy", "-f", str(path)], stderr=(TOOLS / "haproxy.log").open("w"))
        wait_for("haproxy", lambda: self.up() == {"node1", "node2", "node3"}, 15)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ask(self, command):
        try:
            with socket.create_connection(("127.0.0.1", CONTROL_PORT), 5) as connection:
                connection.sendall(f"{command}\n".encode())
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        except OSError:
            return ""

    def rows(self):
        rows = [line.split(",") for line in self.ask("show stat").splitlines() if line.startswith("nodes,node")]
        return {row[1]: row for row in rows}

    def up(self):
        return {name for name, row in self.rows().items() if row[17] == "UP"}

    def errors(self):
        """Connections refused and answers broken off or 5xx, by node."""
        return {name: int(row[13]) + int(row[14]) + int(row[43]) for name, row in self.rows().items()}


def roll(project, balancer, drain, tmp_path):
    """Replaces all three nodes, one by one, under load. With `drain` the balancer is told first."""
    stops = []
    with load([BALANCER_PORT], 500, 500, tmp_path / "load.json") as result:
        time.sleep(3)
        for number in (1, 2, 3):
            name = f"node{number}"
            if drain:
                balancer.ask(f"set server nodes/{name} state drain")
                time.sleep(2)
            before = balancer.errors()
            began = time.time()
            code, took = stop(project.container(name))
            stops.append((name, began, time.time(), code, took))
            replace(project, name)
            wait_for("ready", lambda n=number: is_ready(n), 60)
            if drain:
                balancer.ask(f"set server nodes/{name} state ready")
            wait_for("up again", lambda: balancer.up() == {"node1", "node2", "node3"}, 30)
            after = balancer.errors()
            others = [other for other in after if other != name]
            assert [after[o] - before[o] for o in others] == [0, 0], "errors of nodes that nobody stopped"
            time.sleep(2)
        time.sleep(2)
    return result, stops


def figures(result):
    counts = result["counts"]
    rest = {key: n for key, n in counts.items() if not key.endswith(" 200")}
    return f"{sum(counts.values())} requests ({rest or 'all 200'}), {result['milliseconds']} ms"


@pytest.mark.parametrize("drain", [True, False], ids=["told the balancer", "told nobody"])
def test_rolling_replacement(compose, tmp_path, report, drain):
    with Balancer() as balancer:
        result, stops = roll(compose, balancer, drain, tmp_path)
    for name, _, _, code, took in stops:
        assert code == 0 and took < DRAIN_SECONDS + LEAVE_SECONDS + 2, (name, code, took)
    written = result["written"]
    missing = lost(written, (1, 2, 3))
    n_lost = len(set().union(*missing.values()))
    report(
        f"rolling replacement, {'deregistered first' if drain else 'SIGTERM alone'}: {figures(result)}; "
        f"{len(written)} keys written, {n_lost} lost"
    )
    assert n_lost == 0, {n: sorted(keys)[:5] for n, keys in missing.items()}
    # Whatever failed, failed on the node that was being stopped, while it was.
    outside = [f for f in result["failures"] if not any(began - 0.5 <= f[0] <= ended + 2 for _, began, ended, *_ in stops)]
    assert outside == [], outside[:5]
    if drain:
        assert result["failures"] == [], result["failures"][:5]
    rate = sum(result["counts"].values()) / (stops[-1][2] - stops[0][1] + 5)
    assert rate > 700, f"the load was thin: {rate:.0f} requests a second"


# A new task of a roll, beside the three that serve: as ECS starts it before it stops one of them.
NEW = "gkv_new"
# Longer than the 8 s after which a node that hears nobody was once taken for the first of a cluster.
STUCK_SECONDS = 12


def told_like(project, service):
    """The settings of a node of compose.yaml."""
    lines = engine.docker("inspect", "--format", "{{json .Config.Env}}", project.container(service))
    return dict(line.split("=", 1) for line in json.loads(lines))


@contextlib.contextmanager
def new_task(project, settings, closed):
    """A container with these settings; with `closed` nobody's gossip gets to it, nor its own out."""
    network = engine.docker("inspect", "--format", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}",
                            project.container("node1"))  # fmt: skip
    holder = f"{NEW}_holder"
    env = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    try:
        # It has the addresses before the node starts, so that the port is closed by then.
        engine.docker("run", "--detach", "--name", holder, "--network", network, "--dns", "172.30.79.53",
                      engine.BASE, "sleep", "600")  # fmt: skip
        if closed:
            pid = engine.docker("inspect", "--format", "{{.State.Pid}}", holder)
            rules = "\n".join(
                f"add chain inet closed {hook} {{ type filter hook {hook} priority 0; }}\n"
                f"add rule inet closed {hook} meta l4proto {{ tcp, udp }} th dport 7947 drop"
                for hook in ("input", "output")
            )
            rules = f"add table inet closed\n{rules}\n"
            (TOOLS / "closed.nft").write_text(rules)
            run("nsenter", "--net", "--target", pid, "nft", "-f", TOOLS / "closed.nft", check=True)
        engine.docker("run", "--detach", "--name", NEW, "--network", f"container:{holder}", *env,
                      "--read-only", "--cap-drop", "ALL", engine.NODE)  # fmt: skip
        yield NEW
    finally:
        for name in (NEW, holder):
            run("docker", "rm", "--force", name)


FAULTS = {
    "another gossip key": ({"GOSSIPYKV_ENCRYPT_KEYS": "YW5vdGhlci1nb3NzaXAta2V5LW9mLTMyLWJ5dGVzLWw="}, False),
    "another label": ({"GOSSIPYKV_LABEL": "another"}, False),
    "a closed port": ({}, True),
}


@pytest.mark.parametrize("fault", [None, *FAULTS], ids=lambda fault: fault or "nothing wrong")
def test_a_roll_that_cannot_join_stops_at_its_first_task(compose, report, fault):
    """The orchestrator waits for the new task to be ready before it stops an old one, and waits in vain."""
    written = [f"roll-{number:03}" for number in range(200)]
    for number, key in enumerate(written):
        assert http("PUT", url(1 + number % 3, f"/kv/{key}/v-{key}?w=all"))[0] == 200
    changed, closed = FAULTS.get(fault, ({}, False))

    def ready(task):
        return run("docker", "exec", task, "/gossipykv", "health", "--ready").returncode == 0

    with new_task(compose, told_like(compose, "node1") | changed, closed) as task:
        if fault is None:
            # The same way with the same settings: what keeps the others out is the fault alone.
            wait_for("the new task is ready", lambda: ready(task), 60)
            engine.docker("stop", "--time", str(STOP_SECONDS), task)
            wait_for("three again", lambda: all(len(alive(n)) == 3 for n in (1, 2, 3)), 60)
            return
        began = time.monotonic()
        while time.monotonic() - began < STUCK_SECONDS:
            assert not ready(task), run("docker", "logs", task).stdout
            for number in (1, 2, 3):
                assert is_ready(number)
        running = engine.docker("inspect", "--format", "{{.State.Running}}", task)
        assert running == "true", "alive, and not ready: that is what the roll waits for"
        said = run("docker", "exec", task, "/gossipykv", "health", "--ready").stdout.strip()
    for key in written:
        for number in (1, 2, 3):
            assert http("GET", url(number, f"/kv/{key}")) == (200, f'{{"{key}":"v-{key}"}}'), (number, key)
    report(f"a roll under {fault}: no task gets ready in {STUCK_SECONDS} s, every key is served; {said[:160]}")
