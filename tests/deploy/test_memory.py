"""A node in as little memory as a task has for its store, filled: the alarm, then 507, and never the kernel."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading
import time

import pytest
from conftest import PROGRAM, SERVICE, needs_program, template
from test_watching import Told

# A task of the smallest size has 512 MiB, of which the process itself takes a smaller share than of these.
MEMORY = 128 << 20
STORE = MEMORY * 3 // 8
CLIENTS = 4
# Writers stop here until a line of the log has told of it.
ALMOST = 0.9
PATIENCE = 300


class Group:
    """A memory cgroup, of whichever version this machine has."""

    def __init__(self, limit, name=""):
        top = pathlib.Path("/sys/fs/cgroup")
        self.is_old = (top / "memory").is_dir()
        self.path = (top / "memory" if self.is_old else top) / f"gossipykv-test-{os.getpid()}{name}"
        self.path.mkdir()
        (self.path / ("memory.limit_in_bytes" if self.is_old else "memory.max")).write_text(str(limit))

    def kills(self):
        text = (self.path / ("memory.oom_control" if self.is_old else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))

    def most(self):
        return int((self.path / ("memory.max_usage_in_bytes" if self.is_old else "memory.peak")).read_text())


@contextlib.contextmanager
def groups(limit, names):
    """Memory cgroups with these names and that limit, for as long as it takes."""
    made = []
    try:
        for name in names:
            made.append(Group(limit, name))
    except OSError as error:
        assert os.environ.get("CI") != "true", error
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield made
    finally:
        deadline = time.monotonic() + PATIENCE
        while made:  # A process that has been killed takes a moment to be gone.
            try:
                made[-1].path.rmdir()
                made.pop()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.fixture
def group():
    with groups(MEMORY, [""]) as (made,):
        yield made


class Node:
    def __init__(self, group, log, *flags):
        self.log = log
        self.http, self.gossip = [free_port() for _ in range(2)]
        command = [
            PROGRAM, "agent", f"--bind=127.0.0.1:{self.gossip}", f"--http=127.0.0.1:{self.http}",
            "--status-interval=1s", "--log-format=json", *flags,
        ]  # fmt: skip

        def join():
            (group.path / "cgroup.procs").write_text(str(os.getpid()))
            os.nice(5)

        # The node refuses variables that it does not know, such as the one that names it to these tests.
        env = {name: value for name, value in os.environ.items() if not name.startswith("GOSSIPYKV_")}
        self.process = subprocess.Popen(command, stderr=open(log, "w"), env=env, preexec_fn=join)  # noqa: SIM115
        wait("it serves", lambda: "serving" in log.read_text())

    def status(self):
        """The newest status line."""
        lines = [line for line in self.log.read_text().splitlines() if line.endswith("}") and '"status"' in line]
        return next((one for one in map(json.loads, reversed(lines)) if one["message"] == "status"), None)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait(what, holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


class Filling:
    """Clients that write values of one size until one is refused; `go_on` has them write past ALMOST."""

    def __init__(self, node, size):
        self.node, self.size = node, size
        self.go_on, self.end = threading.Event(), threading.Event()
        self.codes, self.written = [{} for _ in range(CLIENTS)], [0] * CLIENTS
        self.threads = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def client(self, number):
        batch = 1 if self.size > 4096 else 64
        value, codes = b"v" * self.size, self.codes[number]
        try:
            with socket.create_connection(("127.0.0.1", self.node.http)) as stream, stream.makefile("rb") as answers:
                while not self.end.is_set():
                    if self.bytes() > ALMOST * STORE:
                        self.go_on.wait(PATIENCE)
                    stream.sendall(b"".join(
                        b"PUT /kv/%d%x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                        % (number, self.written[number] + step, self.size) + value
                        for step in range(batch)))  # fmt: skip
                    for _ in range(batch):
                        code = answer(answers)
                        codes[code] = codes.get(code, 0) + 1
                    self.written[number] += batch
                    if codes.get(507):
                        self.end.set()
        except OSError:
            codes["broken"] = 1
            self.end.set()

    def bytes(self):
        """About what the records take: a value, its key, and the record's head."""
        return sum(self.written) * (self.size + 6 + 32)

    def counts(self):
        names = {name for codes in self.codes for name in codes}
        return {name: sum(codes.get(name, 0) for codes in self.codes) for name in names}


def answer(stream):
    """The status of one answer, its body read past."""
    line = stream.readline()
    if not line:
        raise ConnectionResetError
    length = 0
    while (header := stream.readline()) not in (b"\r\n", b""):
        if header[:15].lower() == b"content-length:":
            length = int(header[15:])
    stream.read(length)
    return int(line.split()[1])


@needs_program
@pytest.mark.parametrize("size", [1, 1000, 65_536])
def test_the_alarm_rings_before_507_and_507_before_the_kernel_does(size, group, tmp_path, report):
    node = Node(group, tmp_path / "log", f"--max-store-bytes={STORE}")
    filling = Filling(node, size)
    try:
        alarm = Told(template(SERVICE), "StoreNearlyFull")

        def rings():
            line = node.status()
            return line and alarm.rings(*[[line]] * 5)

        wait("the alarm", lambda: filling.end.is_set() or rings())
        assert set(filling.counts()) == {200}, filling.counts()
        filling.go_on.set()
        wait("a refusal", filling.end.is_set)
    finally:
        filling.end.set()
        filling.go_on.set()
        for thread in filling.threads:
            thread.join(PATIENCE)
        alive = node.process.poll() is None
        most, kills = group.most(), group.kills()
        node.process.kill()
        node.process.wait()
    counts = filling.counts()
    assert alive and kills == 0 and set(counts) == {200, 507}, (counts, alive, kills)
    report(f"values of {size}: {counts[200]} keys, then 507; at most {most >> 20} of {MEMORY >> 20} MiB")


# Of which three nodes each get so much, and no word on what their stores may take.
TIGHT = 40 << 20


@needs_program
@pytest.mark.parametrize("size", [1, 1000, 65_536])
def test_nodes_without_a_limit_take_it_from_their_memory_and_none_is_killed(size, tmp_path, report):
    with groups(TIGHT, "abc") as made:
        nodes = []
        try:
            for name, group in zip("abc", made, strict=True):
                join = [f"--join=127.0.0.1:{node.gossip}" for node in nodes[:1]]
                nodes.append(Node(group, tmp_path / name, f"--name={name}", *join))
            wait("they are together", lambda: all((n.status() or {}).get("members_alive") == 3 for n in nodes))
            limits = {node.status()["store_limit_bytes"] for node in nodes}
            filling = Filling(nodes[0], size)
            filling.go_on.set()
            wait("a refusal", filling.end.is_set)
            for thread in filling.threads:
                thread.join(PATIENCE)
            counts = filling.counts()
            assert set(counts) == {200, 507}, counts
            wait("all hold it", lambda: all(
                node.process.poll() is not None or node.status()["keys"] == counts[200] for node in nodes))  # fmt: skip
            assert [node.process.poll() for node in nodes] == [None] * 3
        finally:
            most, kills = max(group.most() for group in made), [group.kills() for group in made]
            for node in nodes:
                node.process.kill()
                node.process.wait()
    assert kills == [0, 0, 0] and limits == {(TIGHT - (16 << 20)) * 3 // 8}
    report(f"three nodes in {TIGHT >> 20} MiB each, values of {size}: {counts[200]} keys, then 507; at most {most >> 20} MiB")
