"""A Docker engine of the tests' own, inside the namespace they run in, and what they do with it."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import pytest
from conftest import ROOT, TOOLS, run

BASE, RUST, NODE, DNS, PROMETHEUS, CROSS, STUB = (
    f"gossipykv-test/{name}" for name in ("base", "rust", "node", "dns", "prometheus", "cross", "stub")
)

# How the entry script is told that tools are missing.
LEFT_OUT = 77


def wait_for(what, probe, seconds):
    """Calls `probe` until it answers with something true; that is returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def http(method, url, timeout=5):
    """Status and body; (0, reason) where nothing answers."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def docker(*arguments, check=True, timeout=1200, **rest):
    return run("docker", *arguments, check=check, timeout=timeout, **rest).stdout.strip()


@contextlib.contextmanager
def started():
    """A running engine; its images and layers stay from run to run."""
    # A file system of the namespace that the entry script has made, gone with it.
    state = pathlib.Path("/run/gossipykv-tests")
    socket = state / "socket"
    os.environ["DOCKER_HOST"] = f"unix://{socket}"
    os.environ["DOCKER_BUILDKIT"] = "0"
    log = (TOOLS / "dockerd.log").open("w")
    command = ["dockerd", "--data-root", TOOLS / "docker", "--exec-root", state / "exec",
               "--pidfile", state / "pid", "--host", f"unix://{socket}"]  # fmt: skip
    engine = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)

    def answers():
        if engine.poll() is not None:
            # Not a failure of ours: a machine on which none can run. The entry script judges.
            last = (TOOLS / "dockerd.log").read_text().strip().splitlines()[-1:]
            pytest.exit(f"dockerd does not run here: {last}", returncode=LEFT_OUT)
        return socket.exists() and run("docker", "info").returncode == 0

    try:
        wait_for("dockerd", answers, 60)
        # What an interrupted run has left.
        docker("container", "prune", "--force")
        docker("network", "prune", "--force")
        yield engine
    finally:
        engine.terminate()
        try:
            engine.wait(30)
        except subprocess.TimeoutExpired:
            engine.kill()
            engine.wait()


def base_image():
    """Base of the build stage: Debian, this machine's toolchain, and the crates of Cargo.lock."""
    if run("docker", "image", "inspect", BASE).returncode != 0:
        docker("import", TOOLS / "base/debian.tar", BASE)
    with tempfile.TemporaryDirectory() as context:
        context = pathlib.Path(context)
        copy_crates(context)
        sysroot = pathlib.Path(run("rustc", "--print", "sysroot", check=True).stdout.strip())
        rust = context / "rust"
        shutil.copytree(sysroot / "bin", rust / "bin")
        host = run("rustc", "-vV", check=True).stdout.split("host: ")[1].split()[0]
        shutil.copytree(sysroot / "lib/rustlib" / host, rust / "lib/rustlib" / host)
        for library in (sysroot / "lib").glob("*.so*"):
            shutil.copy2(library, rust / "lib")
        (context / "Dockerfile").write_text(
            f"FROM {BASE}\nCOPY rust /usr/local\nCOPY cargo /cargo\n"
            "ENV CARGO_HOME=/cargo CARGO_NET_OFFLINE=true\n"
        )
        docker("build", "--tag", RUST, context)


def cross_image(debian):
    """The same of a Debian, in a tar, that has its own Rust and cross compilers."""
    docker("import", debian, f"{CROSS}-debian")
    with tempfile.TemporaryDirectory() as context:
        context = pathlib.Path(context)
        copy_crates(context)
        (context / "Dockerfile").write_text(
            f"FROM {CROSS}-debian\nCOPY cargo /cargo\nENV CARGO_HOME=/cargo CARGO_NET_OFFLINE=true\n"
        )
        docker("build", "--tag", CROSS, context)


def copy_crates(context):
    for part in ("cache", "index"):
        shutil.copytree(TOOLS / "base/cargo-home/registry" / part, context / "cargo/registry" / part)


def stub_image():
    """A base whose cargo makes a program of nothing: to see builders read the file, in seconds."""
    if run("docker", "image", "inspect", BASE).returncode != 0:
        docker("import", TOOLS / "base/debian.tar", BASE)
    with tempfile.TemporaryDirectory() as context:
        context = pathlib.Path(context)
        cargo = context / "cargo"
        cargo.write_text(
            '#!/bin/sh\nout=target/$CARGO_BUILD_TARGET/release\n'
            'mkdir -p $out && echo "$GOSSIPYKV_BUILD_HASH" >$out/gossipykv\n'
        )
        cargo.chmod(0o755)
        (context / "Dockerfile").write_text(
            f"FROM {BASE}\nCOPY cargo /usr/local/bin/\nRUN mkdir -p /usr/aarch64-linux-gnu/lib && "
            "touch /usr/aarch64-linux-gnu/lib/libc.a && ln -s /bin/true /usr/bin/aarch64-linux-gnu-gcc\n"
        )
        docker("build", "--tag", STUB, context)


VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
ARGUMENTS = ("--build-arg", "BUILD_HASH=0123456789ab", "--build-arg", f"VERSION={VERSION}")


def build(context=ROOT, check=True):
    """The Dockerfile by the plain builder. Its whole output."""
    base = ("--build-arg", f"RUST_IMAGE={RUST}")
    return run("docker", "build", *base, *ARGUMENTS, "--tag", NODE, context, check=check, timeout=2400)


def build_by_buildkit(arch, base, tag):
    """The Dockerfile by the engine's BuildKit, with the first client that can ask for it."""
    arguments = ("--platform", f"linux/{arch}", "--build-arg", f"RUST_IMAGE={base}", *ARGUMENTS, "--tag", tag, ROOT)
    for client in ("docker", "/usr/bin/docker"):
        result = run(client, "build", *arguments, env={"DOCKER_BUILDKIT": "1"}, timeout=2400)
        if "buildx component is missing" not in result.stdout:
            assert result.returncode == 0 and "exporting to image" in result.stdout, result.stdout
            return json.loads(docker("image", "inspect", tag))[0]
    assert os.environ.get("CI") != "true", "no client that can ask for BuildKit"
    pytest.skip("no client that can ask for BuildKit")


def image_of(program):
    """An image of a program built elsewhere and in whatever way, to try something quickly."""
    if run("docker", "image", "inspect", BASE).returncode != 0:
        docker("import", TOOLS / "base/debian.tar", BASE)
    with tempfile.TemporaryDirectory() as context:
        context = pathlib.Path(context)
        shutil.copy2(program, context / "gossipykv")
        tail = (ROOT / "Dockerfile").read_text().split("\nFROM scratch\n")[1]
        (context / "Dockerfile").write_text(f"FROM {BASE}\n" + tail.replace("COPY --from=build /image/", "COPY "))
        docker("build", "--tag", NODE, context)


def prometheus_image():
    """An image that is used like Prometheus' own: of Debian's program, which this machine has."""
    with tempfile.TemporaryDirectory() as context:
        context = pathlib.Path(context)
        shutil.copy2(shutil.which("prometheus"), context)
        (context / "Dockerfile").write_text(
            f"FROM {BASE}\nCOPY prometheus /bin/\nRUN install -d -o nobody /prometheus\n"
            'USER nobody\nWORKDIR /prometheus\nENTRYPOINT ["/bin/prometheus"]\n'
        )
        docker("build", "--tag", PROMETHEUS, context)


class Compose:
    """compose.yaml under a project name of its own, with the images built here."""

    def __init__(self):
        self.environment = {
            "GOSSIPYKV_IMAGE": NODE, "DNS_IMAGE": DNS, "DNS_BASE_IMAGE": BASE, "RUST_IMAGE": RUST,
            "PROMETHEUS_IMAGE": PROMETHEUS, "COMPOSE_PROJECT_NAME": "gkv",
        }  # fmt: skip

    def __call__(self, *arguments, check=True):
        return run("docker-compose", "--file", ROOT / "compose.yaml", *arguments,
                   env=self.environment, check=check, timeout=600).stdout  # fmt: skip

    def container(self, service):
        return self("ps", "--quiet", service).strip()

    def __enter__(self):
        self("build", "dns")
        self("up", "--detach", "--no-build")
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(self("logs", "--no-color", "--tail", "40", check=False))
        self("down", "--timeout", "3", check=False)


def url(number, path=""):
    """Where node `number` of compose.yaml publishes its API."""
    return f"http://127.0.0.1:{8080 + number}{path}"


def alive(number):
    """Names of the members that node `number` counts as alive."""
    status, body = http("GET", url(number, "/members"))
    members = json.loads(body)["members"] if status == 200 else []
    return {member["name"] for member in members if member["state"] == "alive"}


def is_ready(number):
    return http("GET", url(number, "/health"))[0] == 200


def keys(number):
    """All keys of node `number`."""
    found, after = [], ""
    while after is not None:
        status, body = http("GET", url(number, f"/kv/?keys&limit=1000&after={after}"), timeout=30)
        assert status == 200, body
        page = json.loads(body)
        found += [item["key"] for item in page["items"]]
        after = page["next"]
    return found
