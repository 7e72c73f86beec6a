"""`make diff`, `make deploy` and `make destroy` through the real aws CLI, against moto on loopback.

What moto does not answer (values of properties, failures with a rollback) is played by
cloudformation_double.py.
"""

import os
import re
import shutil

import pytest
from cloudformation_double import Stack
from conftest import NETWORK, ROOT, SERVICE, run, tool
from making import change_sets, make, stacks, value_of


def test_create_then_nothing_then_change_then_destroy(aws, tmp_path, report):
    shown = make("diff", aws)
    assert shown.returncode == 0, shown.stdout
    assert "kv-network:\n  a new stack\n" in shown.stdout
    assert "+ Add Vpc (AWS::EC2::VPC)" in shown.stdout
    assert stacks(aws) == {}, "diff leaves nothing behind"

    shown = make("deploy", aws)
    assert shown.returncode == 0, shown.stdout
    assert "+ Add Image (AWS::SSM::Parameter)" in shown.stdout
    assert re.search(r"\d\d:\d\d:\d\d  CREATE_COMPLETE +", shown.stdout), "progress is shown"
    assert shown.stdout.endswith("API: http://api.test\n")
    assert stacks(aws) == {"kv-network": "CREATE_COMPLETE", "kv": "CREATE_COMPLETE"}
    assert value_of(aws, "/kv/image") == "registry.test/gossipykv:1"
    report("make deploy of new stacks: exit 0, prints the URL")

    for target in ("diff", "deploy"):
        shown = make(target, aws)
        assert shown.returncode == 0, shown.stdout
        assert shown.stdout.count("  no changes\n") == 2, shown.stdout
    report("make diff and make deploy without changes: exit 0, 'no changes' twice")

    # moto sees changes of the template, not of parameters.
    template = tmp_path / "service.yaml"
    template.write_text(template.read_text().replace("Value: !Ref ImageUri", "Value: other"))
    before = change_sets(aws, "kv")
    shown = make("diff", aws)
    assert shown.returncode == 0, shown.stdout
    assert "kv-network:\n  no changes\nkv:\n  ~ Modify Image (AWS::SSM::Parameter)\n" in shown.stdout
    assert change_sets(aws, "kv") == before, "diff leaves nothing behind"
    assert value_of(aws, "/kv/image") == "registry.test/gossipykv:1"
    report("make diff of a changed template: exit 0, the resource is named, nothing is changed")
    shown = make("deploy", aws)
    assert shown.returncode == 0, shown.stdout
    assert "UPDATE_COMPLETE" in shown.stdout
    assert value_of(aws, "/kv/image") == "other"
    report("make deploy of a changed template: exit 0, the resource is changed")

    shown = make("destroy", aws, IMAGE_URI=None)
    assert shown.returncode != 0 and "YES=1" in shown.stdout
    assert "kv" in stacks(aws), "nothing is deleted without being asked"
    shown = make("destroy", aws, YES="1")
    assert shown.returncode == 0, shown.stdout
    assert stacks(aws) == {}
    shown = make("destroy", aws, YES="1")
    assert shown.returncode == 0 and shown.stdout.count("is not there") == 2
    report("make destroy: exit 0, both stacks gone; again: exit 0")


def ec2(env, *command):
    shown = run(tool("aws"), "ec2", *command, "--output", "text", env=env, check=True)
    return shown.stdout.strip()


def test_an_existing_vpc_needs_no_network_stack(aws, report):
    """With the addresses that its subnets have: first IPv4 alone, then both kinds."""
    vpc = ec2(aws, "create-vpc", "--cidr-block", "10.1.0.0/16", "--amazon-provided-ipv6-cidr-block",
              "--query", "Vpc.VpcId")  # fmt: skip
    block = ec2(aws, "describe-vpcs", "--vpc-ids", vpc, "--query", "Vpcs[0].Ipv6CidrBlockAssociationSet[0].Ipv6CidrBlock")
    subnets = [ec2(aws, "create-subnet", "--vpc-id", vpc, "--cidr-block", f"10.1.{n}.0/24", "--query", "Subnet.SubnetId",
                   *(["--ipv6-cidr-block", block.replace("00::/56", f"0{n}::/64")] if n > 1 else []))
               for n in range(4)]  # fmt: skip
    shown = make("deploy", aws, VPC_ID=vpc, PUBLIC_SUBNET_IDS=",".join(subnets[:2]))
    assert shown.returncode != 0 and "PRIVATE_SUBNET_IDS" in shown.stdout
    for stack, public, kind in (("kv", subnets[:2], "ipv4"), ("kv6", subnets[2:], None)):
        network = {"VPC_ID": vpc, "PUBLIC_SUBNET_IDS": ",".join(public), "PRIVATE_SUBNET_IDS": ",".join(subnets[:2])}
        shown = make("deploy", aws, STACK=stack, **network)
        assert shown.returncode == 0, shown.stdout
        assert f"{stack}-network" not in stacks(aws)
        given = run(tool("aws"), "cloudformation", "describe-stacks", "--stack-name", stack, "--output", "text", "--query",
                    "Stacks[0].Parameters[?ParameterKey=='IpAddressType'].ParameterValue", env=aws, check=True)  # fmt: skip
        assert given.stdout.strip() == (kind or "dualstack"), stack
    shown = make("deploy", aws, STACK="none", VPC_ID=vpc, PUBLIC_SUBNET_IDS="subnet-1", PRIVATE_SUBNET_IDS="subnet-2")
    assert shown.returncode != 0 and "subnet-1' does not exist" in shown.stdout and "none" not in stacks(aws), shown.stdout
    report("make deploy in a VPC with IPv4 alone: the load balancer is ipv4; with both: dualstack")


def test_a_region_with_two_zones_gets_two(aws, report):
    env = aws | {"AWS_REGION": "us-west-1", "AWS_DEFAULT_REGION": "us-west-1"}
    assert ec2(env, "describe-availability-zones", "--query", "length(AvailabilityZones)") == "2"
    shown = make("deploy", env)
    assert shown.returncode == 0, shown.stdout
    given = run(tool("aws"), "cloudformation", "describe-stacks", "--stack-name", "kv-network", "--output", "text", "--query",
                "Stacks[0].Parameters[?ParameterKey=='ZoneCount'].ParameterValue", env=env, check=True)  # fmt: skip
    assert given.stdout.strip() == "2"
    report("make deploy in a region with two zones: ZoneCount=2")


def test_plain_http_on_public_addresses_must_be_wanted(aws, report):
    shown = make("deploy", aws, SET=None)
    assert shown.returncode == 2 and "AllowPlainHttp=true" in shown.stdout, shown.stdout
    assert stacks(aws) == {}, "neither network nor image is made before"
    for said in ("Scheme=internal", "CertificateArn=arn:aws:acm:eu-west-1:123456789012:certificate/1",
                 "HostedZoneId=Z0123456789 DomainName=kv.example.com"):  # fmt: skip
        shown = make("diff", aws, SET=said)
        assert shown.returncode == 0, shown.stdout
    shown = make("deploy", aws, SET="AllowPlainHttp=true IpStack=ipv6")
    assert shown.returncode == 0, "SET goes to every template that has the parameter"
    report("make deploy without a certificate: exit 2, unless internal or AllowPlainHttp=true")


def test_what_is_missing_is_named(aws, tmp_path, report):
    keys = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    for target in ("diff", "deploy", "backup", "destroy"):
        shown = make(target, aws, **keys)
        assert shown.returncode == 2 and "no AWS credentials" in shown.stdout, shown.stdout
        shown = make(target, aws, AWS_REGION=None, AWS_DEFAULT_REGION=None)
        assert shown.returncode == 2 and "no AWS region" in shown.stdout, shown.stdout
        shown = make(target, aws, ENVIRONMENT="nowhere")
        assert shown.returncode == 2 and "ENVIRONMENT=nowhere" in shown.stdout, shown.stdout
    report("make diff, deploy, destroy without credentials: exit 2, 'no AWS credentials: ...'")



def test_every_target_names_the_program_it_misses(aws, tmp_path, report):
    """A PATH with make's and the scripts' own tools, and nothing that a target is there to run."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh", "bash", "dirname", "mkdir", "mktemp", "rm", "sed", "git", "date", "env",
                 "head", "printf", "grep", "tail", "cut", "awk", "expand", "id", "find", "sort", "sha256sum"):  # fmt: skip
        (tools / name).symlink_to(shutil.which(name))
    expected = {
        "clean": "cargo is missing: ",
        "test": "cargo is missing: ",
        "image": "no container engine: ",
        "push": "aws is missing: ",
        "lint": "tests/deploy/run: lint: no apt-get here to install ",
        "diff": "aws is missing: ",
        "deploy": "aws is missing: ",
        "backup": "aws is missing: ",
        "destroy": "aws is missing: ",
    }
    for target, line in expected.items():
        for image in ("registry.test/gossipykv:1", None):
            shown = make(target, aws, PATH=str(tools), IMAGE_URI=image)
            first, *rest = shown.stdout.splitlines()
            assert shown.returncode == 2 and first.startswith(line), shown.stdout
            assert all(other.startswith("make: ***") for other in rest), "one line says it"
    report(f"{len(expected)} make targets without the programs they run: each names what is missing")


def test_checks_that_cannot_run_are_left_out_but_not_in_ci(tmp_path, report):
    """Without root and without Debian's packages: one line, and 77; with CI=true a failure, but for
    an engine of containers, which not every machine can run."""
    for name, does in (("id", "echo 1000"), ("dpkg-query", "exit 1"), ("apt-get", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    entry = ROOT / "tests/deploy/run"
    engine = "this machine runs no engine of containers: "
    for part, why, in_ci in (("lint", "", 1), ("scripts", "", 1), ("containers", engine, 77)):
        for ci, code in (("", 77), ("true", in_ci)):
            shown = run(entry, part, env={"PATH": path, "CI": ci})
            assert shown.returncode == code, shown.stdout
            assert shown.stdout.startswith(f"tests/deploy/run: {part}: {why}only root can "), shown.stdout
            assert shown.stdout.count("\n") == 1, shown.stdout
    shown = run(entry, "lint", "scripts", env={"PATH": path, "CI": ""})
    assert shown.returncode == 77 and shown.stdout.count("only root can install") == 2, "each is tried"
    report("tests/deploy/run without root: one line, left out (77); with CI=true lint and scripts fail")


def test_properties_before_and_after(double, tmp_path, report):
    env = double.environment | {
        "VPC_ID": "vpc-1", "PUBLIC_SUBNET_IDS": "subnet-1", "PRIVATE_SUBNET_IDS": "subnet-2",
    }  # fmt: skip
    double.stack_status = "UPDATE_COMPLETE"
    double.changes = [
        ("Modify", "Service", "AWS::ECS::Service", "False",
         [("/Properties/HealthCheckGracePeriodSeconds", "60", "90", "Never")]),
        ("Modify", "Namespace", "AWS::ServiceDiscovery::PrivateDnsNamespace", "True",
         [("/Properties/Name", "a.internal", "b.internal", "Always"),
          ("/Properties/Description", None, "x & y", "Never")]),
        ("Modify", "TaskDefinition", "AWS::ECS::TaskDefinition", "True",
         [("/Properties/ContainerDefinitions/0/Image", "kv:1", "kv:2", "Always")]),
        ("Remove", "CpuHigh", "AWS::CloudWatch::Alarm", "False", []),
    ]  # fmt: skip
    shown = make("diff", env)
    assert shown.returncode == 0, shown.stdout
    assert shown.stdout == (
        "kv:\n"
        "  ~ Modify Service (AWS::ECS::Service)\n"
        "      HealthCheckGracePeriodSeconds: 60 -> 90\n"
        "  ! Modify Namespace (AWS::ServiceDiscovery::PrivateDnsNamespace) REPLACED\n"
        "      Description: (absent) -> x & y\n"
        "      Name: a.internal -> b.internal  [forces replacement]\n"
        "  ~ Modify TaskDefinition (AWS::ECS::TaskDefinition) new revision\n"
        "      ContainerDefinitions/0/Image: kv:1 -> kv:2  [forces replacement]\n"
        "  - Remove CpuHigh (AWS::CloudWatch::Alarm)\n"
        "  replaced, with what they hold and their addresses: Namespace\n"
        "  make deploy asks before it takes away:\n"
        "    Namespace (AWS::ServiceDiscovery::PrivateDnsNamespace) REPLACED\n"
        "  all keys are lost: tasks that are started then find none that runs; take a backup first "
        "(make backup)\n"
    )
    assert double.actions.count("DeleteChangeSet") == 1 and "ExecuteChangeSet" not in double.actions
    report("make diff of changed properties: exit 0, before and after, replacements marked")


def test_a_deployment_that_fails_is_undone_and_told(double, report):
    env = double.environment | {
        "VPC_ID": "vpc-1", "PUBLIC_SUBNET_IDS": "subnet-1", "PRIVATE_SUBNET_IDS": "subnet-2",
    }  # fmt: skip
    double.stack_status = "UPDATE_COMPLETE"
    double.changes = [("Modify", "Service", "AWS::ECS::Service", "False", [])]
    double.after_execute = [
        ("UPDATE_IN_PROGRESS", [("UPDATE_IN_PROGRESS", "kv", "")]),
        ("UPDATE_ROLLBACK_IN_PROGRESS",
         [("UPDATE_FAILED", "Service", "ECS Deployment Circuit Breaker was triggered"),
          ("UPDATE_ROLLBACK_IN_PROGRESS", "kv", "The following resource(s) failed to update")]),
        ("UPDATE_ROLLBACK_COMPLETE", [("UPDATE_ROLLBACK_COMPLETE", "kv", "")]),
    ]  # fmt: skip
    shown = make("deploy", env)
    assert shown.returncode != 0
    assert "first cause:\n    Service (AWS::Test::Type): ECS Deployment Circuit Breaker" in shown.stdout
    assert "deployment failed (UPDATE_ROLLBACK_COMPLETE)" in shown.stdout
    order = [shown.stdout.index(word) for word in ("UPDATE_FAILED", "UPDATE_ROLLBACK_COMPLETE   ")]
    assert order == sorted(order), "events come in their order"
    report(f"make deploy that fails: exit {shown.returncode}, the first cause, rolled back")


def test_a_template_that_aws_refuses(double, report):
    env = double.environment | {
        "VPC_ID": "vpc-1", "PUBLIC_SUBNET_IDS": "subnet-1", "PRIVATE_SUBNET_IDS": "subnet-2",
    }  # fmt: skip
    double.refusal = "Parameters: [ImageUri] must have values"
    for target in ("diff", "deploy"):
        shown = make(target, env)
        assert shown.returncode != 0
        assert "stack kv: An error occurred (ValidationError)" in shown.stdout, shown.stdout
        assert double.refusal in shown.stdout
    assert "ExecuteChangeSet" not in double.actions
    report(f"make diff and deploy of a template AWS refuses: exit {shown.returncode}, AWS's words")


def longer(folder, path, to):
    """A copy of a template that is sent with so many bytes."""
    text = path.read_text() + "  Filler:\n    Value: >-\n"
    (folder / path.name).write_text(f"{text}# A comment is not sent. {'x' * 60_000}\n")
    compact = '. "$(dirname -- "$0")/lib.sh"; . "$(dirname -- "$0")/change.sh"; compact "$1"'
    sent = run("sh", "-c", compact, ROOT / "deploy/test.sh", folder / path.name, check=True).stdout
    # Three spaces before, and a line's end behind.
    with (folder / path.name).open("a") as file:
        file.write(f"      {'x' * (to - len(sent.encode()) - 4)}\n")
    return str(folder / path.name)


def test_a_template_that_is_too_long_stops_before_anything_is_made(double, tmp_path, report):
    double.stacks = {}
    double.changes = [("Add", "Vpc", "AWS::EC2::VPC", "", [])]
    double.after_execute = [("CREATE_COMPLETE", [("CREATE_COMPLETE", "kv", "")])]
    for path in (SERVICE, NETWORK):
        variable = f"{path.stem.upper()}_TEMPLATE"
        for target in ("diff", "deploy"):
            shown = make(target, double.environment, **{variable: longer(tmp_path, path, 51_201)})
            assert shown.returncode == 2, shown.stdout
            words = f"{path.name} has 51201 bytes as it is sent, without comments, and AWS takes 51200"
            assert words in shown.stdout, shown.stdout
    assert double.stacks == {} and "CreateChangeSet" not in double.actions
    double.stacks = {"kv": Stack(parameters={"VpcId": "v", "PublicSubnetIds": "a", "PrivateSubnetIds": "b"})}
    double.after_execute = []
    shown = make("deploy", double.environment, SERVICE_TEMPLATE=longer(tmp_path, SERVICE, 51_200))
    assert shown.returncode == 0, shown.stdout
    report("make diff and deploy of a template of 51,201 bytes: exit 2, both sizes named, nothing is made; of 51,200: done")


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"])
def test_a_stack_that_cannot_be_changed_now(double, status):
    env = double.environment | {
        "VPC_ID": "vpc-1", "PUBLIC_SUBNET_IDS": "subnet-1", "PRIVATE_SUBNET_IDS": "subnet-2",
    }  # fmt: skip
    double.stack_status = status
    for target in ("diff", "deploy"):
        shown = make(target, env)
        assert shown.returncode != 0 and f"stack kv is {status}" in shown.stdout, shown.stdout
    assert "CreateChangeSet" not in double.actions


def test_the_plain_builder_is_not_asked_for_another_machine(tmp_path, report):
    """It would make an image that says the wrong thing of itself."""
    log, docker, buildah = (tmp_path / name for name in ("log", "docker", "buildah"))
    docker.write_text(f'#!/bin/sh\n[ "$1/$DOCKER_BUILDKIT" != build/1 ] || exit 1\necho "$@" >>{log}\n')
    buildah.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    here, other = ("arm64", "amd64") if os.uname().machine == "aarch64" else ("amd64", "arm64")

    def image(engine, arch):
        engine.chmod(0o755)
        log.write_text("")
        shown = run("make", "--no-print-directory", "-C", ROOT, "image", env={"ENGINE": str(engine), "ARCH": arch})
        return shown, next((call for call in log.read_text().splitlines() if call.startswith("build ")), "")

    shown, call = image(docker, other)
    assert shown.returncode == 2 and f"docker needs BuildKit to build for {other} here" in shown.stdout, shown.stdout
    assert call == ""
    shown, call = image(docker, here)
    assert shown.returncode == 0 and "--platform" not in call and f"TARGETARCH={here}" in call, shown.stdout
    shown, call = image(buildah, other)
    assert shown.returncode == 0 and f"--platform linux/{other}" in call and "--format docker" in call, shown.stdout
    report("make image for another machine: by BuildKit or buildah; the plain builder is refused")
