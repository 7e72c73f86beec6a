"""Clients of Consul against nodes of ours: clients.py NODE..

Each client that is installed is asked for all it has, at one node and behind a balancer that sends
each request to the next node. Prints what was checked; fails at the first thing that is wrong.
"""

import itertools
import sys
import threading
import time

import balancer

ODD = "sp ace/\u00fcn\u00ef%2F+&=?#:;@[]"
fresh = itertools.count()


def eventually(what, check):
    """Nodes differ for a moment."""
    until = time.monotonic() + 10
    while not check():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def python_consul(at):
    """py-consul, python-consul and python-consul2 have one interface."""
    import base64

    import consul

    host, port = at.split(":")
    c = consul.Consul(host=host, port=int(port))
    kv, root = c.kv, "py%d/" % next(fresh)
    get = lambda key, **more: kv.get(root + key, **more)[1]
    assert kv.put(root + "a", "1", flags=42)
    eventually("put", lambda: get("a") and get("a")["Value"] == b"1")
    assert get("a")["Flags"] == 42
    index, none = kv.get(root + "never")
    assert none is None and int(index) >= 1
    for value in (b"", b"\x00\xff", "\u00fc".encode()):
        assert kv.put(root + "b", value)
        eventually("bytes", lambda: get("b") and (get("b")["Value"] or b"") == value)
    assert kv.put(root + ODD, "odd")
    eventually("odd key", lambda: get(ODD) is not None)
    assert get(ODD)["Key"] == root + ODD
    all_keys = sorted([root + "a", root + "b", root + ODD])
    eventually("keys", lambda: kv.get(root, keys=True)[1] == all_keys)
    cut = sorted([root + "a", root + "b", root + "sp ace/"])
    assert kv.get(root, keys=True, separator="/")[1] == cut
    assert sorted(e["Key"] for e in kv.get(root, recurse=True)[1]) == all_keys
    # On a condition.
    assert kv.put(root + "c", "1", cas=0)
    eventually("cas", lambda: get("c") is not None)
    at_index = get("c")["ModifyIndex"]
    assert not kv.put(root + "c", "no", cas=at_index - 1)
    for _ in range(20):
        if kv.put(root + "c", "2", cas=at_index):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("cas never holds")
    eventually("cas is seen", lambda: get("c")["Value"] == b"2")
    # Waiting.
    index, _ = kv.get(root + "w")
    threading.Timer(0.2, lambda: kv.put(root + "w", "now")).start()
    began, value = time.monotonic(), None
    while value is None and time.monotonic() < began + 10:
        index, value = kv.get(root + "w", index=index, wait="10s")
    assert value["Value"] == b"now" and time.monotonic() < began + 5
    # Transactions.
    value = base64.b64encode(b"t").decode()
    done = c.txn.put([{"KV": {"Verb": "set", "Key": root + "t", "Value": value}},
                      {"KV": {"Verb": "get", "Key": root + "t"}}])
    assert done["Errors"] is None and done["Results"][1]["KV"]["Value"] == value, done
    # Locks are refused, at once and in words.
    for lock in (lambda: c.session.create(), lambda: kv.put(root + "l", "1", acquire="s")):
        try:
            lock()
            raise SystemError("a lock was granted")
        except consul.ConsulException as error:
            assert "need consensus" in str(error), error
    assert ":" in c.status.leader() and c.catalog.datacenters() == ["dc1"]
    assert c.agent.self()["Config"]["Datacenter"] == "dc1"
    # The members are a service; nobody is told twice of what has not changed.
    eventually("members", lambda: len(c.health.service("gossipykv", passing=True)[1]) == 2)
    index, service = c.health.service("gossipykv", passing=True)
    assert {row["Service"]["Service"] for row in service} == {"gossipykv"}
    assert {row["Checks"][0]["Status"] for row in service} == {"passing"}
    assert len(c.catalog.service("gossipykv")[1]) == len(c.catalog.nodes()[1]) == 2
    assert "gossipykv" in c.catalog.services()[1]
    began = time.monotonic()
    _, again = c.health.service("gossipykv", index=index, wait="1s", passing=True)
    assert time.monotonic() - began >= 0.9 and len(again) == 2
    assert kv.delete(root + "a") and kv.delete(root + "never")
    eventually("delete", lambda: get("a") is None)
    assert kv.delete(root, recurse=True)
    eventually("delete all", lambda: kv.get(root, keys=True)[1] is None)


def launchdarkly(at):
    """Flags of LaunchDarkly, kept by the Consul store of its SDK."""
    from ldclient.integrations import Consul
    from ldclient.versioned_data_kind import FEATURES

    host, port = at.split(":")
    prefix = "ld%d" % next(fresh)
    new = lambda: Consul.new_feature_store(host=host, port=int(port), prefix=prefix)
    store = new()
    assert not store.initialized
    flag = lambda version: {"key": "f", "version": version, "on": version % 2 == 0}
    store.init({FEATURES: {"f": flag(1), "g": {"key": "g", "version": 1}}})
    read = lambda key: new().get(FEATURES, key, lambda found: found)
    eventually("init", lambda: new().initialized and read("f") is not None)
    for version in range(2, 12):
        store.upsert(FEATURES, flag(version))
    eventually("upserts", lambda: read("f") and read("f")["version"] == 11)
    assert read("g") is not None
    store.delete(FEATURES, "g", 5)
    eventually("delete", lambda: read("g") is None)
    assert sorted(new().all(FEATURES, lambda found: found)) == ["f"]


CLIENTS = {"consul": python_consul, "ldclient": launchdarkly}


def main(nodes):
    both = balancer.start(nodes)
    checked = []
    for module, check in CLIENTS.items():
        try:
            __import__(module)
        except ImportError:
            continue
        check(nodes[0])
        check(both)
        checked.append(module)
    assert checked, "no client is installed"
    print("checked:", ", ".join(checked))


if __name__ == "__main__":
    main(sys.argv[1:])
