"""Ways to break the stack, each of which must be caught before AWS sees it."""

import pytest
from conftest import BACKUP, SERVICE, cfn_guard, cfn_lint

# What is broken, by which check it is caught, and the edit: this text becomes that.
MUTATIONS = {
    "GetAtt of an attribute that does not exist": (
        "E1010",
        "!GetAtt TaskSecurityGroup.GroupId]",
        "!GetAtt TaskSecurityGroup.GroupIdentity]",
    ),
    "a memory that 256 CPU units cannot have": (
        "fargate_sizes",
        'small: { Cpu: "256", Memory: "512"',
        'small: { Cpu: "256", Memory: "4096"',
    ),
    "a retention CloudWatch does not know": (
        "E3030",
        "RetentionInDays: !Ref LogRetentionDays",
        "RetentionInDays: 31",
    ),
    "a DNS record type that does not exist": ("E3030", "{ Type: SRV, TTL", "{ Type: SRVX, TTL"),
    "an architecture misspelt": (
        "E3030",
        "CpuArchitecture: !Ref CpuArchitecture",
        "CpuArchitecture: ARM_64",
    ),
    "a load balancer in one subnet": (
        "E3680",
        "Subnets: !Ref PublicSubnetIds",
        "Subnets: [!Select [0, !Ref PublicSubnetIds]]",
    ),
    "a circle of dependencies": (
        "E3004",
        "  Cluster:\n    Type: AWS::ECS::Cluster\n",
        "  Cluster:\n    Type: AWS::ECS::Cluster\n    DependsOn: Service\n",
    ),
    "a parameter nobody uses": (
        "W2001",
        "Parameters:\n  VpcId:",
        "Parameters:\n  Unused: { Type: String, Default: x, Description: x }\n  VpcId:",
    ),
    "instance targets for awsvpc tasks": (
        "target_type_ip",
        "TargetType: ip",
        "TargetType: instance",
    ),
    "a stop timeout Fargate does not take": ("stop_timeout", "StopTimeout: 60", "StopTimeout: 500"),
    "a registry without a port": (
        "registry_port",
        "          ContainerName: gossipykv\n          ContainerPort: 7947\n",
        "",
    ),
    "awslogs without an execution role": (
        "execution_role",
        "      ExecutionRoleArn: !GetAtt ExecutionRole.Arn\n",
        "",
    ),
    "a load balancer to a port nobody maps": (
        "load_balancer_target",
        "{ ContainerName: gossipykv, ContainerPort: 8080,",
        "{ ContainerName: gossipykv, ContainerPort: 8081,",
    ),
    "a health check without CMD": (
        "health_check",
        "Command: [CMD, /gossipykv, health]",
        "Command: [/gossipykv, health]",
    ),
    "a health check too seldom": ("health_check", "Interval: 10", "Interval: 500"),
    "a service that does not wait for its listener": (
        "waits_for_listener",
        "        - Key: listener\n",
        "        - Key: something\n",
    ),
    "a redirect that comes after the token was sent": (
        "no_redirect",
        "          - Type: fixed-response\n            FixedResponseConfig:\n              StatusCode: \"403\"\n"
        "              ContentType: text/plain\n              MessageBody: This API is HTTPS only.\n",
        "          - Type: redirect\n            RedirectConfig: { Protocol: HTTPS, StatusCode: HTTP_301 }\n",
    ),
    "a cluster that needs a role a new account has not": (
        "no_capacity_providers",
        "      ClusterSettings:",
        "      CapacityProviders: [FARGATE]\n      ClusterSettings:",
    ),
    "a rollback for a full store": (
        "rollback_alarm",
        "AlarmNames: [!Ref NodesBroken]",
        "AlarmNames: [!Ref TargetErrors]",
    ),
    "a task with a public address": ("no_public_task", "AssignPublicIp: DISABLED", "AssignPublicIp: ENABLED"),
    "a condition that does not exist": ("E3015", "    Condition: HasWebAcl\n", "    Condition: HasWebAcls\n"),
    "a condition that may leave out what is named": (
        "E1010",
        "      ResourceArn: !Ref LoadBalancer\n",
        "      ResourceArn: !GetAtt LoadBalancer.Arn\n",
    ),
    "a target group for a kind of address that does not exist": (
        "E3030",
        "IpAddressType: !If [Ipv6Only, ipv6, ipv4]",
        "IpAddressType: !If [Ipv6Only, dualstack, ipv4]",
    ),
    "an alarm that compares in no known way": (
        "E3030",
        "      ExtendedStatistic: p99\n",
        "      ExtendedStatistic: p99\n      Unit: Second\n",
    ),
    "a stop before the node has left": ("stop_timeout", "StopTimeout: 60", "StopTimeout: 20"),
    "gossip from everywhere": (
        "gossip_among_tasks",
        "      Description: Gossip streams from the other tasks\n      GroupId: !GetAtt TaskSecurityGroup.GroupId\n"
        "      IpProtocol: tcp\n      FromPort: 7947\n      ToPort: 7947\n"
        "      SourceSecurityGroupId: !GetAtt TaskSecurityGroup.GroupId\n",
        "      Description: Gossip streams from the other tasks\n      GroupId: !GetAtt TaskSecurityGroup.GroupId\n"
        "      IpProtocol: tcp\n      FromPort: 7947\n      ToPort: 7947\n      CidrIp: 0.0.0.0/0\n",
    ),
    "a port range": (
        "single_ports",
        "      Description: Gossip datagrams from the other tasks\n      GroupId: !GetAtt TaskSecurityGroup.GroupId\n"
        "      IpProtocol: udp\n      FromPort: 7947\n      ToPort: 7947\n",
        "      Description: Gossip datagrams from the other tasks\n      GroupId: !GetAtt TaskSecurityGroup.GroupId\n"
        "      IpProtocol: udp\n      FromPort: 7947\n      ToPort: 7999\n",
    ),
}

# The same for backup.yaml.
MUTATIONS_OF_BACKUPS = {
    "a role that has no such attribute": (
        "E1010",
        "[!GetAtt ExecutionRole.Arn, !GetAtt TaskRole.Arn]",
        "[!GetAtt ExecutionRole.Arn, !GetAtt TaskRole.Name]",
    ),
    "a window of time that does not exist": ("E3030", 'Mode: "OFF"', "Mode: NEVER"),
    "a bucket that keeps versions by a wrong word": (
        "E3030",
        "VersioningConfiguration: { Status: Enabled }",
        "VersioningConfiguration: { Status: Enable }",
    ),
    "a policy without its bucket": (
        "E3015",
        "    Condition: MakesBucket\n    Type: AWS::S3::BucketPolicy\n",
        "    Condition: MakesABucket\n    Type: AWS::S3::BucketPolicy\n",
    ),
    "a backup that is cut off while it ends": ("stop_timeout", "StopTimeout: 30", "StopTimeout: 2"),
    "a health check by a shell that is not there": (
        "health_check",
        "Command: [CMD, /gossipykv, version]",
        "Command: [CMD-SHELL, gossipykv version]",
    ),
}
ALL = [(SERVICE, what) for what in MUTATIONS] + [(BACKUP, what) for what in MUTATIONS_OF_BACKUPS]


def test_there_are_enough():
    assert len(MUTATIONS) >= 26


@pytest.mark.parametrize("template, what", ALL, ids=[what for _, what in ALL])
def test_mutation_is_caught(template, what, tmp_path, report):
    rule, before, after = (MUTATIONS if template == SERVICE else MUTATIONS_OF_BACKUPS)[what]
    text = template.read_text()
    assert text.count(before) == 1, f"{before!r} must be there once, is {text.count(before)} times"
    broken = tmp_path / template.name
    broken.write_text(text.replace(before, after))

    by_lint = rule[1:].isdigit()
    result = cfn_lint(broken) if by_lint else cfn_guard(broken)
    assert result.returncode != 0, result.stdout
    assert rule in result.stdout, result.stdout
    report(f"{'cfn-lint' if by_lint else 'cfn-guard'} {rule}: {what}")
