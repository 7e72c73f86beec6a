"""The Terraform module: its syntax, what the AWS provider takes, and that it says what the templates say.

Terraform and OpenTofu are in no registry of packages, so nobody plans here. The schema is the
provider's own (terraform_schema.py), the parser that of checkov.
"""

import itertools
import json
import re

import hcl2
import pytest
from conftest import ROOT, SERVICE, run, template, tool
from resolve import Resolved

MODULE = ROOT / "deploy/terraform"
FILES = sorted(MODULE.glob("*.tf"))
SCHEMA = json.loads((ROOT / "tests/deploy/terraform-schema.json").read_text())
# What Terraform itself takes in a resource, beside what the provider does.
META = {"depends_on", "for_each", "count", "provider"}
META_BLOCKS = {"lifecycle"}


class Block:
    """A block of HCL: its kind and labels, the text of each argument, and the blocks in it."""

    def __init__(self, kind, labels):
        self.kind, self.labels, self.arguments, self.blocks = kind, labels, {}, []

    def __repr__(self):
        return " ".join([self.kind, *self.labels])


def scan(text):
    """The blocks of a file, by the shape that `terraform fmt` gives it."""
    top = Block("file", [])
    open_blocks, lines = [top], iter(text.splitlines())
    for line in lines:
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if match := re.fullmatch(r'(\w+)((?: "\w+")*) \{(\}?)', word):
            block = Block(match[1], re.findall(r'"(\w+)"', match[2]))
            open_blocks[-1].blocks.append(block)
            if not match[3]:
                open_blocks.append(block)
        elif word == "}":
            open_blocks.pop()
        else:
            match = re.fullmatch(r"(\w+) += (.*)", word)
            assert match, f"neither a block nor an argument: {line}"
            name, value = match.groups()
            # To the end of what it opens; no string here holds half a bracket.
            while sum(map(value.count, "([{")) > sum(map(value.count, ")]}")):
                value += "\n" + next(lines)
            open_blocks[-1].arguments[name] = value
    assert open_blocks == [top]
    return top.blocks


BLOCKS = [block for path in FILES for block in scan(path.read_text())]
TEXT = "\n".join(path.read_text() for path in FILES)


def of(kind):
    return [block for block in BLOCKS if block.kind == kind]


def problems(block, schema, where):
    """What of a block the provider would refuse."""
    seen = set(block.arguments)
    for inner in block.blocks:
        name, content = inner.kind, inner
        if inner.kind == "dynamic":
            name, (content,) = inner.labels[0], inner.blocks
            if set(inner.arguments) - {"for_each", "iterator", "labels"} or content.kind != "content":
                yield f"{where}: dynamic {name} is not one"
        if where.count("/") == 0 and name in META_BLOCKS:
            continue
        seen.add(name)
        if name not in schema["blocks"]:
            yield f"{where}: no block {name}"
        else:
            yield from problems(content, schema["blocks"][name], f"{where}/{name}")
    known = set(schema["arguments"]) | (META if where.count("/") == 0 else set())
    for name in set(block.arguments) - known:
        yield f"{where}: no argument {name}" + (", it is a block" if name in schema["blocks"] else "")
    needed = [name for name, must in schema["arguments"].items() if must]
    needed += [name for name, one in schema["blocks"].items() if one["required"]]
    yield from (f"{where}: no {name}" for name in set(needed) - seen)


def refused(blocks):
    found = []
    for block in blocks:
        kind = f"{block.kind} {block.labels[0]}"
        found += problems(block, SCHEMA[kind], repr(block)) if kind in SCHEMA else [f"no kind {kind}"]
    return found


def test_the_provider_takes_every_argument_and_misses_none(report):
    blocks = of("resource") + of("data")
    assert len(blocks) > 20 and refused(blocks) == []
    report(f"terraform: {len(blocks)} resources and data sources fit the schema of the AWS provider 6.25")


@pytest.mark.parametrize(("before", "after", "why"), [
    ("  launch_type ", "  launch_typ ", "no argument launch_typ"),
    ("  alarms {\n    alarm_names", "  alarms {\n    alarm_name", "no alarm_names"),
    ("  network_configuration {", "  network_config {", "no block network_config"),
    ("  family                   = var.name\n", "", "no family"),
    ("    values = [var.host]", "    value = [var.host]", "no argument value"),
    ('resource "aws_lb_target_group"', 'resource "aws_lb_target_groups"', "no kind resource aws_lb_target_groups"),
])  # fmt: skip
def test_mistakes_are_seen(before, after, why):
    assert TEXT.count(before) == 1
    blocks = scan(TEXT.replace(before, after))
    assert any(why in one for one in refused([b for b in blocks if b.kind in ("resource", "data")]))


def test_every_name_is_one_and_is_used():
    code = re.sub(r"^\s*#.*$", "", TEXT, flags=re.M)
    variables = {block.labels[0] for block in of("variable")}
    assert set(re.findall(r"\bvar\.(\w+)", code)) == variables
    local = {name for block in of("locals") for name in block.arguments}
    assert set(re.findall(r"\blocal\.(\w+)", code)) == local
    made = {tuple(block.labels) for block in of("resource")}
    read = {tuple(block.labels) for block in of("data")}
    asked = re.findall(r"(?<![\w.\"])(data\.)?(aws_\w+)\.(\w+)(?:\.(\w+))?", code)
    assert len(asked) > 30
    for of_data, kind, name, attribute in asked:
        assert (kind, name) in (read if of_data else made), f"{kind}.{name}"
        exports = SCHEMA[f"{'data' if of_data else 'resource'} {kind}"]["exports"]
        assert not attribute or attribute in exports, f"{kind} has no {attribute}"
    assert {(kind, name) for of_data, kind, name, _ in asked if of_data} == read


def test_everything_is_described_and_the_readme_gives_what_must_be_given():
    for block in of("variable"):
        assert len(block.arguments["description"]) > 12 and "type" in block.arguments, block
    assert all(len(block.arguments["description"]) > 12 for block in of("output"))
    needed = {block.labels[0] for block in of("variable") if "default" not in block.arguments}
    example = re.search(r"```hcl\n(.*?)```", (MODULE / "README.md").read_text(), re.S).group(1)
    (call,) = scan(example)
    assert set(call.arguments) - {"source"} == needed


def test_it_is_formatted():
    """As `terraform fmt` does: two spaces a level, and arguments that stand together share a column."""
    for path in FILES:
        lines = path.read_text().splitlines()
        assert all(len(line) - len(line.lstrip(" ")) in range(0, 12, 2) for line in lines), path
        simple = [re.match(r"( *)(\w+) *= (?!.*[\[{(]$)", line) for line in lines]
        for together, group in itertools.groupby(zip(simple, lines, strict=True), key=lambda one: bool(one[0])):
            if together:
                columns = {(match[1], line.index("= ")) for match, line in group}
                assert len(columns) == len({indent for indent, _ in columns}), (path, columns)


def test_checkov_is_clean_and_every_file_parses(report):
    result = run(
        tool("checkov"), "--skip-download", "--compact", "--output", "json", "--framework", "terraform",
        "--directory", MODULE,
    )  # fmt: skip
    found = json.loads(result.stdout[result.stdout.index("{") :])
    results = found["results"]
    assert results["parsing_errors"] == []
    failed = [f"{c['check_id']} {c['resource']}: {c['check_name']}" for c in results["failed_checks"]]
    assert failed == [], failed
    for skipped in results["skipped_checks"]:
        assert len(skipped["check_result"]["suppress_comment"]) > 20, skipped["check_id"]
    report(f"checkov terraform: {len(results['passed_checks'])} passed, 0 failed, {len(results['skipped_checks'])} skipped with a reason")


# -- The same as cloudformation/service.yaml ------------------------------------------------------


def plain(value):
    """A value as the parser gives it, without the lists it wraps around each argument of a block."""
    if isinstance(value, dict):
        return {name.strip('"'): plain(one) for name, one in value.items() if not name.startswith("__")}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def settings(name):
    for path in FILES:
        for one in hcl2.loads(path.read_text()).get("locals", []):
            if name in one:
                (value,) = plain(one[name])
                return value
    raise AssertionError(name)


@pytest.fixture(scope="module")
def theirs():
    return Resolved(template(SERVICE), ListenerArn="arn:aws:elasticloadbalancing:eu-west-1:1:listener/app/a/b/c",
                    ListenerSecurityGroupId="sg-1", DomainName="kv.example.com")  # fmt: skip


def test_sizes_are_the_same():
    mapped = template(SERVICE)["Mappings"]["Sizes"]
    ours = settings("sizes")
    assert {name: {k: int(v) for k, v in one.items()} for name, one in ours.items()} == {
        name: {"cpu": int(one["Cpu"]), "memory": int(one["Memory"]), "store_bytes": int(one["StoreBytes"])}
        for name, one in mapped.items()
    }


def container():
    (task,) = [block for block in of("resource") if block.labels[0] == "aws_ecs_task_definition"]
    return task.arguments["container_definitions"]


def test_the_container_is_the_same(theirs):
    (node,) = theirs["TaskDefinition"]["ContainerDefinitions"]
    text = container()
    environment = dict(re.findall(r'\{ name = "(GOSSIPYKV_\w+)", value = (.+) \}', text))
    fixed = {name: value.strip('"') for name, value in environment.items() if value.startswith('"') and "$" not in value}
    wanted = {one["Name"]: one["Value"] for one in node["Environment"]}
    assert set(environment) == set(wanted)
    assert len(fixed) == 5 and fixed.items() <= wanted.items()
    assert set(re.findall(r'\{ name = "(GOSSIPYKV_\w+)", valueFrom', text)) == {one["Name"] for one in node["Secrets"]}
    ports = re.findall(r'\{ name = "([\w-]+)", containerPort = (\d+), protocol = "(\w+)" \}', text)
    assert ports == [(p["Name"], str(p["ContainerPort"]), p["Protocol"]) for p in node["PortMappings"]]
    check = node["HealthCheck"]
    for word, value in (
        ("user", f'"{node["User"]}"'), ("readonlyRootFilesystem", "true"), ("stopTimeout", node["StopTimeout"]),
        ("interval", check["Interval"]), ("timeout", check["Timeout"]), ("retries", check["Retries"]),
        ("startPeriod", check["StartPeriod"]), ("command", json.dumps(check["Command"])),
    ):  # fmt: skip
        assert re.search(rf"\b{word} += {re.escape(str(value))}\n", text), word


def test_the_service_and_the_target_group_are_the_same(theirs):
    (service,) = [block for block in of("resource") if block.labels[0] == "aws_ecs_service"]
    made, deployment = theirs["Service"], theirs["Service"]["DeploymentConfiguration"]
    assert service.arguments["health_check_grace_period_seconds"] == str(made["HealthCheckGracePeriodSeconds"])
    assert service.arguments["deployment_minimum_healthy_percent"] == str(deployment["MinimumHealthyPercent"])
    assert service.arguments["deployment_maximum_percent"] == str(deployment["MaximumPercent"])
    (group,) = [block for block in of("resource") if block.labels[0] == "aws_lb_target_group"]
    target = theirs["TargetGroup"]
    attributes = {one["Key"]: one["Value"] for one in target["TargetGroupAttributes"]}
    assert group.arguments["deregistration_delay"] == attributes["deregistration_delay.timeout_seconds"]
    (check,) = [block for block in group.blocks if block.kind == "health_check"]
    assert check.arguments == {
        "protocol": '"HTTP"', "path": f'"{target["HealthCheckPath"]}"', "matcher": '"200"',
        "interval": str(target["HealthCheckIntervalSeconds"]), "timeout": str(target["HealthCheckTimeoutSeconds"]),
        "healthy_threshold": str(target["HealthyThresholdCount"]), "unhealthy_threshold": str(target["UnhealthyThresholdCount"]),
    }  # fmt: skip


def test_metrics_and_alarms_are_the_same(theirs):
    space = "GossipyKV/kv"
    filters = {}
    for one in theirs.of_type("AWS::Logs::MetricFilter").values():
        (made,) = one["MetricTransformations"]
        filters[made["MetricName"]] = (one["FilterPattern"], made["MetricValue"])
    status = settings("status").replace('\\"', '"')
    ours = {
        name: (status if "local.status" in one["pattern"] else one["pattern"].replace('\\"', '"'), one["value"])
        for name, one in settings("metrics").items()
    }
    assert ours == filters
    wanted = {}
    for name, alarm in theirs.of_type("AWS::CloudWatch::Alarm").items():
        if "Metrics" in alarm:
            of_ours = [one["MetricStat"] for one in alarm["Metrics"] if "MetricStat" in one]
            asked = {(one["Metric"]["MetricName"], one["Stat"]) for one in of_ours if one["Metric"]["Namespace"] == space}
            expression = next(one["Expression"] for one in alarm["Metrics"] if "Expression" in one)
        else:
            asked, expression = ({(alarm["MetricName"], alarm["Statistic"])} if alarm["Namespace"] == space else set()), None
        if asked and name != "NodesBroken":
            wanted[name] = (
                asked, expression, alarm["ComparisonOperator"] == "LessThanThreshold", float(alarm["Threshold"]),
                alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"], alarm["TreatMissingData"],
            )  # fmt: skip
    made = {
        name: (
            {(part["metric"], part["stat"]) for part in one["of"].values()}, one["expression"], one["below"],
            float(one["threshold"]), one["minutes"], one["hits"], one["missing"],
        )  # fmt: skip
        for name, one in settings("alarms").items()
    }
    assert made == wanted
    said = {name: theirs.of_type("AWS::CloudWatch::Alarm")[name]["AlarmDescription"] for name in made}
    assert {name: one["about"] for name, one in settings("alarms").items()} == said
