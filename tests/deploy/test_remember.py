"""What `make deploy` takes from a stack that exists, and what it does not do without being asked."""

import re

import pytest
from cloudformation_double import Stack
from making import make, terminal

PRODUCTION = {
    "VpcId": "vpc-9", "PublicSubnetIds": "subnet-1,subnet-2", "PrivateSubnetIds": "subnet-3,subnet-4",
    "ImageUri": "registry.test/gossipykv:2", "CertificateArn": "arn:aws:acm:eu-west-1:123456789012:certificate/1",
    "TaskSize": "xlarge", "NamespaceName": "gossipykv.internal", "AlarmTopicArn": "arn:aws:sns:eu-west-1:123456789012:t",
    "DeletionProtection": "true", "DesiredCount": "3", "OldParameter": "gone from the template",
}  # fmt: skip
OUTPUTS = {"ClusterName": "c", "ServiceName": "s"}


@pytest.fixture
def production(double):
    double.stacks = {"kv": Stack(
        environment="production", parameters=dict(PRODUCTION), outputs=OUTPUTS,
        tags={"environment": "production", "owner": "payments", "aws:servicecatalog:x": "not ours to give"},
    )}  # fmt: skip
    double.changes = [("Modify", "TaskDefinition", "AWS::ECS::TaskDefinition", "True", [])]
    return double


def test_the_way_back_changes_the_image_alone(production, report):
    """The runbook's `make deploy IMAGE_URI=<the one before>`, without anything else said."""
    shown = make("deploy", production.environment, IMAGE_URI="registry.test/gossipykv:1")
    assert shown.returncode == 0, shown.stdout
    (made,) = production.change_sets
    assert made["stack"] == "kv" and made["type"] == "UPDATE", "no network stack is made"
    given = made["parameters"]
    assert given["ImageUri"] == "registry.test/gossipykv:1"
    assert given["DesiredCount"] == "4", "what autoscaling has made of it"
    # The file of the stack's own environment is read too, and its lines count.
    kept = {"VpcId", "PublicSubnetIds", "PrivateSubnetIds", "CertificateArn", "NamespaceName", "AlarmTopicArn"}
    assert {key: given[key] for key in kept} == {key: PRODUCTION[key] for key in kept}
    assert given["TaskSize"] == "medium" and given["DeletionProtection"] == "true", "lines of production/service.params"
    assert "OldParameter" not in given, "the template has it no more"
    assert made["tags"] == {"owner": "payments", "environment": "production", "application": "gossipykv"}
    report("make deploy IMAGE_URI=..: VPC, subnets, certificate, namespace, environment and tags as they were")


def test_what_is_said_counts_more_than_what_is_remembered(production):
    shown = make("deploy", production.environment, SET="TaskSize=large CpuTargetPercent=70", TAGS="owner=search team=a")
    assert shown.returncode == 0, shown.stdout
    (made,) = production.change_sets
    assert made["parameters"]["TaskSize"] == "large" and made["parameters"]["CpuTargetPercent"] == "70"
    assert made["tags"]["owner"] == "search" and made["tags"]["team"] == "a"
    for wrong, why in (("TaskSise=large", "there is no parameter TaskSise of network or service"), ("large", "takes Key=Value")):
        shown = make("deploy", production.environment, SET=wrong)
        assert shown.returncode == 2 and why in shown.stdout, shown.stdout
    assert len(production.change_sets) == 1


def test_its_own_network_is_known_again(production):
    production.stacks["kv-network"] = Stack(environment="production", outputs={
        "VpcId": "vpc-9", "PublicSubnetIds": "subnet-1,subnet-2", "PrivateSubnetIds": "subnet-3,subnet-4",
    })  # fmt: skip
    production.changes = []
    shown = make("deploy", production.environment)
    assert shown.returncode == 0, shown.stdout
    assert [made["stack"] for made in production.change_sets] == ["kv-network", "kv"]
    # Another stack of that name with another VPC is not the service's network.
    production.stacks["kv-network"].outputs["VpcId"] = "vpc-1"
    production.change_sets.clear()
    assert make("deploy", production.environment).returncode == 0
    (made,) = production.change_sets
    assert made["stack"] == "kv" and made["parameters"]["VpcId"] == "vpc-9"


def test_another_environment_is_refused(production, report):
    for target in ("diff", "deploy", "destroy"):
        shown = make(target, production.environment, ENVIRONMENT="default", YES="1")
        assert shown.returncode == 2, shown.stdout
        assert "stack kv is of environment production, not default" in shown.stdout, shown.stdout
    production.stacks["kv"].tags = {}
    for target in ("diff", "deploy"):
        shown = make(target, production.environment)
        assert shown.returncode == 2 and "does not say its environment" in shown.stdout, shown.stdout
    assert {"CreateChangeSet", "DeleteStack"}.isdisjoint(production.actions)
    assert make("deploy", production.environment, ENVIRONMENT="production").returncode == 0
    assert production.stacks["kv"].tags["environment"] == "production", "it is remembered from then on"
    report("make diff, deploy, destroy of a stack of another environment: exit 2, nothing done")


def test_the_default_name_carries_the_environment(double):
    double.stacks = {}
    double.changes = [("Add", "Vpc", "AWS::EC2::VPC", "", [])]
    for name, expected in (("production", "gossipykv-production"), (None, "gossipykv")):
        shown = make("diff", double.environment, STACK=None, ENVIRONMENT=name)
        assert shown.returncode == 0 and f"{expected}-network:\n  a new stack" in shown.stdout, shown.stdout


def test_a_folder_that_is_not_here_leaves_the_stack_as_it_is(production):
    production.stacks["kv"].tags["environment"] = "acme"
    shown = make("deploy", production.environment)
    assert shown.returncode == 0 and "there is no folder" in shown.stdout, shown.stdout
    (made,) = production.change_sets
    assert made["parameters"]["TaskSize"] == "xlarge" and made["tags"]["environment"] == "acme"


# What is taken away, and how the change set tells of it.
TAKEN = {
    "another namespace": ("Modify", "Namespace", "AWS::ServiceDiscovery::PrivateDnsNamespace", "True"),
    "another discovery service": ("Modify", "GossipDiscovery", "AWS::ServiceDiscovery::Service", "Conditional"),
    "another load balancer": ("Modify", "LoadBalancer", "AWS::ElasticLoadBalancingV2::LoadBalancer", "True"),
    "another target group": ("Modify", "TargetGroup", "AWS::ElasticLoadBalancingV2::TargetGroup", "True"),
    "another log": ("Modify", "LogGroup", "AWS::Logs::LogGroup", "True"),
    "another secret": ("Modify", "ApiToken", "AWS::SecretsManager::Secret", "True"),
    "no secret": ("Remove", "GossipKey", "AWS::SecretsManager::Secret", ""),
    "no listener": ("Remove", "HttpsListener", "AWS::ElasticLoadBalancingV2::Listener", ""),
    "another service": ("Modify", "Service", "AWS::ECS::Service", "True"),
}


def test_what_holds_data_or_has_an_address_is_not_taken_away_unasked(production, report):
    production.changes = [(*change, []) for change in TAKEN.values()]
    production.changes += [
        ("Remove", "CpuHigh", "AWS::CloudWatch::Alarm", "", []),
        # CloudFormation calls it a change without replacement; the key is another then.
        ("Modify", "NewKey", "AWS::SecretsManager::Secret", "False",
         [("/Properties/GenerateSecretString/PasswordLength", "32", "43", "Never")]),
        ("Modify", "Relabelled", "AWS::SecretsManager::Secret", "False", [("/Properties/Description", "a", "b", "Never")]),
    ]  # fmt: skip
    shown = make("deploy", production.environment)
    assert shown.returncode == 2, shown.stdout
    listed = shown.stdout.split("this takes away what holds data")[1]
    for what, (_, name, kind, _) in TAKEN.items():
        assert f"    {name} ({kind}) " in listed, what
    assert "    NewKey (AWS::SecretsManager::Secret) VALUE REPLACED\n" in listed
    assert "all keys are lost" in listed, shown.stdout
    assert "CpuHigh" not in listed and "Relabelled" not in listed and "REPLACE=1" in listed, shown.stdout
    assert "ExecuteChangeSet" not in production.actions and "DeleteChangeSet" in production.actions
    report(f"make deploy that would leave {', '.join(TAKEN)}: exit 2, each is named, nothing is done")


@pytest.mark.parametrize(
    ("change", "lost"),
    [(TAKEN["another namespace"], True), (TAKEN["another discovery service"], True), (TAKEN["another secret"], False),
     (TAKEN["another load balancer"], False), (("Remove", "Service", "AWS::ECS::Service", ""), True)],
)  # fmt: skip
def test_what_loses_all_keys_says_so(production, change, lost):
    production.changes = [(*change, [])]
    shown = make("diff", production.environment)
    assert shown.returncode == 0 and ("all keys are lost" in shown.stdout) == lost, shown.stdout
    shown = make("deploy", production.environment)
    assert shown.returncode == 2 and ("all keys are lost" in shown.stdout) == lost, shown.stdout


def test_a_new_cluster_is_not_made_unasked_on_a_terminal(production, report):
    """In a wrong region the stack is not there, and it was made anew without a question."""
    production.stacks = {}
    production.after_execute = [("CREATE_COMPLETE", [("CREATE_COMPLETE", "kv", "")])]
    with terminal("no") as stdin:
        shown = make("deploy", production.environment, stdin=stdin)
    assert shown.returncode == 2 and not production.change_sets, shown.stdout
    assert re.search(r"a new cluster in account \d{12}, region [a-z]+-[a-z]+-\d\? ", shown.stdout), shown.stdout
    with terminal("yes") as stdin:
        make("deploy", production.environment, stdin=stdin)
    assert production.change_sets[0]["type"] == "CREATE"
    production.stacks, production.change_sets[:] = {}, []
    with terminal("no") as stdin:
        shown = make("deploy", production.environment, stdin=stdin, YES="1")
    assert production.change_sets and "a new cluster" not in shown.stdout, shown.stdout
    report("make deploy of a stack that is not there: asked on a terminal, with account and region")


def test_it_is_taken_away_when_that_is_wanted(production):
    production.changes = [(*TAKEN["another namespace"], [])]
    with terminal("no") as stdin:
        assert make("deploy", production.environment, stdin=stdin).returncode == 2
    assert "ExecuteChangeSet" not in production.actions
    with terminal("yes") as stdin:
        shown = make("deploy", production.environment, stdin=stdin)
    assert shown.returncode == 0 and production.actions.count("ExecuteChangeSet") == 1, shown.stdout
    assert make("deploy", production.environment, REPLACE="1").returncode == 0
    assert production.actions.count("ExecuteChangeSet") == 2
