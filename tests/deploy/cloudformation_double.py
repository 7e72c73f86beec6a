"""A stand-in for the few CloudFormation calls whose answers moto leaves out.

It speaks the query protocol, so the real aws CLI is what reads it. One stack, whose status,
changes and further course a test sets.
"""

import http.server
import threading
import urllib.parse
from xml.sax.saxutils import escape

STACK_ID = "arn:aws:cloudformation:eu-west-1:123456789012:stack/kv/1"
CHANGE_SET = "arn:aws:cloudformation:eu-west-1:123456789012:changeSet/make/1"


def xml(value):
    """Nested dicts and lists as the query protocol writes them; None is absent."""
    if isinstance(value, dict):
        return "".join(f"<{k}>{xml(v)}</{k}>" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return "".join(f"<member>{xml(item)}</member>" for item in value)
    return escape(str(value))


class Double:
    def __init__(self):
        self.stack_status = "UPDATE_COMPLETE"
        # (action, logical id, type, replacement, [(path, before, after, recreation)])
        self.changes = []
        # What each look at the stack after its execution finds: (status, [(status, id, reason)]).
        self.after_execute = []
        # What CreateChangeSet answers instead, with status 400.
        self.refusal = None
        self.actions = []
        self._events = [("UPDATE_COMPLETE", "kv", "before")]
        self._executed = False

    def __enter__(self):
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {k: v[0] for k, v in urllib.parse.parse_qs(body).items()}
                status, answer = double.answer(form["Action"], form)
                answer = answer.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, action, form):
        self.actions.append(action)
        if action == "CreateChangeSet" and self.refusal:
            error = {"Type": "Sender", "Code": "ValidationError", "Message": self.refusal}
            return 400, f"<ErrorResponse><Error>{xml(error)}</Error></ErrorResponse>"
        result = getattr(self, f"_{action}")(form)
        return 200, f"<{action}Response><{action}Result>{xml(result)}</{action}Result></{action}Response>"

    def _GetCallerIdentity(self, _):
        return {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/test"}

    def _DescribeStacks(self, _):
        if self._executed and self.after_execute:
            self.stack_status, events = self.after_execute.pop(0)
            self._events = events[::-1] + self._events
        stack = {"StackName": "kv", "StackId": STACK_ID, "StackStatus": self.stack_status}
        return {"Stacks": [stack | {"CreationTime": "2026-01-01T00:00:00Z"}]}

    def _CreateChangeSet(self, _):
        return {"Id": CHANGE_SET, "StackId": STACK_ID}

    def _DescribeChangeSet(self, form):
        values = form.get("IncludePropertyValues") == "true"
        changes = []
        for action, name, kind, replacement, properties in self.changes:
            details = [
                {
                    "Target": {
                        "Attribute": "Properties",
                        "Path": path if values else None,
                        "BeforeValue": before if values else None,
                        "AfterValue": after if values else None,
                        "RequiresRecreation": recreation,
                    },
                }
                for path, before, after, recreation in properties
            ]
            change = {"Action": action, "LogicalResourceId": name, "ResourceType": kind}
            change |= {"Replacement": replacement, "Details": details}
            changes.append({"Type": "Resource", "ResourceChange": change})
        return {"Status": "CREATE_COMPLETE", "Changes": changes}

    def _DeleteChangeSet(self, _):
        return {}

    def _ExecuteChangeSet(self, _):
        self._executed = True
        return {}

    def _DescribeStackEvents(self, _):
        events = [
            {
                "StackId": STACK_ID,
                "StackName": "kv",
                "EventId": f"event-{len(self._events) - place}",
                "Timestamp": "2026-01-01T00:00:00Z",
                "ResourceStatus": status,
                "LogicalResourceId": name,
                "ResourceType": "AWS::Test::Type",
                "ResourceStatusReason": reason or None,
            }
            for place, (status, name, reason) in enumerate(self._events)
        ]
        return {"StackEvents": events}
