"""A steady load of PUTs and GETs over kept connections, and what became of each request.

    load.py OUT PORT[,PORT..] PUTS_PER_SECOND GETS_PER_SECOND SECONDS

PUTs write fresh keys; GETs read keys whose PUT was answered at least a second ago, anywhere. Ends
after SECONDS or at SIGTERM, then writes a JSON report to OUT. No request is sent twice.
"""

import asyncio
import collections
import json
import random
import signal
import sys
import time

CONNECTIONS = 25
# A key that was written this long ago is expected on every node that is ready.
SETTLED_SECONDS = 1.0


class Load:
    def __init__(self, ports, puts, gets, seconds):
        self.ports, self.rates, self.until = ports, (puts, gets), time.monotonic() + seconds
        self.written = []  # (when answered, key), in order
        self.failures = []  # (when, method, key, what, port)
        self.counts = collections.Counter()
        self.latencies = []
        self.next_key = 0

    async def run(self):
        self.stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stopped.set)
        tasks = []
        for method, rate in zip(("PUT", "GET"), self.rates):
            for number in range(CONNECTIONS if rate else 0):
                port = self.ports[number % len(self.ports)]
                tasks.append(asyncio.create_task(self.client(method, port, CONNECTIONS / rate)))
        ending = asyncio.create_task(self.stopped.wait())
        await asyncio.wait([ending], timeout=self.until - time.monotonic())
        self.stopped.set()
        await asyncio.gather(*tasks)
        ending.cancel()

    async def client(self, method, port, period):
        connection = None
        due = time.monotonic() + random.random() * period
        while not self.stopped.is_set():
            await asyncio.sleep(max(0, due - time.monotonic()))
            due = max(due + period, time.monotonic() - 5 * period)
            work = self.fresh() if method == "PUT" else self.settled()
            if work is None:
                continue
            started = time.monotonic()
            try:
                if connection is None:
                    connection = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 10)
                status, body, keep = await asyncio.wait_for(self.ask(connection, method, work), 10)
            except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
                status, body, keep = 0, type(error).__name__.encode(), False
            ended = time.monotonic()
            self.counts[f"{method} {status}"] += 1
            self.latencies.append(ended - started)
            if not keep and connection is not None:
                connection[1].close()
                connection = None
            if method == "PUT" and status == 200:
                self.written.append((ended, work))
            wrong = status == 200 and method == "GET" and body != f'{{"{work}":"v-{work}"}}'.encode()
            if not 200 <= status < 300 or wrong:
                self.failures.append((time.time(), method, work, status or body.decode(), port))

    def fresh(self):
        self.next_key += 1
        return f"load-{self.next_key:07}"

    def settled(self):
        """A key of late that is old enough to be everywhere; now and then any key."""
        before = time.monotonic() - SETTLED_SECONDS
        for _ in range(8):
            if not self.written:
                return None
            least = 0 if random.random() < 0.2 else max(0, len(self.written) - 2000)
            when, key = self.written[random.randrange(least, len(self.written))]
            if when <= before:
                return key
        return None

    async def ask(self, connection, method, key):
        reader, writer = connection
        body = f"v-{key}" if method == "PUT" else ""
        head = f"{method} /kv/{key} HTTP/1.1\r\nHost: localhost\r\n"
        if method == "PUT":
            head += f"Content-Length: {len(body)}\r\n"
        writer.write(f"{head}\r\n{body}".encode())
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        return int(lines[0].split()[1]), await reader.readexactly(length), "connection: close" not in lines

    def report(self):
        self.latencies.sort()

        def at(share):
            return round(1000 * self.latencies[int(share * (len(self.latencies) - 1))], 1) if self.latencies else 0

        return {
            "counts": self.counts,
            "failures": self.failures,
            "written": [key for _, key in self.written],
            "milliseconds": {"p50": at(0.5), "p99": at(0.99), "max": at(1)},
        }


def main():
    out, ports, puts, gets, seconds = sys.argv[1:]
    load = Load([int(port) for port in ports.split(",")], int(puts), int(gets), float(seconds))
    asyncio.run(load.run())
    with open(out, "w") as file:
        json.dump(load.report(), file)


main()
