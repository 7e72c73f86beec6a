"""Requests that nobody would make: heads, framing, ranges, conditions, pipelines, mutated.

    mutate.py NODE PID REQUESTS [SEED]

Each answer is read by h11, which knows the method of the request: it refuses whatever is not the
answer to that. A pipeline ends with a question whose answer must be there, unless the connection
was closed as an answer before it said. At the end the node serves, holds nothing, has no
connections left but ours, and its memory is where it was.
"""

import json
import random
import socket
import sys
import time
from pathlib import Path

import h11

NODE, PID, REQUESTS, *SEED = sys.argv[1:]
HOST, PORT = NODE.rsplit(":", 1)
RNG = random.Random(int(SEED[0]) if SEED else 20_251_130)
PER_CONNECTION = 12
GROWTH_MAX = 10 << 20
# What waits would be waited for.
TIMEOUT = 20

METHODS = [b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS"]
ODD_METHODS = [b"PATCH", b"TRACE", b"QUERY", b"get", b"G\x00T", b"", b"CONNECT", b"A" * 40]
TARGETS = [
    b"/kv/%s", b"/kv/%s?raw", b"/kv?key=%s", b"/kv/%s/v", b"/kv/", b"/kv/?prefix=%s&limit=3",
    b"/kv/?keys&limit=5&delimiter=/", b"/kv/?count", b"/kv/?since=t0&wait=0s", b"/", b"/health",
    b"/live", b"/members", b"/metrics", b"/version", b"/keys", b"/openapi.json", b"/v1/kv/%s",
    b"/v1/kv/%s?recurse", b"/v1/kv/?keys&separator=/", b"/v1/txn", b"/v1/status/leader",
    b"/v1/catalog/node/%s", b"/v1/health/service/%s?passing",
    b"/v1/health/state/%s?index=1&wait=1ms",
    b"/ofrep/v1/evaluate/flags", b"/ofrep/v1/evaluate/flags/%s", b"/none", b"*",
    b"http://localhost/kv/%s", b"/kv/%s?ttl=30s", b"/kv/%s?w=1&timeout=10ms", b"/kv?key=",
    b"/kv/?prefix=%s", b"/members/forget", b"/kv/%s?min_version=x&wait=0s",
]
KEYS = [b"a", b"b", b"c%2Fd", b"..", b"%00", b"%FF", b"%", b"k" * 512, b"k" * 513, b"%C3%BC", b"+"]
HEADERS = [
    (b"Range", [b"bytes=0-0", b"bytes=-1", b"bytes=9-", b"bytes=0-1,3-4", b"x", b"bytes=5-1"]),
    (b"If-Range", [b'"x"', b"Sat, 01 Jan 2000 00:00:00 GMT"]),
    (b"If-Match", [b"*", b'"x"', b'W/"x", "y"', b'"', b", ,", b"*, *"]),
    (b"If-None-Match", [b"*", b'"x"', b'W/"x"', b'"a"b"', b'"\xc3\xbc"', b""]),
    (b"If-Modified-Since", [b"Sat, 01 Jan 2000 00:00:00 GMT", b"never"]),
    (b"If-Unmodified-Since", [b"Sat, 01 Jan 2000 00:00:00 GMT"]),
    (b"Accept-Encoding", [b"gzip", b"gzip;q=0", b"*", b"br;q=x, gzip", b"identity"]),
    (b"Accept", [b"text/html", b"*/*", b"application/json"]),
    (b"Content-Type", [b"text/plain", b"application/json", b"\xff", b"a" * 300,
                       b"application/x-ndjson"]),
    (b"Content-Encoding", [b"gzip", b"identity", b"identity, br"]),
    (b"Content-Range", [b"bytes 0-1/2"]),
    (b"Expect", [b"100-continue", b"200-ok"]),
    (b"Connection", [b"keep-alive", b"close", b"Upgrade, close", b"te"]),
    (b"Upgrade", [b"h2c", b"websocket"]),
    (b"Origin", [b"http://localhost", b"null"]),
    (b"X-Consul-Token", [b"", b"x"]),
    (b"X-Consul-Namespace", [b"n"]),
    (b"Authorization", [b"Bearer x", b"Basic \xff", b""]),
    (b"Last-Event-ID", [b"t0", b"t1.!"]),
    (b"Trailer", [b"X"]),
    (b"Host", [b"localhost", b"evil.example", b"[::1]:1", b"a b", b""]),
    (b"Content-Length", [b"0", b"5", b"+5", b"5, 5", b"99999999999999999999", b"0x5", b" 5", b"-1"]),
    (b"Transfer-Encoding", [b"chunked", b"gzip, chunked", b"chunked ", b"xchunked", b"identity"]),
    (b"X" * 60, [b"v" * 4000, b"\x01", b"v\x00"]),
]
PROBE = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Wrong(Exception):
    """An answer that is none."""


def chunked(body):
    out = b""
    while body:
        n = RNG.randint(1, len(body))
        out += b"%x%s\r\n%s\r\n" % (n, RNG.choice([b"", b"", b";a=b"]), body[:n])
        body = body[n:]
    return out + b"0\r\n" + RNG.choice([b"", b"", b"X: y\r\n"]) + b"\r\n"


def body_of(target):
    if target.startswith(b"/kv/") and RNG.random() < 0.3:
        return json.dumps({"ops": [{"put": "b", "value": "x"}, {"get": "a"}]}).encode()
    if b"txn" in target:
        return b'[{"KV":{"Verb":"set","Key":"a","Value":"eA=="}}]'
    return RNG.choice([b"", b"hello", b"{}", b"x" * RNG.choice([100, 5000, 20000, 70000])])


def request():
    """A request in order, its method, and whether it is; mutated it may be anything."""
    method = RNG.choice(METHODS)
    target = RNG.choice(TARGETS)
    if b"%s" in target:
        target = target.replace(b"%s", RNG.choice(KEYS))
    headers = [(b"Host", b"localhost")]
    for name, values in RNG.sample(HEADERS[:20], RNG.choice([0, 0, 1, 2, 3])):
        headers.append((name, RNG.choice(values)))
    body = b""
    if method in (b"PUT", b"POST") or RNG.random() < 0.05:
        body = body_of(target)
        if RNG.random() < 0.3:
            headers.append((b"Transfer-Encoding", b"chunked"))
            body = chunked(body)
        else:
            headers.append((b"Content-Length", str(len(body)).encode()))
    return method, target, headers, body


def written(method, target, headers, body, version=b"HTTP/1.1"):
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"%s %s %s\r\n%s\r\n%s" % (method, target, version, lines, body)


def mutated(method, target, headers, body):
    """The bytes of such a request after something was done to them."""
    kind = RNG.randrange(12)
    if kind == 0:
        method = RNG.choice(ODD_METHODS)
    elif kind in (1, 2):
        headers.append((lambda h: (h[0], RNG.choice(h[1])))(RNG.choice(HEADERS)))
        headers.append((lambda h: (h[0], RNG.choice(h[1])))(RNG.choice(HEADERS)))
    elif kind == 3:
        headers = headers * RNG.choice([2, 120])
    elif kind == 4:
        RNG.shuffle(headers)
        headers = headers[1:]
    elif kind == 5:
        return written(method, target, headers, body, RNG.choice(
            [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"", b"HTTP/1.1 x"]))
    elif kind == 6:
        target += RNG.choice([b"?" * 20, b"#x", b"%", b"\xff", b" ", b"&" * 99, b"/" * 9000])
    raw = bytearray(written(method, target, headers, body))
    if kind >= 7:
        for _ in range(RNG.randint(1, 4)):
            at = RNG.randrange(len(raw))
            head_only = RNG.randrange(min(len(raw), 120))
            at = RNG.choice([at, head_only])
            act = RNG.randrange(4)
            if act == 0:
                raw[at] = RNG.randrange(256)
            elif act == 1:
                del raw[at:at + RNG.randint(1, 5)]
            elif act == 2:
                raw[at:at] = RNG.choice([b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\x80", b"0"])
            else:
                raw[at:at] = raw[at:at + 40]
            if not raw:
                break
    return bytes(raw)


class Reader:
    """Reads the answers of one connection, one after the other."""

    def __init__(self, sock):
        self.sock, self.rest, self.is_ended = sock, b"", False

    def answer(self, method):
        """The status of the next answer, and whether the connection goes on; None at the end."""
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
        client.send(h11.EndOfMessage())
        if self.rest:
            client.receive_data(self.rest)
        status, length = None, 0
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                data = b"" if self.is_ended else self.sock.recv(65536)
                self.is_ended |= not data
                # A 100 may have come for a body that never did.
                if not data and status is None and not client.trailing_data[0]:
                    return None
                self.rest += data
                client.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                named = dict(event.headers)
                if b"transfer-encoding" not in named and b"content-length" not in named \
                        and status not in (204, 304):
                    raise Wrong(f"{status} has no length")
            elif isinstance(event, h11.Data):
                length += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                goes_on = client.their_state is h11.DONE
                self.rest = client.trailing_data[0] if goes_on else b""
                return status, goes_on
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                if status is None:
                    return None
                raise Wrong(f"{status} ends early, after {length} bytes")


def connection():
    sock = socket.create_connection((HOST, int(PORT)), timeout=TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def send(sock, raw):
    try:
        sock.sendall(raw)
    except OSError:
        pass  # It was refused before its end.


def method_of(raw):
    """What h11 has to know: whether this is a HEAD."""
    raw = raw[2:] if raw.startswith(b"\r\n") else raw
    return "HEAD" if raw.startswith(b"HEAD ") else "GET"


def pipeline():
    """Requests in order, sent at once; each has its answer."""
    requests = [request() for _ in range(PER_CONNECTION)]
    raws = [written(*one) for one in requests]
    with connection() as sock:
        reader = Reader(sock)
        send(sock, b"".join(raws) + PROBE)
        for raw in [*raws, PROBE]:
            answer = reader.answer(method_of(raw))
            if answer is None:
                raise Wrong(f"no answer to {raw[:300]!r}")
            if not answer[1]:
                if reader.rest:
                    raise Wrong(f"{reader.rest[:80]!r} after the last answer")
                return len(raws)
    return len(raws)


def lone():
    """Requests in order, then a mutated one, after which the client sends no more."""
    requests = [written(*request()) for _ in range(RNG.randrange(3))]
    last = mutated(*request())
    with connection() as sock:
        reader = Reader(sock)
        send(sock, b"".join(requests) + last)
        try:
            if RNG.random() < 0.9:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # It has ended the connection already.
        else:
            sock.settimeout(TIMEOUT)
        for raw in requests:
            answer = reader.answer(method_of(raw))
            if answer is None:
                raise Wrong(f"no answer to {raw[:300]!r}")
            if not answer[1]:
                return len(requests) + 1
        # Whatever became of it: one request, several, or none that was whole.
        read_mutated(reader, last, sock)
    return len(requests) + 1


def read_mutated(reader, raw, sock):
    method = method_of(raw)
    sock.settimeout(0.3)
    try:
        while True:
            answer = reader.answer(method)
            if answer is None or not answer[1]:
                return
            # What was the body of the first may be heads of others.
            if reader.rest[:8] != b"HTTP/1.1"[:len(reader.rest[:8])]:
                raise Wrong(f"{reader.rest[:80]!r} after an answer")
            method = "GET" if b"HEAD " not in raw else None
            if method is None:
                return
    except TimeoutError:
        pass  # It waits for the rest.


def metric(name):
    with connection() as sock:
        send(sock, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = b""
        while part := sock.recv(65536):
            text += part
    for line in text.decode().splitlines():
        if line.startswith(f"gossipykv_{name} "):
            return float(line.split()[1])
    raise Wrong(f"no {name}")


def resident():
    for line in Path(f"/proc/{PID}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise Wrong("it has ended")


def is_quiet(before):
    ends = time.monotonic() + 60
    while True:
        now = (metric("http_connections"), metric("http_held_bytes"), metric("http_waiting"))
        grown = resident() - before
        if now == (1, 0, 0) and grown < GROWTH_MAX:
            return grown
        if time.monotonic() > ends:
            raise Wrong(f"connections, bytes held, waiting: {now}; memory grew by {grown} bytes")
        time.sleep(0.2)


def main():
    wanted, done, state = int(REQUESTS), 0, None
    # What it takes once is not what it takes more and more of.
    warm = min(wanted // 4, 20_000)
    before = None
    began = time.monotonic()
    while done < wanted:
        if before is None and done >= warm:
            before = resident()
        state = RNG.getstate()
        act = RNG.choice([pipeline, lone])
        try:
            done += act()
        except (Wrong, h11.ProtocolError, TimeoutError) as error:
            RNG.setstate(state)
            RNG.choice([pipeline, lone])
            sys.exit(f"after {done} requests, {act.__name__}: {type(error).__name__} {error}")
    grown = is_quiet(before)
    print(f"checked {done} requests in {time.monotonic() - began:.0f} s, "
          f"memory grew by {grown >> 10} KiB")


main()
