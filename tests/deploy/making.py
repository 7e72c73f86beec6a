"""`make diff`, `deploy` and `destroy` as the tests run them: environment, stand-in templates, looks.

moto knows neither Cloud Map nor autoscaling, so the stacks are small stand-ins that take the real
templates' parameters and have their outputs.
"""

import contextlib
import os
import pty
import re

from conftest import NETWORK, ROOT, SERVICE, TOOLS, run, tool

NETWORK_RESOURCES = """
Resources:
  Vpc:
    Type: AWS::EC2::VPC
    Properties: { CidrBlock: !Ref VpcCidr }
  Subnet:
    Type: AWS::EC2::Subnet
    Properties: { VpcId: !Ref Vpc, CidrBlock: 10.42.0.0/24 }
Outputs:
  VpcId: { Value: !Ref Vpc }
  PublicSubnetIds: { Value: !Ref Subnet }
  PrivateSubnetIds: { Value: !Ref Subnet }
"""
SERVICE_RESOURCES = """
Resources:
  Image:
    Type: AWS::SSM::Parameter
    Properties: { Type: String, Name: !Sub "/${AWS::StackName}/image", Value: !Ref ImageUri }
  Count:
    Type: AWS::SSM::Parameter
    Properties: { Type: String, Name: !Sub "/${AWS::StackName}/count", Value: !Ref DesiredCount }
Outputs:
  ApiUrl: { Value: http://api.test }
"""


def parameters_of(path):
    """The text of a template's Parameters section."""
    return re.search(r"^Parameters:\n(?:[ #].*\n|\n)*", path.read_text(), re.M).group()


def environment(url, quick_aws):
    return {
        "PATH": f"{quick_aws}:{TOOLS / 'venv/bin'}:{os.environ['PATH']}",
        "HOME": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "POLL_SECONDS": "0.2",
        "STACK": "kv",
        "IMAGE_URI": "registry.test/gossipykv:1",
        "SET": "AllowPlainHttp=true",
    }


def stand_ins(folder):
    """Writes the stand-in templates; what of the environment points at them."""
    for name, path, resources in (
        ("network", NETWORK, NETWORK_RESOURCES),
        ("service", SERVICE, SERVICE_RESOURCES),
    ):
        (folder / f"{name}.yaml").write_text(parameters_of(path) + resources)
    return {
        "NETWORK_TEMPLATE": str(folder / "network.yaml"),
        "SERVICE_TEMPLATE": str(folder / "service.yaml"),
    }


def make(target, env, **changes):
    env = {name: value for name, value in {**env, **changes}.items() if value is not None}
    stdin = env.pop("stdin", None)
    command = ["env", "-i", *(f"{name}={value}" for name, value in env.items())]
    rest = {"stdin": stdin} if stdin is not None else {}
    return run(*command, "make", "--no-print-directory", "-C", ROOT, target, **rest)


@contextlib.contextmanager
def terminal(words):
    """A terminal on which somebody types these words."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{words}\n".encode())
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)


def stacks(env):
    shown = run(
        tool("aws"), "cloudformation", "list-stacks", "--output", "text",
        "--query", "StackSummaries[?StackStatus!='DELETE_COMPLETE'].[StackName, StackStatus]",
        env=env, check=True,
    )  # fmt: skip
    return dict(line.split("\t") for line in shown.stdout.splitlines())


def change_sets(env, stack):
    shown = run(
        tool("aws"), "cloudformation", "list-change-sets", "--stack-name", stack,
        "--output", "text", "--query", "Summaries[].ChangeSetName", env=env, check=True,
    )  # fmt: skip
    return shown.stdout.split()


def value_of(env, name):
    shown = run(
        tool("aws"), "ssm", "get-parameter", "--name", name, "--output", "text",
        "--query", "Parameter.Value", env=env, check=True,
    )  # fmt: skip
    return shown.stdout.strip()
