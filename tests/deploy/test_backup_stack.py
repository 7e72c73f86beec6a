"""`make backup`: a stack beside the service's, and what it takes from there."""

import re

import pytest
from cloudformation_double import Stack
from conftest import BACKUP, run, tool
from making import make, parameters_of, stacks, terminal

ARN = "arn:aws:{}:eu-west-1:123456789012:{}".format
PARAMETERS = {
    "VpcId": "vpc-9", "PublicSubnetIds": "subnet-1,subnet-2", "PrivateSubnetIds": "subnet-3,subnet-4",
    "ImageUri": "registry.test/gossipykv:2", "RepositoryArn": ARN("ecr", "repository/gossipykv"),
    "CpuArchitecture": "X86_64", "SecretsKmsKeyArn": ARN("kms", "key/1"), "LogKmsKeyArn": ARN("kms", "key/2"),
    "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/bound", "AlarmTopicArn": ARN("sns", "t"),
    "ClientCidr": "0.0.0.0/0", "ClientIpv6Cidr": "::/0", "IpStack": "ipv6",
}  # fmt: skip
OUTPUTS = {"ApiUrl": "https://kv.test", "HttpTokenSecret": ARN("secretsmanager", "secret:kv-1"), "ClusterName": "c",
           "ServiceName": "s"}  # fmt: skip
TAKEN = {name: PARAMETERS[name] for name in (
    "VpcId", "IpStack", "ImageUri", "RepositoryArn", "CpuArchitecture", "SecretsKmsKeyArn", "LogKmsKeyArn",
    "PermissionsBoundaryArn", "AlarmTopicArn",
)} | {
    "ServerUrl": "https://kv.test", "HttpTokenSecretArn": OUTPUTS["HttpTokenSecret"], "ClusterName": "c",
    "SubnetIds": "subnet-3,subnet-4",
}  # fmt: skip
MADE = {"Place": "s3://b/kv/", "LogGroupName": "/gossipykv/kv-backup"}


@pytest.fixture
def served(double):
    """A service in production, no backups yet."""
    double.stacks = {"kv": Stack(environment="production", parameters=PARAMETERS, outputs=dict(OUTPUTS))}
    double.changes = [("Add", "TaskDefinition", "AWS::ECS::TaskDefinition", "", [])]
    double.after_execute = [("CREATE_COMPLETE", [("CREATE_COMPLETE", "kv-backup", "")])]
    double.environment |= {"SET": None}
    return double


@pytest.fixture
def backed_up(served):
    """And a stack of backups that has been made of it."""
    served.stacks["kv-backup"] = Stack(
        environment="production", parameters=TAKEN | {"Prefix": "kv", "Keep": "168", "Schedule": "rate(1 hour)"}, outputs=MADE
    )
    served.after_execute = []
    return served


def test_what_it_shares_with_the_service_comes_from_there(served, report):
    shown = make("backup", served.environment)
    assert shown.returncode == 0, shown.stdout
    (made,) = served.change_sets
    assert (made["stack"], made["type"], made["on failure"]) == ("kv-backup", "CREATE", "DO_NOTHING")
    given = made["parameters"]
    assert {key: given.get(key) for key in TAKEN} == TAKEN
    assert given["Prefix"] == "kv", "no other cluster's"
    assert given["Keep"] == "168", "a line of production/backup.params"
    assert made["tags"] == {"environment": "production", "application": "gossipykv"}
    served.stacks["kv-backup"].outputs = MADE
    served.changes = []
    shown = make("backup", served.environment)
    assert shown.returncode == 0 and "  no changes\n" in shown.stdout, shown.stdout
    assert "backups: s3://b/kv/, rate(1 hour)\nlog: aws logs tail /gossipykv/kv-backup" in shown.stdout, shown.stdout
    report(f"make backup: {len(TAKEN)} parameters as the service's stack has them")


def test_what_the_caller_says_counts_more(backed_up):
    backed_up.stacks["kv-backup"].parameters |= {"Prefix": "mine", "BucketName": "a-bucket", "KmsKeyArn": ARN("kms", "key/3")}
    shown = make("backup", backed_up.environment, SET=f"ServerUrl=http://kv.internal Keep=3 ImageUri=other:{1}")
    assert shown.returncode == 0, shown.stdout
    (made,) = backed_up.change_sets
    given = made["parameters"]
    assert (given["ServerUrl"], given["Keep"], given["ImageUri"]) == ("http://kv.internal", "3", "other:1")
    kept = {"Prefix": "mine", "BucketName": "a-bucket", "KmsKeyArn": ARN("kms", "key/3")}
    assert {key: given[key] for key in kept} == kept, "what the service knows nothing of stays"
    for wrong in ("TaskSize=large", "AllowPlainHttp=true"):
        shown = make("backup", backed_up.environment, SET=wrong)
        assert shown.returncode == 2 and f"no parameter {wrong.split('=')[0]} of backup" in shown.stdout, shown.stdout
    shown = make("deploy", backed_up.environment, SET="Keep=3")
    assert shown.returncode == 2 and "no parameter Keep of network or service" in shown.stdout, shown.stdout
    assert len(backed_up.change_sets) == 1


def test_what_the_service_has_no_more_or_does_not_tell(backed_up):
    service, ours = backed_up.stacks["kv"], backed_up.stacks["kv-backup"]
    # A topic that the backups were given stays; a token that nobody asks for goes.
    service.parameters |= {"AlarmTopicArn": "", "HttpToken": "none"}
    del service.outputs["HttpTokenSecret"]
    ours.parameters["AlarmTopicArn"] = ARN("sns", "ours")
    assert make("backup", backed_up.environment).returncode == 0
    given = backed_up.change_sets[-1]["parameters"]
    assert given["AlarmTopicArn"] == ARN("sns", "ours") and given["HttpTokenSecretArn"] == ""
    # Behind a certificate without a name the URL is not known.
    del service.outputs["ApiUrl"]
    assert make("backup", backed_up.environment).returncode == 0
    assert backed_up.change_sets[-1]["parameters"]["ServerUrl"] == "https://kv.test"
    del backed_up.stacks["kv-backup"]
    shown = make("backup", backed_up.environment)
    assert shown.returncode == 2 and "SET=ServerUrl=https://" in shown.stdout, shown.stdout


def test_whom_the_api_lets_in_is_told(served):
    served.stacks["kv"].parameters |= {"ClientCidr": "203.0.113.0/24"}
    shown = make("backup", served.environment)
    assert shown.returncode == 0 and "requests from 203.0.113.0/24 ::/0 alone" in shown.stdout, shown.stdout
    served.stacks["kv"].parameters |= {"ClientCidr": "0.0.0.0/0"}
    assert "requests from" not in make("backup", served.environment).stdout


def test_the_service_comes_first(served, report):
    service = served.stacks["kv"]
    for status, why in (("UPDATE_IN_PROGRESS", "wait until it is done"), ("DELETE_COMPLETE", "make deploy comes first")):
        service.status = status
        shown = make("backup", served.environment, ENVIRONMENT="production")
        assert shown.returncode != 0 and f"stack kv is {status if 'wait' in why else 'not there'}" in shown.stdout, shown.stdout
        assert why in shown.stdout, shown.stdout
    service.status, service.outputs = "CREATE_FAILED", {}
    shown = make("backup", served.environment)
    assert shown.returncode == 2 and "make deploy comes first" in shown.stdout, shown.stdout
    assert served.change_sets == []
    report("make backup without a service: exit 2, make deploy comes first")


def test_a_stack_of_another_kind_is_left_alone(served, report):
    """An environment may be called backup, and its service's stack is then what ours would be."""
    other = served.stacks["kv-backup"] = Stack(environment="backup", parameters=PARAMETERS, outputs=OUTPUTS)
    for environment, why in (("backup", "of environment backup, not production"), ("production", "is none of backups")):
        other.tags = {"environment": environment}
        shown = make("backup", served.environment)
        assert shown.returncode == 2 and why in shown.stdout, shown.stdout
    assert served.change_sets == []
    served.changes = []
    assert make("deploy", served.environment).returncode == 0
    served.stacks["kv"].protected = False
    shown = make("destroy", served.environment, YES="1")
    assert shown.returncode == 0 and served.deleted == ["kv"], shown.stdout
    # And the other way round.
    served.stacks["kv"] = Stack(parameters=TAKEN)
    for target in ("deploy", "diff", "backup"):
        shown = make(target, served.environment)
        assert shown.returncode == 2 and "kv is one of backups" in shown.stdout, shown.stdout
    report("make backup, deploy, destroy with an environment called backup: neither touches the other's stack")


def test_deploy_says_when_the_backups_are_behind(backed_up, report):
    # Else production/service.params has tasks on another machine, and that is one thing more.
    env = backed_up.environment | {"SET": "CpuArchitecture=X86_64"}
    shown = make("deploy", env, IMAGE_URI="registry.test/gossipykv:2")
    assert shown.returncode == 0 and "is behind" not in shown.stdout, shown.stdout
    shown = make("deploy", env, IMAGE_URI="registry.test/gossipykv:3")
    assert shown.returncode == 0 and shown.stdout.endswith(
        "kv-backup is behind in ImageUri: make backup brings it along\n"), shown.stdout  # fmt: skip
    assert all(made["stack"] == "kv" for made in backed_up.change_sets), "deploy itself leaves it alone"
    assert make("backup", backed_up.environment).returncode == 0
    assert backed_up.change_sets[-1]["parameters"]["ImageUri"] == "registry.test/gossipykv:3"
    backed_up.changes = []
    shown = make("deploy", env, IMAGE_URI="registry.test/gossipykv:3")
    assert shown.returncode == 0 and "is behind" not in shown.stdout, shown.stdout
    report("make deploy of another image: one line says that the backups still run on the one before")


def test_diff_shows_what_would_follow(backed_up, report):
    service, ours = backed_up.stacks["kv"], backed_up.stacks["kv-backup"]
    service.parameters |= {"ImageUri": "registry.test/gossipykv:3"}
    before = [dict(stack.parameters) for stack in (service, ours)]
    shown = make("diff", backed_up.environment)
    assert shown.returncode == 0, shown.stdout
    of_service, of_backups = backed_up.change_sets
    assert (of_service["stack"], of_backups["stack"]) == ("kv", "kv-backup")
    made = of_backups["parameters"]
    assert made["ImageUri"] == "registry.test/gossipykv:3", "what the service runs"
    assert (made["Keep"], made["Prefix"]) == ("168", "kv")
    assert shown.stdout.index("kv:\n") < shown.stdout.index("kv-backup:\n"), shown.stdout
    assert "+ Add TaskDefinition" in shown.stdout.split("kv-backup:\n")[1], shown.stdout
    assert [service.parameters, ours.parameters] == before
    # It is what `make backup` asks for, and nothing of it is done.
    assert make("backup", backed_up.environment).returncode == 0
    assert backed_up.change_sets[-1]["parameters"] == made
    backed_up.actions.clear()
    assert make("diff", backed_up.environment).returncode == 0
    assert "ExecuteChangeSet" not in backed_up.actions and backed_up.actions.count("DeleteChangeSet") == 2
    report("make diff: what make deploy would change, then what make backup would")


def test_diff_takes_what_is_set_for_the_backups(backed_up):
    backed_up.changes = [("Remove", "Bucket", "AWS::S3::Bucket", "", [])]
    shown = make("diff", backed_up.environment, SET="Keep=3")
    assert shown.returncode == 0 and backed_up.change_sets[-1]["parameters"]["Keep"] == "3", shown.stdout
    assert "make backup asks before it takes away:\n    Bucket" in shown.stdout.split("kv-backup:\n")[1], shown.stdout
    shown = make("diff", backed_up.environment, SET="Kept=3")
    assert shown.returncode == 2 and "no parameter Kept of network or service or backup" in shown.stdout, shown.stdout
    # As before where there are none, or where the stack of that name is something else.
    ours = backed_up.stacks["kv-backup"]
    ours.tags["environment"] = "staging"
    shown = make("diff", backed_up.environment)
    assert shown.returncode == 0 and "kv-backup:\n  of environment staging" in shown.stdout, shown.stdout
    assert backed_up.change_sets[-1]["stack"] == "kv"
    ours.parameters = dict(PARAMETERS)
    shown = make("diff", backed_up.environment)
    assert shown.returncode == 0 and "kv-backup" not in shown.stdout, shown.stdout
    del backed_up.stacks["kv-backup"]
    shown = make("diff", backed_up.environment, SET="Keep=3")
    assert shown.returncode == 2 and "no parameter Keep of network or service" in shown.stdout, shown.stdout
    assert "kv-backup" not in make("diff", backed_up.environment).stdout


def test_a_bucket_is_not_taken_away_unasked(backed_up):
    backed_up.changes = [("Remove", "Bucket", "AWS::S3::Bucket", "", [])]
    shown = make("backup", backed_up.environment, SET="BucketName=another")
    assert shown.returncode == 2 and "    Bucket (AWS::S3::Bucket) REMOVED" in shown.stdout, shown.stdout
    assert "REPLACE=1 make backup goes on" in shown.stdout and "ExecuteChangeSet" not in backed_up.actions
    assert make("backup", backed_up.environment, SET="BucketName=another", REPLACE="1").returncode == 0


@pytest.mark.parametrize("empty", [True, False])
def test_a_first_try_that_fails_leaves_nothing_in_the_way(served, empty, report):
    served.after_execute = [("CREATE_FAILED", [("CREATE_FAILED", "Timetable", "no such cluster")])]
    served.stacks["kv-backup"] = Stack("REVIEW_IN_PROGRESS", environment=None, resources={"Bucket": "kv-backup-1"})
    served.empty_buckets = {"kv-backup-1"} if empty else set()
    shown = make("backup", served.environment)
    assert shown.returncode != 0 and "first cause:\n    Timetable (AWS::Test::Type): no such cluster" in shown.stdout
    assert served.deleted == ["kv-backup"] and served.empty_buckets == set(), shown.stdout
    assert ("its bucket stays" in shown.stdout) != empty, shown.stdout
    assert "KEEP=1 make backup keeps it" in shown.stdout, shown.stdout
    report(f"make backup that fails the first time: removed, {'with' if empty else 'but not'} its bucket")


def test_a_stack_that_only_deleting_ends_is_not_told_to_destroy_the_service(backed_up):
    backed_up.stacks["kv-backup"].status = "DELETE_FAILED"
    shown = make("backup", backed_up.environment)
    assert "aws cloudformation delete-stack --stack-name kv-backup" in shown.stdout, shown.stdout
    assert "make destroy" not in shown.stdout


def test_destroy_takes_it_down_first(backed_up, report):
    """Its security group is in the VPC, its tasks in the cluster, and neither goes before it."""
    backed_up.stacks["kv-network"] = Stack(environment="production", outputs={"VpcId": "vpc-9"})
    with terminal("kv") as stdin:
        shown = make("destroy", backed_up.environment, stdin=stdin)
    assert shown.returncode == 0 and re.search(
        r"Delete kv-backup, kv and all its data in account \d{12}, region [a-z]+-[a-z]+-\d\? ", shown.stdout
    ), shown.stdout
    assert backed_up.deleted == ["kv-backup", "kv", "kv-network"], shown.stdout
    assert "  the backups stay: s3://b/kv/\n" in shown.stdout
    report("make destroy: backups, service, network; it says where the backups are")


def test_destroy_ends_where_the_backups_do_not_go(backed_up):
    backed_up.after_delete = [("DELETE_FAILED", [("DELETE_FAILED", "SecurityGroup", "has a dependent object")])]
    shown = make("destroy", backed_up.environment, YES="1")
    assert shown.returncode != 0 and "has a dependent object" in shown.stdout, shown.stdout
    assert backed_up.deleted == ["kv-backup"], "the data is still there"


def test_destroy_looks_for_its_protection_too(backed_up):
    backed_up.stacks["kv-backup"].protected = True
    shown = make("destroy", backed_up.environment, YES="1")
    assert shown.returncode == 2 and "stack kv-backup has termination protection" in shown.stdout, shown.stdout
    assert backed_up.deleted == [] and "--no-enable-termination-protection" in shown.stdout


RESOURCES = """
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    DeletionPolicy: Retain
  SecurityGroup:
    Type: AWS::EC2::SecurityGroup
    Properties: { GroupDescription: !Ref ImageUri, VpcId: !Ref VpcId }
Outputs:
  Place: { Value: !Sub "s3://${Bucket}/${Prefix}/" }
  LogGroupName: { Value: log }
"""


def test_with_stacks_that_are_really_made(aws, tmp_path, report):
    """Against moto, which makes buckets, groups and networks."""
    template = tmp_path / "backup.yaml"
    template.write_text(parameters_of(BACKUP) + RESOURCES)
    env = aws | {"BACKUP_TEMPLATE": str(template)}
    service = tmp_path / "service.yaml"
    service.write_text(service.read_text() + "  ClusterName: { Value: c }\n")
    assert make("deploy", env).returncode == 0
    shown = make("backup", env, SET=None)
    assert shown.returncode == 0 and "+ Add Bucket (AWS::S3::Bucket)" in shown.stdout, shown.stdout
    assert stacks(env)["kv-backup"] == "CREATE_COMPLETE"
    place = shown.stdout.split("backups: ")[1].split(",")[0]
    assert place.endswith("/kv/"), shown.stdout
    assert "  no changes\n" in make("backup", env, SET=None).stdout
    shown = make("deploy", env, IMAGE_URI="registry.test/gossipykv:2")
    assert shown.returncode == 0, shown.stdout
    shown = make("destroy", env, YES="1")
    assert shown.returncode == 0 and f"the backups stay: {place}" in shown.stdout, shown.stdout
    assert stacks(env) == {}
    buckets = run(tool("aws"), "s3api", "list-buckets", "--output", "text", "--query", "Buckets[].Name", env=env, check=True)
    assert buckets.stdout.strip() == place.split("/")[2], "the bucket outlives it"
    report("make deploy, backup, destroy against moto: all stacks gone, the bucket there")


def test_what_outlives_the_stack_has_no_name_of_its_own(backup):
    """Or the next stack of this name could not make it."""
    for name, one in backup["Resources"].items():
        if one.get("DeletionPolicy") == "Retain":
            assert not {key for key in one["Properties"] if key.endswith("Name")}, name
