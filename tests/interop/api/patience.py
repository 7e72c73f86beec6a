"""Hooks of schemathesis: what would wait, or never end, is asked so that it answers at once.

It is told, too, how lines are written.
"""

import json

import schemathesis

# Parameters that make a read wait, and for how long unless told.
WAITING = {"newer", "since", "min_version", "index"}
SWITCHED_ON = ["", "true", "1", True, None]


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query
    if not isinstance(query, dict):
        return
    if query.get("watch", "false") in SWITCHED_ON:
        query["watch"] = "false"
    if WAITING & query.keys() and _is_duration(query.get("wait", "1s")):
        query["wait"] = "10ms"
    if "w" in query and _is_duration(query.get("timeout", "1s")):
        query["timeout"] = "10ms"


def _is_duration(text):
    return text in ("", None) or (
        isinstance(text, str) and text[:1].isdigit() and text[-1:] in ("s", "m", "h"))


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """A load of one line."""
    return json.dumps(value).encode() + b"\n"
