"""What the templates make of their parameters: each account, VPC and wish that they are to serve."""

import itertools
import re

import pytest
from conftest import BACKUP, NETWORK, SERVICE
from resolve import Resolved

CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/1"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"
LISTENER = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/shared/50dc6c495c0c9188/f2f7dc8efc522ab2"
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"


# -- Who may call, and how -----------------------------------------------------------------------


def test_plain_http_on_public_addresses_must_be_wanted(service):
    (said,) = Resolved(service).refusals()
    assert "AllowPlainHttp" in said
    for wanted in (
        {"AllowPlainHttp": "true"}, {"Scheme": "internal"}, {"CertificateArn": CERTIFICATE},
        {"HostedZoneId": "Z0123456789", "DomainName": "kv.example.com"},
        {"ListenerArn": LISTENER, "ListenerSecurityGroupId": "sg-1"},
    ):  # fmt: skip
        assert Resolved(service, **wanted).refusals() == [], wanted


def test_with_https_port_80_answers_403(service):
    (plain,) = Resolved(service)["HttpListener"]["DefaultActions"]
    assert plain["Type"] == "forward"
    made = Resolved(service, CertificateArn=CERTIFICATE)
    (action,) = made["HttpListener"]["DefaultActions"]
    assert action["Type"] == "fixed-response" and action["FixedResponseConfig"]["StatusCode"] == "403"
    assert made["HttpsListener"]["Certificates"] == [{"CertificateArn": CERTIFICATE}]


def test_the_url_is_one_that_the_certificate_matches(service):
    assert Resolved(service).outputs["ApiUrl"] == "http://${LoadBalancer.DNSName}"
    assert "ApiUrl" not in Resolved(service, CertificateArn=CERTIFICATE).outputs, "nobody has said its name"
    named = Resolved(service, CertificateArn=CERTIFICATE, DomainName="kv.example.com")
    assert named.outputs["ApiUrl"] == "https://kv.example.com"


def test_a_zone_gets_alias_records_and_a_certificate(service):
    made = Resolved(service, HostedZoneId="Z0123456789", DomainName="kv.example.com")
    assert made["Certificate"]["DomainValidationOptions"] == [{"DomainName": "kv.example.com", "HostedZoneId": "Z0123456789"}]
    assert made["HttpsListener"]["Certificates"] == [{"CertificateArn": {"Ref": "Certificate"}}]
    records = made.of_type("AWS::Route53::RecordSet")
    assert sorted(one["Type"] for one in records.values()) == ["A", "AAAA"]
    assert {one["Name"] for one in records.values()} == {"kv.example.com"}
    assert len(Resolved(service, HostedZoneId="Z1234", DomainName="a.example", IpAddressType="ipv4").of_type(
        "AWS::Route53::RecordSet")) == 1  # fmt: skip
    brought = Resolved(service, HostedZoneId="Z1234", DomainName="a.example", CertificateArn=CERTIFICATE)
    assert "Certificate" not in brought and "AliasRecord" in brought
    assert "HostedZoneId is given but DomainName is not" in Resolved(service, HostedZoneId="Z1234").refusals()


def test_a_web_acl_guards_the_load_balancer(service):
    acl = "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/w/1"
    assert Resolved(service, WebAclArn=acl)["WebAcl"] == {"ResourceArn": {"Ref": "LoadBalancer"}, "WebACLArn": acl}
    assert "WebAcl" not in Resolved(service)


# -- The load balancer ---------------------------------------------------------------------------

BALANCERS = {
    "public": {"Scheme": "internet-facing"},
    "internal": {"Scheme": "internal"},
    "of others": {"ListenerArn": LISTENER, "ListenerSecurityGroupId": "sg-1"},
}


def test_another_load_balancer_gets_another_target_group(service):
    """A target group cannot be on two, as it would be while CloudFormation replaces one by the other."""
    immutable = ("Name", "Port", "Protocol", "ProtocolVersion", "TargetType", "VpcId", "IpAddressType")
    groups = {name: Resolved(service, **given)["TargetGroup"] for name, given in BALANCERS.items()}
    for one, other in itertools.combinations(groups, 2):
        assert any(groups[one].get(name) != groups[other].get(name) for name in immutable), (one, other)


def test_a_listener_that_is_there_already(service):
    made = Resolved(service, DomainName="kv.example.com", **BALANCERS["of others"])
    kinds = {one["Type"] for one in made.resources.values()}
    assert "AWS::ElasticLoadBalancingV2::LoadBalancer" not in kinds and "AWS::ElasticLoadBalancingV2::Listener" not in kinds
    rule = made["BorrowedListenerRule"]
    assert rule["ListenerArn"] == LISTENER and rule["Actions"][0]["TargetGroupArn"] == {"Ref": "TargetGroup"}
    assert rule["Conditions"] == [{"Field": "host-header", "HostHeaderConfig": {"Values": ["kv.example.com"]}}]
    (way_in,) = made["TaskSecurityGroup"]["SecurityGroupIngress"]
    assert way_in["SourceSecurityGroupId"] == "sg-1"
    # Metrics of the load balancer have its name, which is in the listener's.
    for alarm in ("TooFewNodes", "TargetErrors", "SlowAnswers"):
        assert made[alarm]["Dimensions"][0]["Value"] == "app/shared/50dc6c495c0c9188"
    assert made["Service"]["Tags"][1]["Value"] == {"Ref": "BorrowedListenerRule"}
    assert Resolved(service, ListenerArn=LISTENER).refusals()
    assert Resolved(service, CertificateArn=CERTIFICATE, **BALANCERS["of others"]).refusals()


def references(node):
    if isinstance(node, dict):
        if set(node) == {"Ref"}:
            yield node["Ref"]
        elif set(node) == {"Fn::GetAtt"}:
            yield node["Fn::GetAtt"][0]
        else:
            for one in node.values():
                yield from references(one)
    elif isinstance(node, list):
        for one in node:
            yield from references(one)
    elif isinstance(node, str):
        yield from re.findall(r"\$\{(\w+)[.}]", node)


VARIANTS = [
    {**balancer, **stack, **extra}
    for balancer in BALANCERS.values()
    for stack in ({}, {"IpAddressType": "ipv4"}, {"IpStack": "ipv6"})
    for extra in ({}, {"HttpToken": "none", "GossipKeySecretArn": "arn:s"}, {"SecretsKmsKeyArn": KEY, "EnableExec": "true"},
                  {"ContainerInsights": "disabled", "DomainName": "kv.example.com"})
] + [{"CertificateArn": CERTIFICATE}, {"HostedZoneId": "Z1234", "DomainName": "a.example"}]  # fmt: skip


def test_no_variant_names_what_it_does_not_make(service, network, report):
    pseudo = {"AWS::NoValue"}
    for given in VARIANTS:
        made = Resolved(service, **given)
        for name, one in made.resources.items():
            wanted = set(references(one["Properties"])) | set(one.get("DependsOn", []))
            assert wanted - pseudo <= set(made.resources), (given, name)
        assert set(references(list(made.outputs.values()))) <= set(made.resources), given
    shapes = list(itertools.product((2, 3), ("dualstack", "ipv6"), ("one", "per-zone"), (0, 14)))
    for count, stack, nat, days in shapes:
        made = Resolved(network, ZoneCount=count, IpStack=stack, NatGateways=nat, FlowLogDays=days)
        for name, one in made.resources.items():
            assert set(references(one.get("Properties", {}))) <= set(made.resources), (count, stack, nat, name)
        assert set(references(list(made.outputs.values()))) <= set(made.resources)
    report(f"{len(VARIANTS)} services and {len(shapes)} networks: none names a resource that it does not make")


# -- Zones and addresses --------------------------------------------------------------------------


def subnets(made):
    return {name: one for name, one in made.of_type("AWS::EC2::Subnet").items()}


def test_two_zones_are_enough(network):
    made = Resolved(network, zones=2, ZoneCount=2, NatGateways="per-zone")
    assert len(subnets(made)) == 4 and len(made.of_type("AWS::EC2::NatGateway")) == 2
    assert made.outputs["PrivateSubnetIds"] == "{'Ref': 'PrivateSubnetA'},{'Ref': 'PrivateSubnetB'}"
    assert len(subnets(Resolved(network))) == 6


def test_zones_can_be_named(network):
    named = "us-east-1a,us-east-1b,us-east-1d"
    for count in (2, 3):
        made = Resolved(network, ZoneCount=count, ZoneNames=named)
        assert {one["AvailabilityZone"] for one in subnets(made).values()} == set(named.split(",")[:count])
    assert Resolved(network)["PublicSubnetC"]["AvailabilityZone"] == "eu-west-1c"


def test_dns64_is_on_only_where_tasks_have_no_ipv4(network):
    for stack, wanted in (("dualstack", False), ("ipv6", True)):
        made = Resolved(network, IpStack=stack)
        routes = made.of_type("AWS::EC2::Route").values()
        nat64 = [one for one in routes if one.get("DestinationIpv6CidrBlock") == "64:ff9b::/96"]
        private = {name: one for name, one in subnets(made).items() if name.startswith("Private")}
        assert {one["EnableDns64"] for one in private.values()} == {wanted} and len(nat64) == (3 if wanted else 0)
        assert {one.get("Ipv6Native", False) for one in private.values()} == {wanted}
        assert {"CidrBlock" in one for one in private.values()} == {not wanted}
        assert all("Ipv6CidrBlock" in one and one["AssignIpv6AddressOnCreation"] for one in private.values())
        # A load balancer and NAT gateways have no place without IPv4.
        assert all("CidrBlock" in one for name, one in subnets(made).items() if name.startswith("Public"))


def test_tasks_with_ipv6_alone(service):
    made = Resolved(service, IpStack="ipv6", AllowPlainHttp="true")
    assert made.refusals() == []
    (node,) = made["TaskDefinition"]["ContainerDefinitions"]
    environment = {one["Name"]: one["Value"] for one in node["Environment"]}
    assert (environment["GOSSIPYKV_BIND"], environment["GOSSIPYKV_HTTP"]) == ("[::]:7947", "[::]:8080")
    assert made["TargetGroup"]["IpAddressType"] == "ipv6"
    assert [one.get("CidrIp", one.get("CidrIpv6")) for one in made["TaskSecurityGroup"]["SecurityGroupEgress"]] == ["::/0"]
    assert Resolved(service, IpStack="ipv6", AllowPlainHttp="true", IpAddressType="ipv4").refusals()
    for kind in ("dualstack", "dualstack-without-public-ipv4"):
        assert Resolved(service, IpStack="ipv6", AllowPlainHttp="true", IpAddressType=kind).refusals() == []


def test_two_stacks_fit_into_one_vpc(service):
    """Each has a private zone of its own, and its nodes ask for that one."""
    for given, zone in (({}, "kv.internal"), ({"NamespaceName": "mine.internal"}, "mine.internal")):
        made = Resolved(service, **given)
        assert made["Namespace"]["Name"] == zone
        (node,) = made["TaskDefinition"]["ContainerDefinitions"]
        asked = {one["Name"]: one["Value"] for one in node["Environment"]}["GOSSIPYKV_DISCOVER_SRV"]
        assert asked == f"${{GossipDiscovery.Name}}.{zone}" == made.outputs["DiscoveryName"]
    named = {name for name, one in Resolved(service).resources.items() for key in one["Properties"]
             if key in ("RoleName", "GroupName", "LogGroupName", "ClusterName", "AlarmName", "ServiceName")
             and one["Type"] not in ("AWS::Logs::MetricFilter",)}  # fmt: skip
    assert named == set(), "a name that is given is there only once in an account"


# -- Accounts and rights --------------------------------------------------------------------------


def statements(made):
    (policy,) = made["ExecutionRole"]["Policies"]
    return policy["PolicyDocument"]["Statement"]


def test_secrets_under_a_key_of_ones_own(service):
    assert "kms:Decrypt" not in str(statements(Resolved(service)))
    made = Resolved(service, SecretsKmsKeyArn=KEY)
    (decrypt,) = [one for one in statements(made) if one["Action"] == "kms:Decrypt"]
    assert decrypt["Resource"] == KEY
    assert decrypt["Condition"]["StringEquals"]["kms:ViaService"] == "secretsmanager.eu-west-1.amazonaws.com"
    assert made["GossipKey"]["KmsKeyId"] == made["ApiToken"]["KmsKeyId"] == KEY


@pytest.mark.parametrize("of", ["service", "backup"])
def test_an_image_of_another_account(of, request):
    made = request.getfixturevalue(of)

    def pulled(**given):
        return next(one["Resource"] for one in statements(Resolved(made, **given)) if "ecr:BatchGetImage" in one["Action"])

    assert pulled(RepositoryName="kv") == "arn:aws:ecr:eu-west-1:123456789012:repository/kv"
    other = "arn:aws:ecr:us-east-1:210987654321:repository/kv"
    assert pulled(RepositoryArn=other) == other


def test_a_backup_with_ipv6_alone(backup, service):
    """As tasks of the service: no rule for IPv4, and S3 by the name that has an IPv6 address."""
    assert backup["Parameters"]["IpStack"]["AllowedValues"] == service["Parameters"]["IpStack"]["AllowedValues"]
    for stack, blocks, there in (("dualstack", {"0.0.0.0/0", "::/0"}, None),
                                 ("ipv6", {"::/0"}, "https://s3.dualstack.eu-west-1.amazonaws.com")):  # fmt: skip
        made = Resolved(backup, IpStack=stack)
        rules = [one for one in made["SecurityGroup"]["SecurityGroupEgress"] if isinstance(one, dict)]
        assert {one.get("CidrIp", one.get("CidrIpv6")) for one in rules} == blocks
        assert {one["FromPort"] for one in rules if one.get("CidrIpv6")} == {80, 443}
        (container,) = made["TaskDefinition"]["ContainerDefinitions"]
        settings = {one["Name"]: one["Value"] for one in container["Environment"] if isinstance(one, dict)}
        assert settings.get("AWS_ENDPOINT_URL_S3") == there, stack
        assert settings["GOSSIPYKV_SERVER"] and settings["AWS_REGION"] == "eu-west-1"


def test_a_backup_runs_on_what_the_service_runs_on(service, backup):
    """Who gives neither has one image for both."""
    defaults = [one["Parameters"]["CpuArchitecture"]["Default"] for one in (service, backup)]
    assert len(set(defaults)) == 1, defaults


def test_every_role_takes_the_boundary(service, network, backup):
    for template, given in ((service, {}), (network, {"FlowLogDays": 14}), (backup, {})):
        for boundary in ("", BOUNDARY):
            roles = Resolved(template, PermissionsBoundaryArn=boundary, **given).of_type("AWS::IAM::Role")
            assert roles and {one.get("PermissionsBoundary", "") for one in roles.values()} == {boundary}


@pytest.mark.parametrize("path", [NETWORK, SERVICE, BACKUP], ids=lambda path: path.stem)
def test_nothing_is_of_one_partition(path):
    """ARNs are made with AWS::Partition; the only names of hosts are those of services as principals."""
    for line in path.read_text().splitlines():
        if "AllowedPattern" not in line and "comment:" not in line:
            assert "arn:aws:" not in line, line
            assert not re.search(r"(?<!ecs-tasks)(?<!vpc-flow-logs)(?<!scheduler)\.amazonaws\.com", line) or "com.amazonaws." in line, line


# -- Rolls ----------------------------------------------------------------------------------------


def test_a_full_store_does_not_undo_the_deployment_that_enlarges_the_tasks(service):
    """The load balancer counts all 5xx of nodes in one, so the alarm asks something else."""
    made = Resolved(service)
    names = made["Service"]["DeploymentConfiguration"]["Alarms"]["AlarmNames"]
    for (name,) in (one.values() for one in names):
        metrics = {one["MetricStat"]["Metric"]["MetricName"] for one in made[name]["Metrics"] if "MetricStat" in one}
        assert metrics == {"TargetConnectionErrorCount", "Panics"}


def test_a_cluster_can_be_the_first_of_an_account(service):
    assert "CapacityProviders" not in Resolved(service)["Cluster"]
    assert Resolved(service)["Service"]["LaunchType"] == "FARGATE"
