"""Watchers of three kinds behind a balancer, while two nodes are written to: watchers.py NODE..

A watcher compares indexes as its kind does: `resets` asks anew from 0 when an index falls, as
consul-template does; `takes` takes any other index, as valkeyrie does; `blind` asks with whatever
came, as confd does. After the last write each must end with what the nodes hold, and then be quiet.
"""

import http.client
import json
import random
import sys
import threading
import time

import balancer

WRITING = 1.5
SETTLED = 2.5
QUIET_MAX = 8


class Watcher(threading.Thread):
    def __init__(self, at, kind, target):
        super().__init__(daemon=True)
        self.at, self.kind, self.target = at, kind, target
        self.seen, self.asked, self.over = None, 0, False

    def run(self):
        index = 0
        while not self.over:
            to = http.client.HTTPConnection(self.at, timeout=60)
            to.request("GET", "/v1/kv/%s&index=%d&wait=20s" % (self.target, index))
            answer = to.getresponse()
            data, now = answer.read(), int(answer.getheader("X-Consul-Index"))
            to.close()
            self.asked += 1
            # A client passes over an answer with the index that it had, and its content.
            if now != index or self.kind == "blind":
                self.seen = content(data)
            index = 0 if self.kind == "resets" and now < index else now


def content(data):
    return {e["Key"]: e["Value"] for e in json.loads(data)} if data else {}


def request(at, method, path, body=None):
    to = http.client.HTTPConnection(at, timeout=20)
    to.request(method, path, body)
    answer = to.getresponse()
    data = answer.read()
    to.close()
    return answer.status, data


def writer(node, root, until, seed):
    choose = random.Random(seed)
    n = 0
    while time.monotonic() < until:
        key = "/v1/kv/%s%d" % (root, choose.randrange(5))
        n += 1
        if choose.random() < 0.25:
            request(node, "DELETE", key)
        else:
            request(node, "PUT", key, ("%s-%d" % (node, n)).encode())
        time.sleep(choose.random() * 0.02)


def a_round(number, nodes, both):
    root = "watch%d/" % number
    targets = [root + "?recurse", root + "0?x", root + "4?x"]
    kinds = ["resets", "takes", "blind"]
    watchers = [Watcher(both, kind, target) for kind in kinds for target in targets + targets[:1]]
    for watcher in watchers:
        watcher.start()
    until = time.monotonic() + WRITING
    writers = [threading.Thread(target=writer, args=(node, root, until, 7 * number + n))
               for n, node in enumerate(nodes)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    time.sleep(SETTLED)
    held = [content(request(node, "GET", "/v1/kv/%s?recurse" % root)[1]) for node in nodes]
    assert all(have == held[0] for have in held), "the nodes differ: %r" % held
    asked = [watcher.asked for watcher in watchers]
    time.sleep(2)
    wrong, loud = [], []
    for watcher, before in zip(watchers, asked):
        key = watcher.target.split("?")[0]
        wanted = {k: v for k, v in held[0].items() if k.startswith(key)}
        if watcher.seen != wanted:
            wrong.append((watcher.kind, watcher.target, watcher.seen, wanted))
        if watcher.asked - before > QUIET_MAX:
            loud.append((watcher.kind, watcher.target, watcher.asked - before))
        watcher.over = True
    assert not wrong, wrong
    assert not loud, loud
    return len(watchers)


def main(rounds, nodes):
    both = balancer.start(nodes)
    n = sum(a_round(number, nodes, both) for number in range(rounds))
    print("watchers: %d, wrong: 0" % n)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
