"""A stand-in for the few AWS calls whose answers moto leaves out.

It speaks the query protocol of CloudFormation and load balancers and the JSON of ECS and logs, so
the real aws CLI is what reads it. Stacks, their changes and their further course are what a test
sets; what was asked of it is kept.
"""

import contextlib
import http.server
import json
import threading
import urllib.parse
from xml.sax.saxutils import escape

import yaml
from conftest import Template

# What AWS tells of every stack, said or not.
DEFAULTS = {"AllowPlainHttp": "true", "IpAddressType": "dualstack", "ZoneCount": "3"}
# How long a template may be that comes with a request.
TEMPLATE_BYTES = 51_200
CHANGE_SET = "arn:aws:cloudformation:eu-west-1:123456789012:changeSet/make"


def stack_id(name):
    return f"arn:aws:cloudformation:eu-west-1:123456789012:stack/{name}/1"


def name_of(text):
    """A stack by its name or its id."""
    return text.split("/")[1] if text.startswith("arn:") else text


def xml(value):
    """Nested dicts and lists as the query protocol writes them; None is absent."""
    if isinstance(value, dict):
        return "".join(f"<{k}>{xml(v)}</{k}>" for k, v in value.items() if v is not None)
    if isinstance(value, list):
        return "".join(f"<member>{xml(item)}</member>" for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return escape(str(value))


def pairs(form, what, key, value):
    """The list `what` of a form, of things with a key and a value, as a dict."""
    found = {}
    while f"{what}.member.{len(found) + 1}.{key}" in form:
        place = f"{what}.member.{len(found) + 1}"
        found[form[f"{place}.{key}"]] = form.get(f"{place}.{value}", "")
    return found


class Refusal(Exception):
    pass


class Stack:
    def __init__(self, status="UPDATE_COMPLETE", environment="default", **rest):
        self.status = status
        self.parameters = DEFAULTS | rest.get("parameters", {})
        self.tags = rest.get("tags", {"environment": environment} if environment else {})
        self.outputs = rest.get("outputs", {})
        # Logical id: physical id.
        self.resources = rest.get("resources", {})
        self.protected = rest.get("protected", False)
        self.events = [(status, "kv", "before")]
        # What each look at it finds next: (status, [(status, id, reason)]).
        self.course = []


class Double:
    def __init__(self):
        self.stacks = {"kv": Stack()}
        # (action, logical id, type, replacement, [(path, before, after, recreation)])
        self.changes = []
        # The course of a stack after its change set is executed, and after it is deleted.
        self.after_execute = []
        self.after_delete = []
        # What CreateChangeSet answers instead, with status 400.
        self.refusal = None
        # The load balancer's own protection.
        self.balancer_protected = False
        # What ECS tells of stopped tasks, and the log of each.
        self.stopped_tasks = []
        self.logs = {}
        # Buckets that S3 deletes, because they are empty.
        self.empty_buckets = set()
        self.actions = []
        self.deleted = []
        self.change_sets = []

    @property
    def stack_status(self):
        return self.stacks["kv"].status

    @stack_status.setter
    def stack_status(self, status):
        self.stacks["kv"].status = status

    def __enter__(self):
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, kind, answer = double.answer(self.headers.get("X-Amz-Target"), body)
                answer = answer.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_DELETE(self):
                # Of S3 a bucket alone is deleted here.
                bucket = self.path.strip("/")
                found = bucket in double.empty_buckets
                double.empty_buckets.discard(bucket)
                error = "" if found else "<Error><Code>BucketNotEmpty</Code><Message>it is not</Message></Error>"
                self.send_response(204 if found else 409)
                self.send_header("Content-Length", str(len(error)))
                self.end_headers()
                self.wfile.write(error.encode())

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

    def answer(self, target, body):
        if target:
            action = target.split(".")[1]
            self.actions.append(action)
            return 200, "application/x-amz-json-1.1", json.dumps(getattr(self, f"_{action}")(json.loads(body)))
        form = {k: v[0] for k, v in urllib.parse.parse_qs(body, keep_blank_values=True).items()}
        action = form["Action"]
        self.actions.append(action)
        try:
            result = getattr(self, f"_{action}")(form)
        except Refusal as refusal:
            error = {"Type": "Sender", "Code": "ValidationError", "Message": str(refusal)}
            return 400, "text/xml", f"<ErrorResponse><Error>{xml(error)}</Error></ErrorResponse>"
        answer = f"<{action}Response><{action}Result>{xml(result)}</{action}Result></{action}Response>"
        return 200, "text/xml", answer

    def stack(self, form):
        name = name_of(form["StackName"])
        if name not in self.stacks:
            raise Refusal(f"Stack with id {name} does not exist")
        return self.stacks[name]

    # -- STS ------------------------------------------------------------------------------------

    def _GetCallerIdentity(self, _):
        return {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/test"}

    # -- CloudFormation -------------------------------------------------------------------------

    def _DescribeStacks(self, form):
        if "StackName" in form:
            found = {name_of(form["StackName"]): self.stack(form)}
        else:
            found = {n: s for n, s in self.stacks.items() if s.status != "DELETE_COMPLETE"}
        shown = []
        for name, stack in found.items():
            if stack.course:
                stack.status, events = stack.course.pop(0)
                stack.events = events[::-1] + stack.events
            if stack.status == "DELETE_COMPLETE" and not form["StackName"].startswith("arn:"):
                raise Refusal(f"Stack with id {name} does not exist")
            shown.append({
                "StackName": name,
                "StackId": stack_id(name),
                "StackStatus": stack.status,
                "EnableTerminationProtection": stack.protected,
                "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in stack.parameters.items()],
                "Tags": [{"Key": k, "Value": v} for k, v in stack.tags.items()],
                "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in stack.outputs.items()],
                "CreationTime": "2026-01-01T00:00:00Z",
            })  # fmt: skip
        return {"Stacks": shown}

    def _DescribeStackResource(self, form):
        stack, name = self.stack(form), form["LogicalResourceId"]
        if name not in stack.resources:
            raise Refusal(f"Resource {name} does not exist for stack {form['StackName']}")
        return {"StackResourceDetail": {
            "LogicalResourceId": name,
            "PhysicalResourceId": stack.resources[name],
            "ResourceType": "AWS::Test::Type",
            "LastUpdatedTimestamp": "2026-01-01T00:00:00Z",
            "ResourceStatus": "CREATE_COMPLETE",
        }}  # fmt: skip

    def _GetTemplateSummary(self, form):
        parameters = yaml.load(form["TemplateBody"], Template)["Parameters"]
        return {"Parameters": [
            {"ParameterKey": name, "DefaultValue": one.get("Default"), "ParameterType": one["Type"]}
            for name, one in parameters.items()
        ]}  # fmt: skip

    def _CreateChangeSet(self, form):
        if self.refusal:
            raise Refusal(self.refusal)
        if len(form["TemplateBody"].encode()) > TEMPLATE_BYTES:
            raise Refusal(
                "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
                f"Member must have length less than or equal to {TEMPLATE_BYTES}"
            )
        name = form["StackName"]
        self.stacks.setdefault(name, Stack("REVIEW_IN_PROGRESS", environment=None))
        self.change_sets.append({
            "stack": name,
            "type": form["ChangeSetType"],
            "on failure": form.get("OnStackFailure"),
            "parameters": pairs(form, "Parameters", "ParameterKey", "ParameterValue"),
            "tags": pairs(form, "Tags", "Key", "Value"),
        })  # fmt: skip
        return {"Id": f"{CHANGE_SET}/{name}", "StackId": stack_id(name)}

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
        if not changes:
            return {"Status": "FAILED", "StatusReason": "The submitted information didn't contain changes."}
        return {"Status": "CREATE_COMPLETE", "Changes": changes}

    def _DeleteChangeSet(self, _):
        return {}

    def _ExecuteChangeSet(self, form):
        stack = self.stacks[form["ChangeSetName"].split("/")[-1]]
        stack.course = list(self.after_execute) or [("UPDATE_COMPLETE", [("UPDATE_COMPLETE", "kv", "")])]
        stack.parameters |= self.change_sets[-1]["parameters"]
        stack.tags = self.change_sets[-1]["tags"]
        return {}

    def _UpdateTerminationProtection(self, form):
        self.stack(form).protected = form["EnableTerminationProtection"] == "true"
        return {"StackId": stack_id(form["StackName"])}

    def _DeleteStack(self, form):
        self.deleted.append(name_of(form["StackName"]))
        self.stack(form).course = list(self.after_delete) or [("DELETE_COMPLETE", [])]
        return {}

    def _DescribeStackEvents(self, form):
        events = self.stack(form).events
        return {"StackEvents": [
            {
                "StackId": stack_id(name_of(form["StackName"])),
                "StackName": "kv",
                "EventId": f"event-{len(events) - place}",
                "Timestamp": "2026-01-01T00:00:00Z",
                "ResourceStatus": status,
                "LogicalResourceId": name,
                "ResourceType": "AWS::Test::Type",
                "ResourceStatusReason": reason or None,
            }
            for place, (status, name, reason) in enumerate(events)
        ]}  # fmt: skip

    # -- EC2 ------------------------------------------------------------------------------------

    def _DescribeAvailabilityZones(self, _):
        raise Refusal("this user may not ask")

    # -- Load balancer --------------------------------------------------------------------------

    def _DescribeLoadBalancerAttributes(self, _):
        value = str(self.balancer_protected).lower()
        return {"Attributes": [{"Key": "deletion_protection.enabled", "Value": value}]}

    def _ModifyLoadBalancerAttributes(self, form):
        with contextlib.suppress(KeyError):
            value = pairs(form, "Attributes", "Key", "Value")["deletion_protection.enabled"]
            self.balancer_protected = value == "true"
        return {"Attributes": []}

    # -- ECS and its logs -----------------------------------------------------------------------

    def _ListTasks(self, request):
        assert request["desiredStatus"] == "STOPPED", request
        return {"taskArns": [task["taskArn"] for task in self.stopped_tasks]}

    def _DescribeTasks(self, request):
        return {"tasks": [task for task in self.stopped_tasks if task["taskArn"] in request["tasks"]]}

    def _DescribeServices(self, _):
        return {"services": [{"desiredCount": 4}]}

    def _GetLogEvents(self, request):
        lines = self.logs.get(request["logStreamName"], [])
        return {"events": [{"message": line} for line in lines]}
