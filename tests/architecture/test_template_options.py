"""What the template's optional parameters do, read from what CloudFormation would make of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cfnlint.api
import pytest

from local.cloudformation import evaluated, resources
from local.sam_template import translate
from tests.support.iam import Request, allows, statements_of

TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"

FUNCTIONS = {
    "GitlabWebhook": 3,
    "ConfigRefresh": 12,
    "Reconcile": 1,
    "TokenExchange": 20,
    "Relay": 50,
}
KEY = "arn:aws:kms:eu-central-1:111111111111:key/11111111-1111-1111-1111-111111111111"
BOUNDARY = "arn:aws:iam::111111111111:policy/boundary"
EVERY_OPTION = {
    **{f"{name}Concurrency": str(value) for name, value in FUNCTIONS.items()},
    "SubnetIds": "subnet-1,subnet-2",
    "SecurityGroupIds": "sg-1",
    "PrivateEndpointIds": "vpce-1,vpce-2",
    "DomainName": "jobgate.example",
    "CertificateArn": "arn:aws:acm:eu-central-1:111111111111:certificate/1",
    "DataKeyArn": KEY,
    "PermissionsBoundaryArn": BOUNDARY,
    "ClusterRoleArns": "arn:aws:iam::222222222222:role/one,arn:aws:iam::222222222222:role/two",
    "SourceRate": "100",
    "AlarmTopicArn": "arn:aws:sns:eu-central-1:111111111111:alarms",
    "TrafficShift": "Canary10Percent10Minutes",
}
ROLES = {f"{name}Role" for name in FUNCTIONS}
# What an access log's line may say. Everything else that API Gateway knows, such as a query or a
# header, could hold a token.
LOGGED = {
    "requestId",
    "requestTimeEpoch",
    "identity.sourceIp",
    "httpMethod",
    "resourcePath",
    "path",
    "status",
    "responseLength",
    "responseLatency",
    "integrationLatency",
    "awsEndpointRequestId",
    "error.responseType",
    "wafResponseCode",
}


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    return resources(translate(TEMPLATE, {}))


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    return resources(translate(TEMPLATE, EVERY_OPTION))


def test_template_with_every_option_has_no_finding_of_cfn_lint() -> None:
    findings = cfnlint.api.lint_all(json.dumps(translate(TEMPLATE, EVERY_OPTION)))

    assert [str(found) for found in findings if found.rule.severity != "informational"] == []


def test_no_concurrency_is_reserved_unless_asked_for(usual: dict[str, Any]) -> None:
    for name in FUNCTIONS:
        assert "ReservedConcurrentExecutions" not in usual[f"{name}Function"]["Properties"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_concurrency_is_reserved_for_each_function_by_its_own_parameter(
    full: dict[str, Any], name: str
) -> None:
    reserved = full[f"{name}Function"]["Properties"]["ReservedConcurrentExecutions"]

    assert reserved == str(FUNCTIONS[name])


def test_access_log_says_nothing_that_may_hold_a_token(usual: dict[str, Any]) -> None:
    (stage,) = of_type(usual, "AWS::ApiGateway::Stage")
    setting = stage["AccessLogSetting"]

    line = json.loads(setting["Format"])
    assert set(re.findall(r"\$context\.([\w.]+)", setting["Format"])) == LOGGED
    assert all(re.fullmatch(r"\$context\.[\w.]+", value) for value in line.values())
    assert setting["DestinationArn"] == {"Fn::GetAtt": ["AccessLogGroup", "Arn"]}
    assert usual["AccessLogGroup"]["Properties"]["RetentionInDays"] == 90


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ("create-role", {"AccessLogGroup", "ApiGatewayAccount", "ApiGatewayLogRole"}),
        ("account-role", {"AccessLogGroup"}),
        ("off", set()),
    ],
)
def test_account_s_log_role_is_set_only_where_that_was_chosen(choice: str, made: set[str]) -> None:
    deployed = resources(translate(TEMPLATE, {"AccessLogs": choice}))

    parts = {"AccessLogGroup", "ApiGatewayAccount", "ApiGatewayLogRole"}
    (stage,) = of_type(deployed, "AWS::ApiGateway::Stage")
    assert deployed.keys() & parts == made
    assert ("AccessLogSetting" in stage) is ("AccessLogGroup" in made)


def test_account_s_log_role_outlives_the_stack(usual: dict[str, Any]) -> None:
    assert usual["ApiGatewayAccount"]["DeletionPolicy"] == "Retain"
    assert usual["ApiGatewayLogRole"]["DeletionPolicy"] == "Retain"


def test_account_s_log_role_is_api_gateway_s_with_aws_s_policy_for_it_alone(
    usual: dict[str, Any],
) -> None:
    role = usual["ApiGatewayLogRole"]["Properties"]

    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert "Policies" not in role
    (managed,) = role["ManagedPolicyArns"]
    assert managed["Fn::Sub"].endswith("/AmazonAPIGatewayPushToCloudWatchLogs")


def test_schedule_may_invoke_reconcile_and_nothing_else(usual: dict[str, Any]) -> None:
    role = usual["ReconcileFunctionScheduleRole"]["Properties"]

    (trusted,) = role["AssumeRolePolicyDocument"]["Statement"]
    (policy,) = role["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert trusted["Principal"] == {"Service": ["scheduler.amazonaws.com"]}
    assert "ManagedPolicyArns" not in role
    assert statement == {
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": {"Fn::GetAtt": ["ReconcileFunction", "Arn"]},
    }


def test_roles_are_the_functions_and_three_that_no_code_has(full: dict[str, Any]) -> None:
    roles = {name for name, each in full.items() if each["Type"] == "AWS::IAM::Role"}

    assert roles == ROLES | {
        "ApiGatewayLogRole",
        "ReconcileFunctionScheduleRole",
        "TrafficShiftRole",
    }


def test_table_is_protected_from_deletion_unless_that_was_turned_off(usual: dict[str, Any]) -> None:
    without = resources(translate(TEMPLATE, {"DeletionProtection": "false"}))

    assert usual["Table"]["Properties"]["DeletionProtectionEnabled"] == "true"
    assert without["Table"]["Properties"]["DeletionProtectionEnabled"] == "false"


def test_functions_are_in_no_network_unless_subnets_were_named(usual: dict[str, Any]) -> None:
    assert "UseSubnets" not in usual
    for name in FUNCTIONS:
        assert "VpcConfig" not in usual[f"{name}Function"]["Properties"]


def test_named_subnets_are_every_function_s(full: dict[str, Any]) -> None:
    for name in FUNCTIONS:
        assert full[f"{name}Function"]["Properties"]["VpcConfig"] == {
            "SubnetIds": ["subnet-1", "subnet-2"],
            "SecurityGroupIds": ["sg-1"],
        }
    assert roles_of(full["UseSubnets"]) == {f"{name}Role" for name in FUNCTIONS}


@pytest.mark.parametrize("role", sorted(ROLES))
def test_code_of_a_function_can_not_use_the_right_to_network_interfaces(
    full: dict[str, Any], role: str
) -> None:
    statements = statements_of(full, role)
    function = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:any"
    source = {"lambda:SourceFunctionArn": (function,)}

    for action in ("ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"):
        # Lambda itself, as it makes the interfaces, acts for no function.
        assert allows(statements, Request(action, "*"))
        assert not allows(statements, Request(action, "*", source))
    assert not allows(statements, Request("ec2:RunInstances", "*"))


def test_api_is_private_where_endpoints_were_named_and_answers_them_alone(
    usual: dict[str, Any], full: dict[str, Any]
) -> None:
    (public,) = of_type(usual, "AWS::ApiGateway::RestApi")
    (private,) = of_type(full, "AWS::ApiGateway::RestApi")
    (anyone,) = public["Body"]["x-amazon-apigateway-policy"]["Statement"]
    (endpoints,) = private["Body"]["x-amazon-apigateway-policy"]["Statement"]

    assert public["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert "Condition" not in anyone
    assert private["EndpointConfiguration"] == {
        "Types": ["PRIVATE"],
        "VpcEndpointIds": ["vpce-1", "vpce-2"],
    }
    assert endpoints["Condition"] == {"StringEquals": {"aws:SourceVpce": ["vpce-1", "vpce-2"]}}


def test_name_of_one_s_own_is_the_only_one(usual: dict[str, Any], full: dict[str, Any]) -> None:
    named = translate(TEMPLATE, EVERY_OPTION)
    (unnamed_api,) = of_type(usual, "AWS::ApiGateway::RestApi")
    (named_api,) = of_type(full, "AWS::ApiGateway::RestApi")

    assert executes(unnamed_api)
    assert not executes(named_api)
    assert full["DomainNameOfApi"]["Properties"]["SecurityPolicy"] == "TLS_1_2"
    assert "DomainNameOfApi" not in usual
    assert evaluated(named["Outputs"]["BaseUrl"]["Value"], named) == {
        "Fn::Sub": "https://${DomainName}"
    }


def test_data_key_is_that_of_everything_at_rest(full: dict[str, Any]) -> None:
    table = full["Table"]["Properties"]["SSESpecification"]

    assert table == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}
    for queue in of_type(full, "AWS::SQS::Queue"):
        assert (queue["KmsMasterKeyId"], queue["SqsManagedSseEnabled"]) == (KEY, False)
    for secret in of_type(full, "AWS::SecretsManager::Secret"):
        assert secret["KmsKeyId"] == KEY
    assert roles_of(full["UseDataKey"]) == ROLES


@pytest.mark.parametrize("role", sorted(ROLES))
def test_data_key_is_used_by_the_services_that_hold_the_data_alone(
    full: dict[str, Any], role: str
) -> None:
    statements = statements_of(full, role)

    def may(action: str, key: str = KEY, **context: str) -> bool:
        keys = {f"kms:{name}": (value,) for name, value in context.items()}
        return allows(statements, Request(f"kms:{action}", key, keys))

    for service in ("dynamodb", "secretsmanager", "sqs"):
        name = f"{service}.${{AWS::Region}}.amazonaws.com"
        assert may("Decrypt", ViaService=name)
        assert may("GenerateDataKey", ViaService=name)
        assert not may("Encrypt", ViaService=name)
        assert not may("Decrypt", KEY.replace("key/1", "key/2"), ViaService=name)
    assert not may("Decrypt", ViaService="s3.${AWS::Region}.amazonaws.com")
    assert not may("Decrypt")


def test_relay_alone_assumes_the_named_roles_of_clusters(full: dict[str, Any]) -> None:
    named = EVERY_OPTION["ClusterRoleArns"].split(",")
    others = "arn:aws:iam::222222222222:role/three"

    may = {
        (role, arn)
        for role in ROLES
        for arn in (*named, others)
        if allows(statements_of(full, role), Request("sts:AssumeRole", arn))
    }

    assert may == {("RelayRole", arn) for arn in named}


def test_each_optional_statement_is_there_for_its_parameter(
    usual: dict[str, Any], full: dict[str, Any]
) -> None:
    def added(role: str) -> set[str]:
        before = {each.sid for each in statements_of(usual, role)}
        return {each.sid for each in statements_of(full, role)} - before

    everyones = {"UseDataKey", "HaveNetworkInterfaces", "NotFromTheCode"}
    assert {role: added(role) for role in ROLES} == {
        role: everyones | ({"AssumeClusterRoles"} if role == "RelayRole" else set())
        for role in ROLES
    }


def test_without_a_data_key_everything_is_encrypted_by_aws(usual: dict[str, Any]) -> None:
    assert "UseDataKey" not in usual
    assert usual["Table"]["Properties"]["SSESpecification"] == {"SSEEnabled": True}
    for queue in of_type(usual, "AWS::SQS::Queue"):
        assert queue["SqsManagedSseEnabled"] is True
        assert "KmsMasterKeyId" not in queue
    for secret in of_type(usual, "AWS::SecretsManager::Secret"):
        assert "KmsKeyId" not in secret


def test_permissions_boundary_is_that_of_every_role(
    usual: dict[str, Any], full: dict[str, Any]
) -> None:
    assert not any("PermissionsBoundary" in role for role in of_type(usual, "AWS::IAM::Role"))
    assert {role.get("PermissionsBoundary") for role in of_type(full, "AWS::IAM::Role")} == {
        BOUNDARY
    }


def of_type(made: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [resource["Properties"] for resource in made.values() if resource["Type"] == kind]


def roles_of(policy: dict[str, Any]) -> set[str]:
    return {role["Ref"] for role in policy["Properties"]["Roles"]}


def executes(api: dict[str, Any]) -> bool:
    """Whether the name that AWS gives an API answers."""
    (server,) = api["Body"]["servers"]
    return not server["x-amazon-apigateway-endpoint-configuration"]["disableExecuteApiEndpoint"]


def test_each_test_that_the_security_page_names_is_there() -> None:
    page = (TEMPLATE.parent / "docs/security.md").read_text()
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", page))

    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_a_rate_an_address_puts_a_firewall_before_this_api_s_stage_and_blocks_with_429(
    usual: dict[str, Any], full: dict[str, Any]
) -> None:
    (stage,) = (n for n, r in full.items() if r["Type"] == "AWS::ApiGateway::Stage")
    firewall = full["ExchangeFirewall"]["Properties"]
    association = full["ExchangeFirewallAssociation"]["Properties"]

    assert {"ExchangeFirewall", "ExchangeFirewallAssociation"}.isdisjoint(usual)
    # AWS WAF, AssociateWebACL: the form of a REST API's stage, which has no account in it.
    arn = "arn:${AWS::Partition}:apigateway:${AWS::Region}::/restapis/${JobgateApi}/stages/"
    assert association == {
        "ResourceArn": {"Fn::Sub": f"{arn}${{{stage}}}"},
        "WebACLArn": {"Fn::GetAtt": ["ExchangeFirewall", "Arn"]},
    }
    assert firewall["Scope"] == "REGIONAL"
    assert firewall["DefaultAction"] == {"Allow": {}}
    (rule,) = firewall["Rules"]
    assert rule["Action"] == {"Block": {"CustomResponse": {"ResponseCode": 429}}}
    assert rule["Statement"]["RateBasedStatement"]["Limit"] == "100"
