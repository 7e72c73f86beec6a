"""First deployments that fail, and what is not deleted by accident."""

import pytest
from cloudformation_double import Stack
from making import make

NETWORK = {"VPC_ID": "vpc-1", "PUBLIC_SUBNET_IDS": "subnet-1,subnet-2", "PRIVATE_SUBNET_IDS": "subnet-3,subnet-4"}
RESOURCES = {"Cluster": "cluster-1", "LogGroup": "log-1", "LoadBalancer": "arn:aws:elasticloadbalancing:eu-west-1:1:b"}
TASK = "0123456789abcdef"


@pytest.fixture
def failing(double):
    """No stack yet, and one that does not come up."""
    double.stacks = {"kv": Stack("REVIEW_IN_PROGRESS", environment=None, resources=RESOURCES)}
    double.changes = [("Add", "Service", "AWS::ECS::Service", "", [])]
    double.after_execute = [
        ("CREATE_IN_PROGRESS", [("CREATE_IN_PROGRESS", "Service", "")]),
        ("CREATE_FAILED", [("CREATE_FAILED", "Service", "ECS Deployment Circuit Breaker was triggered")]),
    ]
    double.stopped_tasks = [{
        "taskArn": f"arn:aws:ecs:eu-west-1:123456789012:task/cluster-1/{TASK}",
        "stoppedReason": "Essential container in task exited",
        "containers": [{"name": "gossipykv", "reason": "OutOfMemoryError: Container killed", "exitCode": 137}],
    }]  # fmt: skip
    double.logs = {f"node/gossipykv/{TASK}": ['{"level":"INFO"}', '{"level":"ERROR","message":"no such key"}']}
    double.balancer_protected = True
    return double


def test_a_first_deployment_that_fails_says_why_before_it_is_removed(failing, report):
    shown = make("deploy", failing.environment, **NETWORK)
    assert shown.returncode != 0
    words = [
        "first cause:\n    Service (AWS::Test::Type): ECS Deployment Circuit Breaker",
        f"  stopped task {TASK}: Essential container in task exited\n",
        "    container: OutOfMemoryError: Container killed\n    exit code 137\n",
        '    | {"level":"ERROR","message":"no such key"}\n',
        "removing what is left of a first try",
        "stack kv: first deployment failed",
    ]
    places = [shown.stdout.find(word) for word in words]
    assert -1 not in places and places == sorted(places), shown.stdout
    (made,) = failing.change_sets
    assert made["on failure"] == "DO_NOTHING", "AWS does not remove what is still to be asked"
    assert failing.actions.index("GetLogEvents") < failing.actions.index("DeleteStack")
    assert not failing.balancer_protected, "a load balancer that protects itself would keep the stack"
    assert failing.stacks["kv"].status == "DELETE_COMPLETE"
    report("make deploy that fails the first time: reasons of tasks and last log lines, then removed")


def test_it_is_kept_when_that_is_wanted_and_removed_by_the_next_one(failing):
    shown = make("deploy", failing.environment, KEEP="1", **NETWORK)
    assert shown.returncode != 0 and f"stopped task {TASK}" in shown.stdout, shown.stdout
    assert "kept as it is" in shown.stdout and "DeleteStack" not in failing.actions
    failing.after_execute = [("CREATE_COMPLETE", [("CREATE_COMPLETE", "kv", "")])]
    failing.stacks["kv"].tags = {"environment": "default"}
    shown = make("deploy", failing.environment)
    assert "removing what is left of a first try" in shown.stdout and "DeleteStack" in failing.actions, shown.stdout
    assert failing.change_sets[-1]["parameters"]["VpcId"] == "vpc-1"


def test_an_update_that_fails_says_why_too(failing):
    failing.stacks["kv"] = Stack(resources=RESOURCES)
    failing.after_execute = [("UPDATE_ROLLBACK_COMPLETE", [("UPDATE_FAILED", "Service", "no")])]
    shown = make("deploy", failing.environment, **NETWORK)
    assert shown.returncode != 0 and "exit code 137" in shown.stdout, shown.stdout
    assert "DeleteStack" not in failing.actions


def test_protection_comes_with_the_parameter(double):
    double.stacks = {"kv": Stack(parameters={"DeletionProtection": "false"})}
    double.changes = [("Modify", "LoadBalancer", "AWS::ElasticLoadBalancingV2::LoadBalancer", "False", [])]
    env = double.environment | NETWORK
    assert make("deploy", env, SET="DeletionProtection=true").returncode == 0
    assert double.stacks["kv"].protected
    assert make("deploy", env, SET="DeletionProtection=false").returncode == 0
    assert not double.stacks["kv"].protected
    # What somebody protected by hand stays so.
    double.stacks["kv"].protected = True
    assert make("deploy", env, SET="DeletionProtection=false").returncode == 0
    assert double.stacks["kv"].protected


@pytest.mark.parametrize("protects", ["the stack", "the network", "the load balancer"])
def test_what_is_protected_is_not_half_deleted(double, protects, report):
    """The service would go first, and with it the data."""
    double.stacks = {
        "kv": Stack(resources=RESOURCES, protected=protects == "the stack"),
        "kv-network": Stack(protected=protects == "the network"),
    }
    double.balancer_protected = protects == "the load balancer"
    shown = make("destroy", double.environment, YES="1")
    assert shown.returncode == 2 and "nothing is deleted" in shown.stdout, shown.stdout
    assert "protection" in shown.stdout and "SET=DeletionProtection=false" in shown.stdout
    assert "DeleteStack" not in double.actions
    report(f"make destroy when {protects} is protected: exit 2, nothing is deleted")


def test_a_network_that_another_service_uses_stays(double):
    double.stacks = {
        "kv": Stack(parameters={"VpcId": "vpc-9"}),
        "kv-network": Stack(outputs={"VpcId": "vpc-9"}),
        "kv2": Stack(parameters={"VpcId": "vpc-9"}),
    }
    shown = make("destroy", double.environment, YES="1")
    assert shown.returncode == 0 and "kv-network stays: it is the network of kv2 too" in shown.stdout, shown.stdout
    assert [name for name, stack in double.stacks.items() if stack.status == "DELETE_COMPLETE"] == ["kv"]
