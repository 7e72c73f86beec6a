"""A copy outside, in moto's S3: made under load, and what is left when all nodes are gone."""

import concurrent.futures
import http.client
import http.server
import json
import os
import subprocess
import threading
import time
import urllib.request

import pytest
from conftest import BACKUP, PROGRAM, Told, needs_program, run, template, tool
from resolve import Resolved
from test_memory import free_port, wait

# Of the drill.
KEYS = int(os.environ.get("GOSSIPYKV_DRILL_KEYS", "100000"))
BATCH = 100
# Keys of the load come after those of the drill.
OF_THE_LOAD = 1_000_000
TYPES = ["application/json", "text/plain", None]
HOUR = 3600
BUCKET = "backups"

pytestmark = needs_program


def bare():
    """The program refuses variables that it does not know, such as the one that names it here."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GOSSIPYKV_", "AWS_"))}


class Cluster:
    """Nodes on loopback."""

    def __init__(self, size, folder):
        self.folder, self.ports, self.processes = folder, [free_port() for _ in range(size)], []
        gossip = [free_port() for _ in range(size)]
        for number in range(size):
            log = (folder / f"node{number}.log").open("w")
            joins = [f"--join=127.0.0.1:{port}" for port in gossip if port != gossip[number]]
            command = [
                PROGRAM, "agent", f"--name=node{number}", f"--bind=127.0.0.1:{gossip[number]}",
                f"--http=127.0.0.1:{self.ports[number]}", *joins,
            ]  # fmt: skip
            self.processes.append(subprocess.Popen(command, stderr=log, env=bare()))

    def __enter__(self):
        for port in self.ports:
            wait(f"{port} is ready", lambda p=port: self.is_ready(p))
        return self

    def __exit__(self, *_):
        self.kill()

    def is_ready(self, port):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
        except OSError:
            return False
        members = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/members", timeout=5).read())["members"]
        return [member["state"] for member in members] == ["alive"] * len(self.ports)

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def keys(self, port):
        """Of every key its value, its type, and the moment at which it expires."""
        found, after = {}, ""
        while after is not None:
            url = f"http://127.0.0.1:{port}/kv/?limit=1000&after={after}"
            page = json.loads(urllib.request.urlopen(url, timeout=30).read())
            found |= {item["key"]: (item["value"], item.get("type"), item.get("expires")) for item in page["items"]}
            after = page["next"]
        return found


def write(port, first, count):
    """Batches of keys, each with a type of its own; every tenth expires in an hour. All are answered.

    Returns of every key its value, its type, its version, and whether it expires."""
    answered = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for start in range(first, first + count, BATCH):
        ops = []
        for number in range(start, start + BATCH):
            op = {"put": f"key-{number:07}", "value": f"value {number}"}
            if TYPES[number % 3]:
                op["type"] = TYPES[number % 3]
            if number % 10 == 0:
                op["ttl"] = f"{HOUR}s"
            ops.append(op)
        connection.request("POST", "/kv/", json.dumps({"ops": ops}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        for op, result in zip(ops, json.loads(body)["results"], strict=True):
            answered[op["put"]] = (op["value"], op.get("type"), result["version"], "ttl" in op)
    connection.close()
    return answered


class Load:
    """Somebody who goes on writing, at every node in turn."""

    def __init__(self, ports):
        self.ports, self.stop, self.count, self.answered = ports, threading.Event(), 0, {}
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.is_set():
            node = self.ports[self.count % len(self.ports)]
            # Another dictionary: whoever looks takes the one that is there.
            self.answered = self.answered | write(node, OF_THE_LOAD + self.count * BATCH, BATCH)
            self.count += 1
            self.stop.wait(0.01)

    def __enter__(self):
        self.thread.start()
        wait("the load has begun", lambda: self.count > 3)
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(60)


@pytest.fixture
def s3(moto):
    """The environment of whoever may write to a bucket of moto's."""
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST"), timeout=10).read()
    environment = {
        "AWS_ENDPOINT_URL_S3": moto, "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    urllib.request.urlopen(urllib.request.Request(
        f"{moto}/{BUCKET}", method="PUT",
        data=b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>",
    ), timeout=10).read()  # fmt: skip
    return environment


def program(*arguments, s3=None, check=True):
    done = subprocess.run([str(part) for part in (PROGRAM, *arguments)], env=bare() | (s3 or {}),
                          capture_output=True, text=True, timeout=600)  # fmt: skip
    assert not check or done.returncode == 0, done
    return done


def objects(s3):
    """Names and heads of what is in the bucket, by Amazon's own client."""
    def aws(*arguments):
        shown = run(tool("aws"), "--endpoint-url", s3["AWS_ENDPOINT_URL_S3"], "--output", "json", "s3api", *arguments,
                    env=s3, check=True).stdout  # fmt: skip
        return json.loads(shown) if shown.strip() else {}

    names = [row["Key"] for row in aws("list-objects-v2", "--bucket", BUCKET).get("Contents", [])]
    pending = aws("list-multipart-uploads", "--bucket", BUCKET).get("Uploads", [])
    return {name: aws("head-object", "--bucket", BUCKET, "--key", name) for name in names}, pending


def lines(s3, name, path):
    """Of every key of an object its value, its type, its version, and whether it expires."""
    run(tool("aws"), "--endpoint-url", s3["AWS_ENDPOINT_URL_S3"], "s3api", "get-object", "--bucket", BUCKET,
        "--key", name, path, env=s3, check=True)  # fmt: skip
    _, *entries, _ = path.read_text().splitlines()
    rows = map(json.loads, entries)
    return {row["key"]: (row["value"], row.get("type"), row["version"], "expires" in row) for row in rows}


def test_all_nodes_die_and_every_write_of_before_is_there_again(s3, tmp_path, report):
    place = f"s3://{BUCKET}/kv/drill"
    with Cluster(3, tmp_path) as cluster:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            halves = list(pool.map(write, cluster.ports[:2], (0, KEYS // 2), (KEYS // 2, KEYS // 2)))
        server = f"http://127.0.0.1:{cluster.ports[2]}"
        wait("all writes are everywhere", lambda: len(cluster.keys(cluster.ports[2])) >= KEYS)
        with Load(cluster.ports) as load:
            answered, before = halves[0] | halves[1] | load.answered, load.count
            began = time.monotonic()
            told = json.loads(program("backup", place, "--server", server, "--json", s3=s3).stdout)
            took = time.monotonic() - began
            assert load.count > before, "the load went on"
        moments = {key: expires for key, (_, _, expires) in cluster.keys(cluster.ports[0]).items()}
        cluster.kill()
    assert len(answered) >= KEYS + 3 * BATCH and told["keys"] >= len(answered), (told, len(answered))
    heads, pending = objects(s3)
    assert list(heads) == [told["place"].removeprefix(f"s3://{BUCKET}/")] and pending == []
    checked = json.loads(program("check", place, "--json", s3=s3).stdout)
    assert checked["keys"] == told["keys"] and checked["sha256"] == told["sha256"]
    copied = lines(s3, next(iter(heads)), tmp_path / "copy")
    lost = [key for key, written in answered.items() if copied.get(key) != written]
    assert lost == [], (len(lost), [(key, answered[key], copied.get(key)) for key in lost[:3]])
    (tmp_path / "new").mkdir()
    with Cluster(3, tmp_path / "new") as cluster:
        began = time.monotonic()
        program("restore", place, "--server", f"http://127.0.0.1:{cluster.ports[0]}", s3=s3)
        restored = time.monotonic() - began
        for port in cluster.ports:
            wait("all is everywhere", lambda p=port: len(cluster.keys(p)) == told["keys"])
            found = cluster.keys(port)
            lost = [key for key, written in answered.items() if found.get(key, (None, None))[:2] != written[:2]]
            assert lost == [], (len(lost), lost[:3])
            for key, (*_, does_expire) in answered.items():
                expires = found[key][2]
                assert (expires is not None) == does_expire, key
                assert not does_expire or abs(seconds(expires) - seconds(moments[key])) <= 2, (key, moments[key], expires)
    report(
        f"{told['keys']} keys, {told['bytes'] / 1e6:.1f} MB, to S3 under load in {took:.1f} s; all nodes killed; restored "
        f"in {restored:.1f} s: all of {len(answered)} writes answered before it began, on each of three nodes: 0 lost, "
        "each with its value, type and moment of expiry, and in the backup with its version"
    )


def seconds(moment):
    whole, fraction = moment.removesuffix("Z").split(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction}")


class HeldUp(http.server.BaseHTTPRequestHandler):
    """S3 behind a line that breaks down at the second part of an upload."""

    protocol_version = "HTTP/1.1"
    behind, held = None, threading.Event()

    def do(self):
        if "partNumber=2&" in self.path:
            self.held.set()
            # Until whoever sent it is gone.
            while self.connection.recv(1 << 16):
                pass
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {"Content-Type": "application/octet-stream"}
        data = body if self.command in ("PUT", "POST") else None
        request = urllib.request.Request(self.behind + self.path, data, headers, method=self.command)
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
            self.send_response(answer.status)
            for name in ("ETag", "Content-Type", "Content-Range"):
                if answer.headers[name]:
                    self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = do

    def log_message(self, *_):
        pass


def test_one_that_is_killed_while_it_uploads_is_no_backup(s3, tmp_path, report):
    place = f"s3://{BUCKET}/kv"
    HeldUp.behind = s3["AWS_ENDPOINT_URL_S3"]
    line = http.server.ThreadingHTTPServer(("127.0.0.1", 0), HeldUp)
    threading.Thread(target=line.serve_forever, daemon=True).start()
    with Cluster(1, tmp_path) as cluster:
        server = f"http://127.0.0.1:{cluster.ports[0]}"
        write(cluster.ports[0], 0, 100)
        first = json.loads(program("backup", place, "--server", server, "--json", s3=s3).stdout)
        # More than one part: 8 MiB each.
        for number in range(20):
            value = os.urandom(512 << 10).hex()
            urllib.request.urlopen(urllib.request.Request(
                f"{server}/kv/large-{number}", data=value.encode(), method="PUT"), timeout=30).read()  # fmt: skip
        there = s3 | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{line.server_port}"}
        running = subprocess.Popen([PROGRAM, "backup", place, "--server", server], env=bare() | there,
                                   stdout=subprocess.DEVNULL, stderr=(tmp_path / "told").open("w"))  # fmt: skip
        wait("a part is there, and the second on its way", lambda: HeldUp.held.is_set() or running.poll() is not None)
        running.kill()
        running.wait()
        line.shutdown()
        heads, pending = objects(s3)
        assert len(pending) == 1, (tmp_path / "told").read_text()
        assert list(heads) == [first["place"].removeprefix(f"s3://{BUCKET}/")]
        assert json.loads(program("check", place, "--json", s3=s3).stdout)["keys"] == first["keys"]
        # And one that is let be, with a key of KMS, which then is the newest and alone.
        more = json.loads(program("backup", place, "--server", server, "--json", "--keep", "1",
                                  "--s3-encryption", "aws:kms", s3=s3).stdout)  # fmt: skip
        assert more["keys"] == first["keys"] + 20 and more["bytes"] > 20 << 20
        heads, _ = objects(s3)
        (head,) = heads.values()
        assert head["ServerSideEncryption"] == "aws:kms" and head["ContentLength"] > more["bytes"]
        assert json.loads(program("check", place, "--json", s3=s3).stdout)["sha256"] == more["sha256"]
        report("a backup killed between two parts is none, the one before is the newest; the next takes its place")


def test_what_s3_says_is_told(s3, tmp_path):
    with Cluster(1, tmp_path) as cluster:
        server = f"http://127.0.0.1:{cluster.ports[0]}"
        write(cluster.ports[0], 0, 100)
        ended = program("backup", "s3://absent-bucket/kv", "--server", server, s3=s3, check=False)
        assert ended.returncode == 3 and "NoSuchBucket" in ended.stderr, ended
        ended = program("restore", f"s3://{BUCKET}/nothing", "--server", server, s3=s3, check=False)
        assert ended.returncode == 1 and "no backup is there" in ended.stderr, ended
        ended = program("check", f"s3://{BUCKET}/absent.ndjson", s3=s3, check=False)
        assert ended.returncode == 3 and "NoSuchKey" in ended.stderr, ended


def test_the_role_of_a_task_is_enough(s3, tmp_path):
    """As ECS tells of it: an address on this host, and what to show there."""
    asked = []

    class Agent(Told):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.answer({"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t",
                         "Expiration": "2099-01-01T00:00:00Z"})  # fmt: skip

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        role = {name: value for name, value in s3.items() if "KEY" not in name} | {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.server_port}/role",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "shown",
        }
        with Cluster(1, tmp_path) as cluster:
            write(cluster.ports[0], 0, 100)
            program("backup", f"s3://{BUCKET}/role", "--server", f"http://127.0.0.1:{cluster.ports[0]}", s3=role)
        assert asked == [("/role", "shown")]
        assert next(iter(objects(s3)[0])).startswith("role/gossipykv-")
    finally:
        server.shutdown()


def test_the_scheduled_task_does_it_and_may_do_no_more(s3, tmp_path, report):
    """backup.yaml's own command line, with its own settings; and what its role is given."""
    with Cluster(1, tmp_path) as cluster:
        write(cluster.ports[0], 0, 100)
        server = f"http://127.0.0.1:{cluster.ports[0]}"
        made = Resolved(
            template(BACKUP), BucketName=BUCKET, Prefix="kv/production", ServerUrl=server, Keep="2", ImageUri="image",
            ClusterName="cluster", VpcId="vpc-1", SubnetIds="subnet-1",
        )  # fmt: skip
        (container,) = made["TaskDefinition"]["ContainerDefinitions"]
        settings = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
        for _ in range(3):
            ended = program(*container["Command"], s3=settings | s3)
            # What the metric filter looks for.
            assert made["Made"]["FilterPattern"].strip('"') in ended.stderr, ended
    heads, _ = objects(s3)
    assert len(heads) == 2 and {head["ServerSideEncryption"] for head in heads.values()} == {"AES256"}
    (policy,) = made["TaskRole"]["Policies"]
    listing, writing = [one for one in policy["PolicyDocument"]["Statement"] if isinstance(one, dict) and "Action" in one]
    assert listing["Action"] == "s3:ListBucket"
    assert listing["Condition"] == {"StringEquals": {"s3:prefix": "kv/production/"}}
    assert set(writing["Action"]) == {"s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"}
    allowed = writing["Resource"].rsplit(":::", 1)[1]
    assert allowed.endswith("/kv/production/gossipykv-*") and allowed.count("*") == 1
    assert all(f"{BUCKET}/{name}".startswith(allowed[:-1]) for name in heads)
    report("the scheduled task's command line makes backups, and its role may write and remove below its prefix alone")
