"""The chart's own command lines and settings with the program: HTTPS on the node, and all who ask it."""

import base64
import contextlib
import http.client
import os
import re
import ssl
import subprocess
import urllib.request

import pytest
from conftest import PROGRAM, needs_program, run
from test_helm import node, rendered
from test_memory import free_port, wait

HOST = "kv-gossipykv.data.svc"
VALUES = {
    "tls": {"secret": "kv-tls", "clientCaSecret": "callers", "clientSecret": "ours"},
    "backup": {"volume": {"size": "1Gi"}}, "monitoring": {"serviceMonitor": True},
}  # fmt: skip

pytestmark = needs_program


def openssl(*arguments):
    run("openssl", *arguments, check=True)


def authority(folder):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
            "-subj", f"/CN={folder.name}", "-keyout", folder / "ca.key", "-out", folder / "ca.crt")  # fmt: skip


def certificate(folder, subject, names=""):
    """A certificate of the folder's CA, and its key."""
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={subject}",
            "-keyout", folder / f"{subject}.key", "-out", folder / "request")  # fmt: skip
    (folder / "extensions").write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", folder / "request", "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key",
            "-CAcreateserial", "-days", "20", "-extfile", folder / "extensions", "-out", folder / f"{subject}.crt")  # fmt: skip
    return (folder / f"{subject}.crt").read_bytes(), (folder / f"{subject}.key").read_bytes()


class Secrets:
    """Secrets as a kubelet mounts them: links, that all change at once."""

    def __init__(self, top):
        self.top, self.held, self.turn = top, {}, 0

    def mount(self, container, volumes):
        """What the container sees below `top`."""
        held = {one["name"]: one["secret"] for one in volumes if "secret" in one}
        for one in container["volumeMounts"]:
            folder = self.top / one["mountPath"].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            if one["name"] in held:
                self.write(folder, held[one["name"]])

    def write(self, folder, secret):
        self.turn += 1
        version = folder / f"..{self.turn}"
        version.mkdir()
        for item in secret["items"]:
            (version / item["path"]).write_bytes(self.held[secret["secretName"]][item["key"]])
            with contextlib.suppress(FileExistsError):
                (folder / item["path"]).symlink_to(f"..data/{item['path']}")
        (folder / "..new").symlink_to(version.name)
        (folder / "..new").rename(folder / "..data")

    def inside(self, text):
        """A path of the container as one of this machine."""
        return re.sub(r"^/(run|backups)\b", lambda found: f"{self.top}/{found[1]}", text)


@pytest.fixture
def secrets(tmp_path):
    nodes, callers = tmp_path / "nodes", tmp_path / "callers"
    for folder in (nodes, callers):
        folder.mkdir()
        authority(folder)
    made = Secrets(tmp_path / "top")
    names = f"DNS:{HOST},DNS:localhost"
    server, key = certificate(nodes, "first", names)
    other, other_key = certificate(nodes, "second", names)
    ours, our_key = certificate(callers, "ours")
    ca = (nodes / "ca.crt").read_bytes()
    made.held = {
        "kv-tls": {"tls.crt": server, "tls.key": key, "ca.crt": ca},
        "another": {"tls.crt": other, "tls.key": other_key, "ca.crt": ca},
        "callers": {"ca.crt": (callers / "ca.crt").read_bytes()},
        "ours": {"tls.crt": ours, "tls.key": our_key},
        "kv-gossipykv": {"gossip-keys": base64.b64encode(os.urandom(32)), "http-token": b"shown"},
    }  # fmt: skip
    return made


def environment(container, secrets, **instead):
    written = {one["name"]: one.get("value", "kv-0") for one in container["env"]}
    known = {name: value for name, value in written.items() if name.startswith("POD_")}
    found = {name: re.sub(r"\$\((\w+)\)", lambda one: known[one[1]], value) for name, value in written.items()}
    found |= instead
    return {name: secrets.inside(value) for name, value in found.items() if value is not None and name not in known}


class Node:
    """The chart's node, at addresses of loopback; nobody else is there."""

    def __init__(self, made, secrets, log):
        spec, _ = node(made)
        self.container, self.port, self.secrets = spec["containers"][0], free_port(), secrets
        secrets.mount(self.container, spec["volumes"])
        self.volumes = {one["name"]: one["secret"] for one in spec["volumes"]}
        settings = environment(
            self.container, secrets, GOSSIPYKV_HTTP=f"127.0.0.1:{self.port}", GOSSIPYKV_BIND=f"127.0.0.1:{free_port()}",
            GOSSIPYKV_ADVERTISE=None, GOSSIPYKV_DISCOVER_SRV=None,
        )  # fmt: skip
        self.process = subprocess.Popen([PROGRAM, *self.container["args"]], env=settings, stderr=log.open("w"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, path, context, headers=None, name=HOST):
        """As whoever asks a pod at its address, and knows it by another name."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        wrap = context.wrap_socket
        context.wrap_socket = lambda socket, server_hostname=None: wrap(socket, server_hostname=name)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), connection.sock and connection.sock.getpeercert()
        finally:
            context.wrap_socket = wrap
            connection.close()

    def probe(self, which):
        """As the kubelet does it, which looks at no certificate and shows none."""
        get = self.container[which]["httpGet"]
        context = ssl._create_unverified_context()
        url = f"{get['scheme'].lower()}://127.0.0.1:{self.port}{get['path']}"
        try:
            return urllib.request.urlopen(url, timeout=5, context=context).status
        except OSError:
            return None


def test_https_from_the_probe_to_the_backup(secrets, tmp_path, report):
    made = rendered(**VALUES)
    (tmp_path / "log").touch()
    with Node(made, secrets, tmp_path / "log") as kv:
        for which in ("startupProbe", "livenessProbe", "readinessProbe"):
            wait(which, lambda one=which: kv.probe(one) == 200 or kv.process.poll() is not None)
            assert kv.process.poll() is None, (tmp_path / "log").read_text()
        # Prometheus as the ServiceMonitor has it.
        (endpoint,) = made["ServiceMonitor", "kv-gossipykv"]["spec"]["endpoints"]
        tls = endpoint["tlsConfig"]

        def held(reference):
            path = tmp_path / f"{reference['name']}-{reference['key']}"
            path.write_bytes(secrets.held[reference["name"]][reference["key"]])
            return path

        trusting = ssl.create_default_context(cafile=held(tls["ca"]["secret"]))
        token = {"Authorization": f"Bearer {held(endpoint['authorization']['credentials']).read_text()}"}
        assert kv.ask("/metrics", trusting, token, tls["serverName"])[0] == 403, "without a certificate of a client"
        trusting.load_cert_chain(held(tls["cert"]["secret"]), held(tls["keySecret"]))
        assert kv.ask("/metrics", trusting, name=tls["serverName"])[0] == 401, "without a token"
        status, text, _ = kv.ask("/metrics", trusting, token, tls["serverName"])
        assert status == 200 and "\ngossipykv_ready 1\n" in text
        assert re.search(r"\ngossipykv_store_limit_bytes [1-9]", text), "auto is a limit"
        # A key, and the job that copies it.
        client = ["--server", f"https://localhost:{kv.port}", "--ca-file", held({"name": "kv-tls", "key": "ca.crt"}),
                  "--client-cert", held({"name": "ours", "key": "tls.crt"}),
                  "--client-key", held({"name": "ours", "key": "tls.key"}),
                  "--token-file", held({"name": "kv-gossipykv", "key": "http-token"})]  # fmt: skip
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GOSSIPYKV_")}
        subprocess.run([PROGRAM, "kv", "put", "colour", "blue", *client], env=plain, check=True, timeout=60)
        job = made["CronJob", "kv-gossipykv-backup"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = job["containers"]
        secrets.mount(container, job["volumes"])
        asks = environment(container, secrets)
        assert asks["GOSSIPYKV_SERVER"] == f"https://{HOST}:8080"
        asks["GOSSIPYKV_SERVER"] = f"https://localhost:{kv.port}"
        done = subprocess.run([PROGRAM, *map(secrets.inside, container["args"])], env=asks, capture_output=True,
                              text=True, timeout=60, check=False)  # fmt: skip
        assert done.returncode == 0, done
        (copy,) = (secrets.top / "backups").iterdir()
        assert '"key":"colour"' in copy.read_text()
        # The certificate changes as cert-manager changes it: all of the secret at once.
        before = kv.ask("/live", trusting)[2]["subject"]
        secrets.held["kv-tls"] = secrets.held["another"]
        secrets.write(secrets.top / "run/gossipykv-tls", kv.volumes["tls"])
        wait("the other certificate", lambda: kv.ask("/live", trusting)[2]["subject"] != before)
        assert kv.probe("readinessProbe") == 200
    report("the chart's node over HTTPS: probes, Prometheus with its certificate, the backup job, a new certificate")


