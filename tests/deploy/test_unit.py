"""The systemd unit with the program that it starts: under its filter of system calls, as it is shipped."""

import ctypes
import os
import re
import signal
import subprocess
import urllib.request

from conftest import PROGRAM, ROOT, needs_program, run
from engine import wait_for

UNIT = (ROOT / "deploy/systemd/gossipykv.service").read_text()
ENVIRONMENT = (ROOT / "deploy/systemd/environment").read_text()


def setting(name):
    return re.findall(rf"^{name}=(.*)$", UNIT, re.M)


def sets():
    """systemd's sets of system calls: the words of each, which may name other sets."""
    found, words = {}, None
    for line in run("systemd-analyze", "syscall-filter", check=True).stdout.splitlines():
        if line.startswith("@"):
            words = found.setdefault(line.strip(), [])
        elif words is not None and line.startswith("    ") and not line.strip().startswith("#"):
            words.append(line.strip())
    return found


def calls(word, found):
    if not word.startswith("@"):
        return {word}
    return set().union(*(calls(each, found) for each in found[word]))


def permitted():
    """What the unit permits: the first line begins a list of what may be, the next add and take away."""
    found = sets()
    allowed = calls("@default", found)
    lines = setting("SystemCallFilter")
    assert lines and not lines[0].startswith("~"), "the first line is a list of what may be"
    for line in lines:
        named = set().union(*(calls(word, found) for word in line.lstrip("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000


def filtered(allowed):
    """What a child does before it becomes the program: whatever else it calls then kills it."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(KILL_PROCESS)))
    assert rules.value, "libseccomp makes a filter"
    for name in sorted(allowed):
        number = library.seccomp_syscall_resolve_name(name.encode())
        # Some calls are of other processors alone.
        if number >= 0:
            assert library.seccomp_rule_add(rules, ctypes.c_uint32(ALLOW), ctypes.c_int(number), ctypes.c_uint(0)) == 0, name
    return lambda: library.seccomp_load(rules) == 0 or os._exit(99)


def served(log):
    found = re.search(r'"http":"([^"]+)"', log.read_text())
    return found and found.group(1)


@needs_program
def test_the_filter_of_the_unit_lets_the_program_start_serve_and_leave(tmp_path, report):
    """It killed every node as soon as that was ready: one system call of the program was not in it."""
    log = tmp_path / "log"
    arguments = ["agent", "--bind", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log-format", "json"]
    key = tmp_path / "gossip.keys"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GOSSIPYKV_")}
    key.write_bytes(subprocess.check_output([PROGRAM, "keygen"], env=clean))
    with log.open("w") as errors:
        node = subprocess.Popen(
            [PROGRAM, *arguments, "--encrypt-keys-file", key], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=errors, env=clean, preexec_fn=filtered(permitted()),
        )  # fmt: skip
    try:
        wait_for("the node serves", lambda: node.poll() is not None or served(log), 30)
        assert node.poll() is None, f"ended with {node.returncode}:\n{log.read_text()}"
        url = f"http://{served(log)}"
        wait_for("the node is ready", lambda: node.poll() is not None or ready(url), 30)
        assert node.poll() is None, f"ended with {node.returncode}:\n{log.read_text()}"
        # A short and a long answer, which another kind of worker makes; and another program's page.
        put(f"{url}/kv/short", b"v")
        put(f"{url}/kv/long", b"v" * 300_000)
        assert get(f"{url}/kv/short") and len(get(f"{url}/kv/")) > 300_000
        assert b"gossipykv_process_open_files" in get(f"{url}/metrics")
        for name in (signal.SIGHUP, signal.SIGTERM):
            node.send_signal(name)
        assert node.wait(timeout=30) == 0, log.read_text()
    finally:
        node.kill()
        node.wait()
    report(f"under the unit's filter: started, served, left ({len(permitted())} system calls permitted)")


def ready(url):
    try:
        return get(f"{url}/health")
    except OSError:
        return None


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read()


def put(url, body):
    request = urllib.request.Request(url, body, {"Content-Type": "application/octet-stream"}, method="PUT")
    urllib.request.urlopen(request, timeout=20).close()


def test_what_is_not_permitted_fails_and_kills_nothing():
    assert setting("SystemCallErrorNumber") == ["EPERM"]


def test_the_unit_hides_nothing_that_the_program_asks():
    """What it may use, and in which networks it is, is told beside the processes of /proc."""
    assert setting("ProcSubset") in ([], ["all"])
    # The store's limit follows from the first; the second is never reached then.
    percent = [int(setting(name)[0].rstrip("%")) for name in ("MemoryHigh", "MemoryMax")]
    assert percent[0] < percent[1] < 100


def test_files_of_secrets_are_handed_over_by_systemd(tmp_path):
    """A dynamic user can read nothing that root alone can; what stands in the comments works as it stands."""
    assert setting("DynamicUser") == ["yes"]
    suggested = "\n".join(line.removeprefix("#").strip() for line in ENVIRONMENT.splitlines())
    drop_in = re.search(r"^\[Service\]\n(?:\w+=.*\n?)+", suggested, re.M).group(0)
    handed = dict(re.findall(r"^LoadCredential=([\w.-]+):(\S+)$", drop_in, re.M))
    read = re.findall(r"^Environment=GOSSIPYKV_(\w+)=%d/(\S+)$", drop_in, re.M)
    assert {name for _, name in read} == set(handed), drop_in
    assert {flag for flag, _ in read} == {"HTTP_TOKEN_FILE", "HTTP_TLS_CERT", "HTTP_TLS_KEY"}
    assert all(path.startswith("/etc/gossipykv/") for path in handed.values())
    # Outside of it no file that root alone reads is named.
    assert "=/etc/gossipykv/" not in suggested.replace(drop_in, "")
    unit = tmp_path / "gossipykv.service"
    unit.write_text(UNIT.replace("ExecStart=gossipykv ", "ExecStart=/bin/true "))
    folder = tmp_path / "gossipykv.service.d"
    folder.mkdir()
    (folder / "http.conf").write_text(drop_in)
    result = run("systemd-analyze", "verify", unit)
    assert result.returncode == 0 and result.stdout == "", result.stdout
