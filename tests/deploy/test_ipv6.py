"""Clusters of two and of three on hosts without any IPv4, as tasks are with IpStack=ipv6.

The nodes have the template's settings for that. They learn name and address from the metadata of their
task, and of each other from SRV records whose names have AAAA records alone.
"""

import contextlib
import http.server
import json
import signal
import socket
import subprocess
import threading

import pytest
from conftest import Told, run
from engine import wait_for
from resolve import Resolved
from test_isolation import background, on

ROUTER = "fd42::1"
DNS, METADATA = 53, 8951
PATIENCE = 60


def address(number):
    return f"fd42::1:{number}"


class Tasks(Told):
    """What ECS tells a container of itself, at a path of its own."""

    def do_GET(self):
        number = int(self.path.rsplit("/", 1)[1])
        networks = [{"NetworkMode": "awsvpc", "IPv6Addresses": [address(number)]}]
        self.answer({"DockerId": f"task-{number}", "Networks": networks})


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


class Hosts:
    """Network namespaces on a bridge, none of which has an IPv4 address, loopback included."""

    def __init__(self, count, binary, settings, folder):
        self.binary, self.settings, self.folder = binary, settings, folder
        run("ip", "link", "add", "vpc6", "type", "bridge", check=True)
        run("ip", "addr", "add", f"{ROUTER}/64", "dev", "vpc6", "nodad", check=True)
        run("ip", "link", "set", "vpc6", "up", check=True)
        # Docker, when it has run here, has closed the road between ports of a bridge.
        run("ip6tables", "-P", "FORWARD", "ACCEPT")
        self.numbers = range(1, count + 1)
        for number in self.numbers:
            name = self.name(number)
            run("ip", "netns", "add", name, check=True)
            run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name, check=True)
            run("ip", "link", "set", f"to-{name}", "master", "vpc6", "up", check=True)
            on(name, "ip", "addr", "add", f"{address(number)}/64", "dev", "eth0", "nodad", check=True)
            on(name, "ip", "link", "set", "eth0", "up", check=True)
            on(name, "ip", "link", "set", "lo", "up", check=True)
            on(name, "ip", "-4", "addr", "flush", "dev", "lo", check=True)
            assert on(name, "ip", "-4", "addr", "show", check=True).stdout == ""

    @staticmethod
    def name(number):
        return f"six{number}"

    def remove(self):
        for number in self.numbers:
            run("ip", "netns", "del", self.name(number))
        run("ip", "link", "del", "vpc6")

    def start(self, number):
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        settings.append(f"ECS_CONTAINER_METADATA_URI_V4=http://[{ROUTER}]:{METADATA}/v4/{number}")
        command = ["env", *settings, self.binary, "agent", "--dns", f"[{ROUTER}]:{DNS}"]
        return background(self.name(number), *command, log=self.log(number))

    def log(self, number):
        return self.folder / f"{self.name(number)}.log"

    def ask(self, number, *command):
        """The program in the environment of the container, as a health check runs it."""
        return on(self.name(number), self.binary, *command, env=self.settings)

    def is_ready(self, number):
        healthy, ready = self.ask(number, "health"), self.ask(number, "kv", "list")
        return healthy.returncode == ready.returncode == 0

    def alive(self, number):
        shown = self.ask(number, "members", "--json")
        members = json.loads(shown.stdout)["members"] if shown.returncode == 0 else []
        return sorted((one["name"], one["address"]) for one in members if one["state"] == "alive")

    def get(self, number, key):
        return self.ask(number, "kv", "get", key).stdout.strip()


@pytest.fixture
def outside():
    """DNS and the metadata, as the VPC has them."""
    with contextlib.ExitStack() as stack:

        def serve(count):
            # Of a name without such a record it says so, as Cloud Map does.
            records = ["--local=/kv.test/"]
            records += [f"--host-record={Hosts.name(n)}.kv.test,{address(n)}" for n in range(1, count + 1)]
            records += [f"--srv-host=gossip.kv.test,{Hosts.name(n)}.kv.test,7947" for n in range(1, count + 1)]
            dns = subprocess.Popen(
                ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=",
                 "--group=", "--pid-file=", "--bind-interfaces", f"--port={DNS}", f"--listen-address={ROUTER}", *records]
            )  # fmt: skip
            stack.callback(dns.wait)
            stack.callback(dns.terminate)
            server = Server((ROUTER, METADATA), Tasks)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)

        yield serve


@pytest.mark.parametrize("count", [2, 3])
def test_a_cluster_lives_without_ipv4(count, binary, service, outside, tmp_path, report):
    (container,) = Resolved(service, IpStack="ipv6")["TaskDefinition"]["ContainerDefinitions"]
    settings = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
    assert settings["GOSSIPYKV_BIND"] == "[::]:7947" and settings["GOSSIPYKV_HTTP"] == "[::]:8080"
    settings |= {"GOSSIPYKV_DISCOVER_SRV": "gossip.kv.test", "GOSSIPYKV_DRAIN_DELAY": "0s", "GOSSIPYKV_LEAVE_TIMEOUT": "2s"}
    # One more than there are: the task that comes later is in the record already.
    hosts = Hosts(count + 1, binary, settings, tmp_path)
    try:
        outside(count + 1)
        with contextlib.ExitStack() as stack:
            nodes = {number: stack.enter_context(hosts.start(number)) for number in range(1, count + 1)}
            everybody = [(f"task-{number}", f"[{address(number)}]:7947") for number in nodes]
            for number in nodes:
                wait_for(f"{number} is ready", lambda n=number: hosts.is_ready(n), PATIENCE)
                wait_for(f"{number} sees all", lambda n=number: hosts.alive(n) == everybody, PATIENCE)
            for number in nodes:
                put = hosts.ask(number, "kv", "put", f"from-{number}", "x" * (number * 40_000), "--w", "all")
                assert put.returncode == 0, put.stdout
            written = {f"from-{number}": "x" * (number * 40_000) for number in nodes}
            for number in nodes:
                assert {key: hosts.get(number, key) for key in written} == written
            # One is killed, another comes, and has all.
            victim = nodes.pop(count)
            victim.kill()
            victim.wait()
            late = count + 1
            nodes[late] = stack.enter_context(hosts.start(late))
            everybody = [(f"task-{number}", f"[{address(number)}]:7947") for number in nodes]
            for number in nodes:
                wait_for(f"{number} is ready", lambda n=number: hosts.is_ready(n), PATIENCE)
                wait_for(f"{number} sees all", lambda n=number: hosts.alive(n) == everybody, PATIENCE)
            assert {key: hosts.get(late, key) for key in written} == written
            # One leaves in good order, and says so.
            nodes[1].send_signal(signal.SIGTERM)
            assert nodes[1].wait(PATIENCE) == 0
            left = nodes.pop(1) and [one for one in everybody if one[0] != "task-1"]
            for number in nodes:
                wait_for(f"{number} sees that it left", lambda n=number: hosts.alive(n) == left, PATIENCE)
            for number in (*nodes, 1):
                # Nobody looks for what is not there: addresses of IPv4.
                told = [json.loads(line) for line in hosts.log(number).read_text().splitlines()]
                warned = [one["message"] for one in told if one["level"] in ("WARN", "ERROR")]
                assert not [text for text in warned if "IPv4" in text or "no address" in text], warned
        report(f"{count} nodes without any IPv4 address: SRV with AAAA, writes, one killed and replaced, one left")
    finally:
        hosts.remove()
