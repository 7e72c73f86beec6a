"""From outside the security groups nothing answers but HTTP.

Hosts are network namespaces on a bridge; each has nftables rules made from the template's own
security groups, which default to drop in both directions, as they do on AWS.

    client ---:80---> balancer ---:8080---> node1, node2, node3 <---:7947---> each other
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import textwrap

import pytest
from conftest import TOOLS, run
from engine import wait_for
from resolve import Resolved

NODES = {"node1": "10.42.0.11", "node2": "10.42.0.12", "node3": "10.42.0.13"}
HOSTS = NODES | {"balancer": "10.42.0.2", "client": "10.42.0.99"}
# Which hosts are members of which group of the template; the client is of none.
GROUPS = {"TaskSecurityGroup": list(NODES.values()), "LoadBalancerSecurityGroup": [HOSTS["balancer"]]}
# Cloud Map's record is asked for at the VPC's resolver, which no security group governs.
RESOLVER = "10.42.0.1"


def group_of(reference):
    return reference["Fn::GetAtt"][0]


def rules(service, group, direction):
    """(protocol, port, addresses) that the template lets in to, or out of, a group's members."""
    made = Resolved(service)
    found = list(made[group][f"SecurityGroup{direction}"])
    for properties in made.of_type(f"AWS::EC2::SecurityGroup{direction}").values():
        if group_of(properties["GroupId"]) == group:
            found.append(properties)
    for rule in found:
        other = rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId")
        if other:
            yield rule["IpProtocol"], (rule["FromPort"], rule["ToPort"]), GROUPS[group_of(other)]
        elif "CidrIp" in rule:
            yield rule["IpProtocol"], (rule["FromPort"], rule["ToPort"]), [rule["CidrIp"]]


def ruleset(service, group):
    lines = []
    for direction, field in (("Ingress", "saddr"), ("Egress", "daddr")):
        chain = {"Ingress": "input", "Egress": "output"}[direction]
        lines += [f"chain {chain} {{", f"type filter hook {chain} priority 0; policy drop;"]
        lines += ["ct state established,related accept", "iif lo accept" if chain == "input" else "oif lo accept"]
        if chain == "output":
            lines += [f"ip daddr {RESOLVER} meta l4proto {{ tcp, udp }} th dport 53 accept"]
        for protocol, (low, high), addresses in rules(service, group, direction):
            if protocol in ("tcp", "udp"):
                lines.append(f"ip {field} {{ {', '.join(addresses)} }} {protocol} dport {low}-{high} accept")
        lines.append("}")
    return "table inet group {\n" + "\n".join(lines) + "\n}\n"


def on(host, *command, **rest):
    return run("ip", "netns", "exec", host, *command, **rest)


@contextlib.contextmanager
def background(host, *command, log):
    command = ["ip", "netns", "exec", host, *map(str, command)]
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={"PATH": os.environ["PATH"]})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def hosts():
    run("ip", "link", "add", "vpc", "type", "bridge", check=True)
    run("ip", "addr", "add", f"{RESOLVER}/24", "dev", "vpc", check=True)
    run("ip", "link", "set", "vpc", "up", check=True)
    # Docker, when it has run here, has closed the road between ports of a bridge.
    run("iptables", "-P", "FORWARD", "ACCEPT")
    for name, address in HOSTS.items():
        run("ip", "netns", "add", name, check=True)
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name, check=True)
        run("ip", "link", "set", f"to-{name}", "master", "vpc", "up", check=True)
        on(name, "ip", "addr", "add", f"{address}/24", "dev", "eth0", check=True)
        on(name, "ip", "link", "set", "eth0", "up", check=True)
        on(name, "ip", "link", "set", "lo", "up", check=True)
    yield
    for name in HOSTS:
        run("ip", "netns", "del", name)
    run("ip", "link", "del", "vpc")


@pytest.fixture(scope="module")
def cluster(hosts, binary, service, tmp_path_factory):
    """Three nodes that find each other by SRV, and a balancer; all behind the template's rules."""
    folder = tmp_path_factory.mktemp("cluster")
    (container,) = Resolved(service)["TaskDefinition"]["ContainerDefinitions"]
    environment = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
    for name in HOSTS:
        group = "TaskSecurityGroup" if name in NODES else "LoadBalancerSecurityGroup"
        if name != "client":
            (folder / f"{name}.nft").write_text(ruleset(service, group))
            on(name, "nft", "-f", folder / f"{name}.nft", check=True)
    (folder / "haproxy.cfg").write_text(
        textwrap.dedent("""
        defaults
            mode http
            timeout connect 2s
            timeout client 10s
            timeout server 10s
        frontend api
            bind :80
            default_backend nodes
        backend nodes
            option httpchk GET /health
            default-server check inter 500ms
        """)
        + "".join(f"    server {name} {address}:8080\n" for name, address in NODES.items())
    )
    records = [f"--host-record={name}.kv.test,{address}" for name, address in NODES.items()]
    records += [f"--srv-host=gossip.kv.test,{name}.kv.test,7947" for name in NODES]
    dns = subprocess.Popen(
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=",
         "--group=", "--pid-file=", "--bind-interfaces", f"--listen-address={RESOLVER}", *records]
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(dns.wait)
        stack.callback(dns.terminate)
        for name, address in NODES.items():
            arguments = [
                "agent", "--name", name, "--advertise", address, "--discover-srv", "gossip.kv.test",
                "--dns", f"{RESOLVER}:53", "--bind", environment["GOSSIPYKV_BIND"],
                "--http", environment["GOSSIPYKV_HTTP"], "--leave-timeout", "1s",
            ]  # fmt: skip
            stack.enter_context(background(name, binary, *arguments, log=folder / f"{name}.log"))
        stack.enter_context(background("balancer", "haproxy", "-f", folder / "haproxy.cfg", log=folder / "haproxy.log"))

        def members():
            shown = on("node1", binary, "members", "--json")
            return shown.returncode == 0 and shown.stdout.count('"alive"') == 3

        wait_for("three nodes behind their rules", members, 30)
        yield folder


# What runs inside a host: this file itself.

# Ports that are tried; whatever listens on a node is among them, as a test makes sure.
PORTS = [*range(1, 1025), *range(7900, 8100)]


async def open_ports(address, ports):
    """The TCP ports of an address that take a connection."""
    gate = asyncio.Semaphore(2000)

    async def probe(port):
        async with gate:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 1.0)
            except (OSError, asyncio.TimeoutError):
                return None
            writer.close()
            return port

    found = await asyncio.gather(*(probe(port) for port in ports))
    return [port for port in found if port]


def gossip_answers(address, name):
    """Whether a memberlist ping, as any peer sends it, is answered."""
    number = random.getrandbits(31)
    ping = b"\x00\x82" + b"\xa5SeqNo" + b"\xce" + struct.pack(">I", number)
    ping += b"\xa4Node" + bytes([0xA0 | len(name)]) + name.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.5)
        for _ in range(3):
            # Refused at once where the host's own rules let nothing out.
            with contextlib.suppress(OSError):
                probe.sendto(ping, (address, 7947))
                return struct.pack(">I", number) in probe.recv(2048)
    return False


def look_around():
    """Prints what answers of each host, seen from this one."""
    seen = {}
    for name, address in HOSTS.items():
        ports = asyncio.run(open_ports(address, PORTS))
        seen[name] = {"tcp": ports, "gossip": name in NODES and gossip_answers(address, name)}
    print(json.dumps(seen))


def seen_from(host):
    shown = on(host, sys.executable, __file__, check=True, timeout=600)
    return json.loads(shown.stdout.splitlines()[-1])


def test_the_rules_are_the_templates(service):
    """What the rest relies on: that something is allowed, and by the ports of the contract."""
    into = [(p, ports) for p, ports, _ in rules(service, "TaskSecurityGroup", "Ingress")]
    assert sorted(into) == [("tcp", (7947, 7947)), ("tcp", (8080, 8080)), ("udp", (7947, 7947))]
    assert ("tcp", (80, 80)) in [(p, q) for p, q, _ in rules(service, "LoadBalancerSecurityGroup", "Ingress")]


def test_what_listens_is_what_is_tried(cluster):
    expected = [("tcp", 7947), ("tcp", 8080), ("udp", 7947)]
    assert {port for _, port in expected} <= set(PORTS)

    def listening(name):
        shown = on(name, "ss", "--no-header", "--listening", "--tcp", "--udp", "--numeric", check=True)
        return sorted((row[0], int(row[4].rsplit(":", 1)[1])) for row in map(str.split, shown.stdout.splitlines()))

    for name in NODES:
        # A question to the DNS server has a UDP socket of its own, for as long as it is open.
        wait_for(f"{name} listens on these alone: {expected}", lambda n=name: listening(n) == expected, 20)


def test_nodes_gossip_among_themselves(cluster, report):
    for one, other in itertools.permutations(NODES, 2):
        shown = on(one, sys.executable, "-c", f"""if True:
            import sys; sys.argv = ['x']; sys.path.insert(0, {str(TOOLS.parents[1] / 'tests/deploy')!r})
            import test_isolation
            print(test_isolation.gossip_answers({NODES[other]!r}, {other!r}))
        """, check=True)  # fmt: skip
        assert shown.stdout.strip() == "True", f"{one} asks {other}: {shown.stdout}"
    report("inside the group: gossip is answered between all nodes")


def test_the_balancer_sees_http_alone(cluster, report):
    seen = seen_from("balancer")
    for name in NODES:
        assert seen[name] == {"tcp": [8080], "gossip": False}, (name, seen[name])
    assert seen["client"]["tcp"] == []
    report("from the balancer: of what listens on each node TCP 8080 alone, no answer to gossip")


def test_a_stranger_sees_the_balancer_alone(cluster, report):
    seen = seen_from("client")
    for name in NODES:
        assert seen[name] == {"tcp": [], "gossip": False}, (name, seen[name])
    assert seen["balancer"]["tcp"] == [80]
    report("from a stranger: nothing of the nodes, port 80 of the balancer alone")


def test_a_stranger_is_served_through_the_balancer(cluster, binary):
    def curl(*arguments):
        return on("client", sys.executable, "-c", (
            "import sys, urllib.request as r;"
            f"print(r.urlopen(r.Request('http://{HOSTS['balancer']}' + sys.argv[2], method=sys.argv[1]), timeout=5).read().decode())"
        ), *arguments)  # fmt: skip

    wait_for("the balancer", lambda: curl("GET", "/health").returncode == 0, 15)
    assert curl("PUT", "/kv/from/outside").stdout.strip() == '{"from":"outside"}'
    for name in NODES:
        wait_for(
            "the key", lambda n=name: on(n, binary, "kv", "get", "from").stdout.strip() == "outside", 5
        )


def test_without_the_rules_gossip_would_answer(cluster):
    """The probe can tell: the same client reaches a node whose rules are gone."""
    on("node3", "nft", "flush", "ruleset", check=True)
    shown = seen_from("client")["node3"]
    assert shown["tcp"] == [7947, 8080] and shown["gossip"] is True, shown


if __name__ == "__main__":
    look_around()
