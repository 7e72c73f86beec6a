"""OpenFeature's SDK against nodes of ours: flags.py NODE NODE.

Flags are put at one node and read at the other.
"""

import http.client
import sys
import time

from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext


def put(node, key, value):
    to = http.client.HTTPConnection(node)
    to.request("PUT", "/v1/kv/flags/" + key, value)
    assert to.getresponse().read() == b"true"


def main(one, two):
    put(one, "new-ui", "true")
    put(one, "limits/size", "7")
    put(one, "theme", '{"variants":{"a":"red","b":"blue"},"defaultVariant":"b"}')
    put(one, "off", '{"variants":{"on":true},"defaultVariant":"on","state":"DISABLED"}')
    api.set_provider(OFREPProvider("http://" + two))
    flags, context = api.get_client(), EvaluationContext("somebody", {"age": 7})
    until = time.monotonic() + 10
    while not flags.get_boolean_value("new-ui", False, context):
        assert time.monotonic() < until, "new-ui"
        time.sleep(0.05)
    assert flags.get_integer_value("limits/size", 0) == 7
    theme = flags.get_string_details("theme", "none", context)
    assert (theme.value, theme.variant) == ("blue", "b"), theme
    assert flags.get_boolean_value("off", False) is False
    assert flags.get_string_value("unheard-of", "default") == "default"
    put(one, "theme", '{"variants":{"a":"red","b":"blue"},"defaultVariant":"a"}')
    while flags.get_string_value("theme", "none") != "red":
        assert time.monotonic() < until, "theme"
        time.sleep(0.05)
    print("checked")


main(*sys.argv[1:])
