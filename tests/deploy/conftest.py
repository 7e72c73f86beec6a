"""What the tests share: the tools, the templates, and a way to run a program."""

import http.server
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target" / "deploy"
BUILT = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
PROGRAM = pathlib.Path(os.environ.get("GOSSIPYKV_PROGRAM", BUILT / "release/gossipykv"))
# CI misses nothing: there the tests fail without it.
needs_program = pytest.mark.skipif(
    not PROGRAM.exists() and os.environ.get("CI") != "true", reason="tests/run release has not been run"
)
SERVICE = ROOT / "cloudformation" / "service.yaml"
NETWORK = ROOT / "cloudformation" / "network.yaml"
BACKUP = ROOT / "cloudformation" / "backup.yaml"
RULES = ROOT / "cloudformation" / "rules" / "ecs.guard"


def tool(name):
    """The path of an installed tool; the entry script has put them where this looks."""
    for place in (TOOLS / "venv/bin", TOOLS / "venv-checkov/bin", TOOLS / "cargo/bin"):
        if (place / name).exists():
            return str(place / name)
    return name


def run(*command, env=None, check=False, timeout=300, **rest):
    """Runs a command, its output as text, with a bound on its time.

    The program refuses variables that it does not know, as those that say how to test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOSSIPYKV_")}
    result = subprocess.run(
        [str(part) for part in command],
        env=inherited | (env or {}),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=rest.pop("stdin", subprocess.DEVNULL),
        timeout=timeout,
        **rest,
    )
    if check:
        assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}"
    return result


class Told(http.server.BaseHTTPRequestHandler):
    """Answers in JSON, and keeps quiet about it."""

    def answer(self, told):
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Template(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, read as their long ones."""


def _short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Template.add_multi_constructor("!", _short_form)


def template(path):
    return yaml.load(path.read_text(), Template)


@pytest.fixture(scope="session")
def service():
    return template(SERVICE)


@pytest.fixture(scope="session")
def network():
    return template(NETWORK)


@pytest.fixture(scope="session")
def backup():
    return template(BACKUP)


def dashboard():
    """The panels of the dashboard, and every expression in them, for all clusters."""
    panels = json.loads((ROOT / "deploy/compose/grafana/dashboards/gossipykv.json").read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return panels, [text.replace("$cluster", ".*") for text in expressions]


def cfn_lint(*paths):
    return run(tool("cfn-lint"), *paths)


def cfn_guard(*paths):
    data = [part for path in paths for part in ("-d", path)]
    return run(tool("cfn-guard"), "validate", "-r", RULES, *data)


@pytest.fixture
def report(request):
    """Writes a line for the reader of the run, past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def write(line):
        with capture.global_and_fixture_disabled():
            print(f"\n  {line}", end="", flush=True)

    return write


@pytest.fixture(scope="session")
def docker_engine():
    import engine  # it imports this file

    with engine.started() as one:
        yield one


@pytest.fixture(scope="session")
def image(docker_engine):
    import engine  # it imports this file

    if "GOSSIPYKV_PROGRAM" in os.environ:
        engine.image_of(pathlib.Path(os.environ["GOSSIPYKV_PROGRAM"]))
    else:
        engine.base_image()
        engine.build()
    return json.loads(engine.docker("image", "inspect", engine.NODE))[0]


@pytest.fixture(scope="session")
def binary(request):
    """The program, taken out of the image; GOSSIPYKV_PROGRAM names another, to try one quickly."""
    if "GOSSIPYKV_PROGRAM" in os.environ:
        return pathlib.Path(os.environ["GOSSIPYKV_PROGRAM"])
    request.getfixturevalue("image")
    import engine  # it imports this file

    path = TOOLS / "gossipykv"
    container = engine.docker("create", engine.NODE)
    engine.docker("cp", f"{container}:/gossipykv", path)
    engine.docker("rm", container)
    return path


@pytest.fixture(scope="session")
def moto():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [tool("python"), ROOT / "tests/deploy/moto_on_loopback.py", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=2).read()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "moto did not start"
                time.sleep(0.1)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def quick_aws(tmp_path_factory):
    """The folder of an `aws` that does not load the CLI anew each time."""
    folder = tmp_path_factory.mktemp("aws")
    server = subprocess.Popen([tool("python"), ROOT / "tests/deploy/aws_preloaded.py", folder])
    try:
        deadline = time.monotonic() + 60
        while not (folder / "aws").exists() or not os.access(folder / "aws", os.X_OK):
            assert server.poll() is None and time.monotonic() < deadline, "the CLI did not load"
            time.sleep(0.05)
        yield folder
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def aws(moto, quick_aws, tmp_path):
    """The environment of a make that talks to an empty moto about the stand-in templates."""
    import making  # it imports this file

    urllib.request.urlopen(
        urllib.request.Request(f"{moto}/moto-api/reset", method="POST"), timeout=10
    ).read()
    return making.environment(moto, quick_aws) | making.stand_ins(tmp_path)


@pytest.fixture
def double(quick_aws):
    import making  # it imports this file
    from cloudformation_double import Double

    with Double() as server:
        server.environment = making.environment(server.url, quick_aws)
        yield server
