"""What the template promises, read from what CloudFormation would get."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cfnlint.api
import pytest
from jobgate import wiring
from jobgate.core import kubernetes_status
from jobgate.core.bounds import Bounds
from jobgate.core.reasons import Reason
from jobgate.core.settings import Settings

from local.sam_template import translate

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATE = REPOSITORY / "template.yaml"

FUNCTIONS = {
    "GitlabWebhookFunction": "gitlab_webhook",
    "ConfigRefreshFunction": "config_refresh",
    "ReconcileFunction": "reconcile",
    "TokenExchangeFunction": "token_exchange",
    "RelayFunction": "relay",
}

ROUTES = {
    ("post", "/token", "TokenExchangeFunction"),
    ("get", "/kubeconfig", "TokenExchangeFunction"),
    ("post", "/kubeconfig", "TokenExchangeFunction"),
    ("get", "/credential", "TokenExchangeFunction"),
    ("post", "/credential", "TokenExchangeFunction"),
    ("get", "/explain", "TokenExchangeFunction"),
    ("post", "/explain", "TokenExchangeFunction"),
    ("get", "/.well-known/openid-configuration", "TokenExchangeFunction"),
    ("get", "/.well-known/jwks.json", "TokenExchangeFunction"),
    ("post", "/webhooks/gitlab/{alias}", "GitlabWebhookFunction"),
    ("x-amazon-apigateway-any-method", "/agents/{agent_id}", "RelayFunction"),
    ("x-amazon-apigateway-any-method", "/agents/{agent_id}/{proxy+}", "RelayFunction"),
}

# Status and Kubernetes' reason of each answer of API Gateway's own that the template words.
GATEWAY_RESPONSES = {
    "MISSING_AUTHENTICATION_TOKEN": (404, "NotFound"),
    "REQUEST_TOO_LARGE": (413, "RequestEntityTooLarge"),
    "THROTTLED": (429, "TooManyRequests"),
    "QUOTA_EXCEEDED": (429, "TooManyRequests"),
    "INTEGRATION_TIMEOUT": (504, "Timeout"),
    "INTEGRATION_FAILURE": (502, "BadGateway"),
    "DEFAULT_4XX": (None, "BadRequest"),
    "DEFAULT_5XX": (None, "InternalError"),
}

VARIABLES = {
    "GitlabWebhookFunction": {
        "JOBGATE_TABLE",
        "JOBGATE_GITLAB_HOOKS_SECRET",
        "JOBGATE_REFRESH_QUEUE_URL",
        "JOBGATE_CHAIN_FRESH",
        "JOBGATE_JOB_KEPT",
    },
    "ConfigRefreshFunction": {
        "JOBGATE_TABLE",
        "JOBGATE_GITLAB_TOKENS_SECRET",
        "JOBGATE_GITLAB_STATUS_TOKEN_SECRET",
        "JOBGATE_REFRESH_QUEUE_URL",
        "JOBGATE_INSTANCE_WIDE",
        "JOBGATE_ENTRY_LIMIT",
        "JOBGATE_ALLOWED_IDENTITIES",
        "JOBGATE_COMMIT_STATUS",
        "JOBGATE_ISSUERS_MAX_AGE",
        "JOBGATE_CHAIN_FRESH",
        "JOBGATE_JOB_KEPT",
    },
    "ReconcileFunction": {
        "JOBGATE_TABLE",
        "JOBGATE_REFRESH_QUEUE_URL",
        "JOBGATE_GITLAB_TOKENS_SECRET",
        "JOBGATE_GITLAB_HOOKS_SECRET",
        "JOBGATE_GITLAB_JOB_HOOKS_TOKEN_SECRET",
        "JOBGATE_ISSUERS_MAX_AGE",
    },
    "TokenExchangeFunction": {
        "JOBGATE_TABLE",
        "JOBGATE_GITLAB_TOKENS_SECRET",
        "JOBGATE_INSTANCE_WIDE",
        "JOBGATE_FORK_JOBS",
        "JOBGATE_LEGACY_SLUGS",
        "JOBGATE_ALLOWED_IDENTITIES",
        "JOBGATE_CONFIG_DOUBT",
        "JOBGATE_PROJECT_RATE",
        "JOBGATE_STRANGER_RATE",
        "JOBGATE_TOKEN_MAX",
        "JOBGATE_UNOBSERVED_LIFE",
        "JOBGATE_LEEWAY",
        "JOBGATE_CHAIN_FRESH",
        "JOBGATE_CHAIN_MAX_AGE",
        "JOBGATE_LAZY_BUDGET",
        "JOBGATE_ISSUERS_MAX_AGE",
        "JOBGATE_JWKS_MAX_AGE",
        "JOBGATE_JWKS_STALE",
        "JOBGATE_JOB_KEPT",
        "JOBGATE_PROBE_FLOOR",
        "JOBGATE_PROBE_GRACE",
        "JOBGATE_HOOK_SILENCE",
        "JOBGATE_JOB_END",
    },
    "RelayFunction": {
        "AWS_LAMBDA_EXEC_WRAPPER",
        "JOBGATE_TABLE",
        "JOBGATE_GITLAB_TOKENS_SECRET",
        "JOBGATE_INSTANCE_WIDE",
        "JOBGATE_LEGACY_SLUGS",
        "JOBGATE_ALLOWED_IDENTITIES",
        "JOBGATE_CONFIG_DOUBT",
        "JOBGATE_RELAY_CACHE",
        "JOBGATE_UNOBSERVED_LIFE",
        "JOBGATE_JOB_KEPT",
        "JOBGATE_LEEWAY",
        "JOBGATE_CHAIN_FRESH",
        "JOBGATE_CHAIN_MAX_AGE",
        "JOBGATE_LAZY_BUDGET",
        "JOBGATE_STREAM_KEEPALIVE",
        "JOBGATE_ISSUERS_MAX_AGE",
        "JOBGATE_PROBE_FLOOR",
        "JOBGATE_PROBE_GRACE",
        "JOBGATE_HOOK_SILENCE",
        "JOBGATE_JOB_END",
    },
}

# Each secret, as a statement's resource names it, with the functions that may read it.
SECRET_READERS = {
    "GitLabTokens": {
        "ConfigRefreshFunction",
        "ReconcileFunction",
        "TokenExchangeFunction",
        "RelayFunction",
    },
    "GitLabStatusToken": {"ConfigRefreshFunction"},
    "GitLabHooks": {"GitlabWebhookFunction", "ReconcileFunction"},
    "GitLabJobHooksToken": {"ReconcileFunction"},
    "jobgate/${AWS::StackName}/cluster/*": {"ReconcileFunction", "RelayFunction"},
}
SECRET_WRITES = {"secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"}
CLUSTER_SECRETS = (
    "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:"
    "jobgate/${AWS::StackName}/cluster/*"
)

# A key of every kind of item that the operators' command alone writes.
OPERATORS_KEYS = (
    "CLUSTER#default#1000000001",
    "KEYS",
    "ISSUERS",
    "STOPS#default",
    "AGENT_IDS#default",
    "SETTINGS",
)
READS = {
    "dynamodb:GetItem",
    "dynamodb:BatchGetItem",
    "dynamodb:Query",
    "dynamodb:ConditionCheckItem",
}
KNOW_THE_TABLE = "dynamodb:DescribeTable"  # of no item, so without leading keys
WRITES = {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}

LOG_POLICY = (
    "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
)

# Where a policy holds a wildcard, or isn't written here at all, and why it must.
WILDCARDS = {
    # A key policy's resource is the key itself, written "*"; and without the account's own right a
    # key becomes unmanageable, so this is AWS's default policy. IAM then decides: no role but
    # token_exchange's has kms:Sign.
    ("SigningKeyA", "kms:*"),
    ("SigningKeyA", "*"),
    ("SigningKeyB", "kms:*"),
    ("SigningKeyB", "*"),
    # Clusters' secrets are made by `jobgate agent register`, after the deployment.
    ("RelayRole", CLUSTER_SECRETS),
    ("ReconcileRole", CLUSTER_SECRETS),
    # CloudWatch's DescribeAlarms knows no resource.
    ("TrafficShiftRole", "*"),
    # AWS's own, with every log group in it: the role is the account's, for all its APIs.
    ("ApiGatewayLogRole", LOG_POLICY),
}


# With subnets, Lambda makes network interfaces by the function's role; EC2 knows no resource for an
# interface that isn't there yet, nor for a Describe. The denial is for the function's own code.
NETWORK_WILDCARDS = {("UseSubnets", "*"), ("UseSubnets", "ec2:*")}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return translate(TEMPLATE, {})


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"]
    return found


def test_translated_template_has_no_finding_of_cfn_lint(template: dict[str, Any]) -> None:
    findings = cfnlint.api.lint_all(json.dumps(template))

    assert [str(found) for found in findings if found.rule.severity != "informational"] == []


def test_routes_are_those_of_the_contract(resources: dict[str, Any]) -> None:
    routes = {(method, path, function) for method, path, function, _ in integrations(resources)}

    assert routes == ROUTES


def test_relay_streams_for_fifteen_minutes(resources: dict[str, Any]) -> None:
    streaming = [found for *_, function, found in integrations(resources) if is_relay(function)]

    assert len(streaming) == 2
    for integration in streaming:
        assert integration["responseTransferMode"] == "STREAM"
        assert integration["timeoutInMillis"] == 900_000
        assert integration["uri"]["Fn::Sub"].endswith("/response-streaming-invocations")


def test_no_route_but_the_relay_streams(resources: dict[str, Any]) -> None:
    for *_, function, integration in integrations(resources):
        if not is_relay(function):
            assert "responseTransferMode" not in integration
            assert "timeoutInMillis" not in integration
            assert integration["uri"]["Fn::Sub"].endswith("Aliaslive}/invocations")


def test_every_route_but_the_relays_has_a_limit_of_its_own(resources: dict[str, Any]) -> None:
    (stage,) = of_type(resources, "AWS::ApiGateway::Stage").values()
    limited = {
        (each["HttpMethod"].lower(), each["ResourcePath"].removeprefix("/").replace("~1", "/")): (
            each["ThrottlingRateLimit"]["Ref"],
            each["ThrottlingBurstLimit"]["Ref"],
        )
        for each in stage["Properties"]["MethodSettings"]
    }

    # A refused webhook is one step to a disabled one: what stops a job's requests mustn't stop it.
    assert limited == {
        (method, path): ("WebhookRate", "WebhookBurst")
        if path.startswith("/webhooks/")
        else ("ExchangeRate", "ExchangeBurst")
        for method, path, function in ROUTES
        if not is_relay(function)
    }


def test_the_firewall_is_there_only_where_a_rate_is_given(template: dict[str, Any]) -> None:
    names = ("ExchangeFirewall", "ExchangeFirewallAssociation")

    assert {template["Resources"][name]["Condition"] for name in names} == {"HasSourceRate"}
    assert template["Conditions"]["HasSourceRate"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "SourceRate"}, 0]}]
    }
    assert template["Parameters"]["SourceRate"]["Default"] == 0


@pytest.mark.parametrize(
    ("path", "is_limited"),
    [
        ("/live/token", True),
        ("/kubeconfig", True),
        ("/base/explain", True),
        ("/live/credential", True),
        ("/live/agents/1/api/v1/pods", False),
        ("/live/webhooks/gitlab/main", False),
        ("/live/tokens", False),
    ],
)
def test_the_firewall_counts_what_goes_to_the_exchange_alone(
    resources: dict[str, Any], path: str, *, is_limited: bool
) -> None:
    (rule,) = resources["ExchangeFirewall"]["Properties"]["Rules"]
    scope = rule["Statement"]["RateBasedStatement"]["ScopeDownStatement"]
    pattern = scope["RegexMatchStatement"]["RegexString"]

    assert (re.search(pattern, path) is not None) is is_limited


def test_api_takes_every_body_as_bytes(resources: dict[str, Any]) -> None:
    api = resources["JobgateApi"]["Properties"]

    assert api["Body"]["x-amazon-apigateway-binary-media-types"] == ["*/*"]


def test_the_gateways_own_answers_are_what_kubectl_prints(resources: dict[str, Any]) -> None:
    (api,) = (r for r in resources.values() if r["Type"] == "AWS::ApiGateway::RestApi")
    responses = api["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"]
    assert set(responses) == set(GATEWAY_RESPONSES)
    for kind, (code, reason) in GATEWAY_RESPONSES.items():
        response = responses[kind]
        # A header that asks for a repetition makes kubectl repeat for the better part of a minute.
        assert response["responseParameters"] == {
            "gatewayresponse.header.Jobgate-Decision": "context.requestId",
            "gatewayresponse.header.Cache-Control": "'no-store'",
        }
        (text,) = response["responseTemplates"].values()
        status = json.loads(text)
        message = status.pop("message")
        assert re.fullmatch(r"Jobgate: .+ \(.*decision \$context\.requestId\)", message)
        assert status == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "reason": reason,
            **({} if code is None else {"code": code}),
        }
        assert response.get("statusCode") == (None if code is None else str(code))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("REQUEST_TOO_LARGE", Reason.TOO_LARGE),
        ("THROTTLED", Reason.THROTTLED),
        ("QUOTA_EXCEEDED", Reason.THROTTLED),
    ],
)
def test_the_gateway_and_the_relay_use_the_same_words(
    resources: dict[str, Any], kind: str, reason: Reason
) -> None:
    (api,) = (r for r in resources.values() if r["Type"] == "AWS::ApiGateway::RestApi")
    response = api["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"][kind]
    ours = kubernetes_status.status(reason, decision_id="$context.requestId")
    assert json.loads(response["responseTemplates"]["application/json"]) == ours


def test_functions_are_those_that_have_a_handler_and_a_build(resources: dict[str, Any]) -> None:
    makefile = (REPOSITORY / "functions/Makefile").read_text()

    assert set(of_type(resources, "AWS::Lambda::Function")) == FUNCTIONS.keys()
    for logical_id, folder in FUNCTIONS.items():
        assert resources[logical_id]["Properties"]["Handler"] == "app.handler"
        assert (REPOSITORY / "functions" / folder / "app.py").is_file()
        assert f'build-{logical_id}: ; cp {folder}/app.py "$(ARTIFACTS_DIR)/"\n' in makefile


@pytest.mark.parametrize("logical_id", FUNCTIONS)
def test_function_gets_the_variables_that_it_uses(
    resources: dict[str, Any], logical_id: str
) -> None:
    variables = resources[logical_id]["Properties"]["Environment"]["Variables"]

    assert set(variables) == VARIABLES[logical_id]


def test_every_bound_is_a_parameter_with_the_code_s_default(template: dict[str, Any]) -> None:
    bounds = {
        name.removesuffix("Seconds"): parameter["Default"]
        for name, parameter in template["Parameters"].items()
        if name.endswith("Seconds")
    }

    assert bounds == {camel_case(field.name): field.default for field in fields(Bounds)}


def test_every_bound_reaches_a_function_under_its_own_name(template: dict[str, Any]) -> None:
    given = {
        (name, value["Ref"])
        for function in of_type(template["Resources"], "AWS::Lambda::Function").values()
        for name, value in function["Properties"]["Environment"]["Variables"].items()
        if isinstance(value, dict) and str(value.get("Ref")).endswith("Seconds")
    }

    assert given == {
        (f"JOBGATE_{field.name.upper()}", f"{camel_case(field.name)}Seconds")
        for field in fields(Bounds)
    }


def test_every_setting_is_a_parameter_with_the_code_s_default(template: dict[str, Any]) -> None:
    defaults = {
        f"JOBGATE_{field.name.upper()}": str(
            template["Parameters"][camel_case(field.name)]["Default"]
        )
        for field in fields(Settings)
    }

    assert Settings.from_environment(defaults) == Settings()


def test_every_setting_reaches_a_function_under_its_own_name(template: dict[str, Any]) -> None:
    names = {f"JOBGATE_{field.name.upper()}": camel_case(field.name) for field in fields(Settings)}
    given = {
        (name, value["Ref"])
        for function in of_type(template["Resources"], "AWS::Lambda::Function").values()
        for name, value in function["Properties"]["Environment"]["Variables"].items()
        if name in names
    }

    assert given == set(names.items())


def test_every_function_has_a_role_and_a_log_group_of_its_own(resources: dict[str, Any]) -> None:
    functions = of_type(resources, "AWS::Lambda::Function")
    roles = {function["Properties"]["Role"]["Fn::GetAtt"][0] for function in functions.values()}
    groups = {log_group(function) for function in functions.values()}

    assert len(roles) == len(groups) == len(functions)
    for group in groups:
        assert resources[group]["Properties"]["RetentionInDays"] == 90
    for function in functions.values():
        assert function["Properties"]["LoggingConfig"]["LogFormat"] == "JSON"
        assert "ManagedPolicyArns" not in resources[role_of(function)]["Properties"]


def test_function_writes_to_its_own_log_group_alone(resources: dict[str, Any]) -> None:
    for logical_id, function in of_type(resources, "AWS::Lambda::Function").items():
        logs = [
            statement
            for statement in statements(resources, logical_id)
            if any(action.startswith("logs:") for action in listed(statement["Action"]))
        ]

        assert [statement["Resource"] for statement in logs] == [
            {"Fn::GetAtt": [log_group(function), "Arn"]}
        ]


def test_no_policy_holds_a_wildcard_without_a_reason(resources: dict[str, Any]) -> None:
    assert set(wildcards(resources)) == WILDCARDS | NETWORK_WILDCARDS


def test_items_are_reached_by_named_actions_on_named_partitions(resources: dict[str, Any]) -> None:
    for logical_id in FUNCTIONS:
        for statement in item_statements(resources, logical_id):
            assert set(listed(statement["Action"])) <= READS | WRITES
            assert statement["Resource"] == {"Fn::GetAtt": ["Table", "Arn"]}
            assert leading_keys(statement)
            assert "*" not in leading_keys(statement)


def test_who_decides_alone_may_ask_for_the_tables_id_and_for_that_table_alone(
    resources: dict[str, Any],
) -> None:
    asking = {
        logical_id: statement["Resource"]
        for logical_id in FUNCTIONS
        for statement in statements(resources, logical_id)
        if statement["Action"] == KNOW_THE_TABLE
    }

    table = {"Fn::GetAtt": ["Table", "Arn"]}
    assert asking == {"TokenExchangeFunction": table, "RelayFunction": table}


@pytest.mark.parametrize("key", OPERATORS_KEYS)
@pytest.mark.parametrize("logical_id", FUNCTIONS)
def test_no_function_writes_what_the_operator_writes(
    resources: dict[str, Any], logical_id: str, key: str
) -> None:
    writable = [
        pattern
        for statement in item_statements(resources, logical_id)
        if not set(listed(statement["Action"])) <= READS
        for pattern in leading_keys(statement)
    ]

    assert [pattern for pattern in writable if fnmatchcase(key, pattern)] == []


def test_token_exchange_alone_uses_the_signing_keys_and_only_signs(
    resources: dict[str, Any],
) -> None:
    uses = {
        (logical_id, action, str(resource))
        for logical_id in FUNCTIONS
        for statement in statements(resources, logical_id)
        for action in listed(statement["Action"])
        if action.startswith("kms:")
        for resource in listed(statement["Resource"])
    }

    assert uses == {
        ("TokenExchangeFunction", "kms:Sign", str({"Fn::GetAtt": [key, "Arn"]}))
        for key in ("SigningKeyA", "SigningKeyB")
    }


def test_each_secret_is_readable_by_those_that_use_it(resources: dict[str, Any]) -> None:
    readers: dict[str, set[str]] = {}
    for logical_id in FUNCTIONS:
        for statement in statements(resources, logical_id):
            if "secretsmanager" in str(statement["Action"]):
                actions = set(listed(statement["Action"]))
                assert actions - SECRET_WRITES == {"secretsmanager:GetSecretValue"}
                given = statement["Resource"]
                for secret in given if isinstance(given, list) else [given]:
                    readers.setdefault(secret_name(secret), set()).add(logical_id)

    assert readers == SECRET_READERS


def test_reconcile_alone_writes_secrets_and_those_of_clusters_alone(
    resources: dict[str, Any],
) -> None:
    writers = {
        (logical_id, action, json.dumps(statement["Resource"]))
        for logical_id in FUNCTIONS
        for statement in statements(resources, logical_id)
        for action in listed(statement["Action"])
        if action.startswith("secretsmanager:") and action != "secretsmanager:GetSecretValue"
    }

    clusters = json.dumps({"Fn::Sub": CLUSTER_SECRETS})
    assert writers == {("ReconcileFunction", action, clusters) for action in SECRET_WRITES}


def test_a_message_in_work_stays_hidden_for_six_times_the_function_s_limit(
    resources: dict[str, Any],
) -> None:
    queue = resources["RefreshQueue"]["Properties"]
    consumer = resources["ConfigRefreshFunction"]["Properties"]

    assert queue["VisibilityTimeout"] >= 6 * consumer["Timeout"]


def test_a_refresh_that_waits_for_gitlab_to_the_last_has_time_to_publish(
    resources: dict[str, Any],
) -> None:
    # A function that is killed loses its message for six minutes, and what it remembers.
    to_read_and_to_publish = 15
    function = resources["ConfigRefreshFunction"]["Properties"]

    assert function["Timeout"] >= wiring._REFRESH_SECONDS + to_read_and_to_publish


def test_refreshes_are_fifo_a_project_and_end_in_a_dead_letter_queue(
    resources: dict[str, Any],
) -> None:
    queue = resources["RefreshQueue"]["Properties"]
    dead = resources["RefreshDeadLetterQueue"]["Properties"]
    (mapping,) = of_type(resources, "AWS::Lambda::EventSourceMapping").values()

    assert queue["FifoQueue"] is True
    assert queue["DeduplicationScope"] == "messageGroup"
    assert queue["FifoThroughputLimit"] == "perMessageGroupId"
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": ["RefreshDeadLetterQueue", "Arn"]},
        "maxReceiveCount": 5,
    }
    assert dead["FifoQueue"] is True
    assert dead["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert mapping["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["Properties"]["ScalingConfig"]["MaximumConcurrency"] >= 2


def test_what_holds_state_outlives_the_stack_and_is_protected(resources: dict[str, Any]) -> None:
    table = resources["Table"]["Properties"]

    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    for logical_id in ("Table", "SigningKeyA", "SigningKeyB"):
        assert resources[logical_id]["DeletionPolicy"] == "Retain"
        assert resources[logical_id]["UpdateReplacePolicy"] == "Retain"


def test_two_stacks_in_one_account_share_no_name(resources: dict[str, Any]) -> None:
    fixed = {
        (logical_id, name)
        for logical_id, resource in resources.items()
        for name in ("Name", "TableName", "QueueName", "FunctionName", "RoleName", "LogGroupName")
        if isinstance(resource["Properties"].get(name), str)
        # A name within a function, and one within an application.
        and resource["Type"] not in ("AWS::Lambda::Alias", "AWS::AppConfig::ConfigurationProfile")
    }

    assert fixed == set()


def test_layer_s_build_aims_at_the_template_s_default_target(template: dict[str, Any]) -> None:
    makefile = (REPOSITORY / "shared/Makefile").read_text()
    python = re.search(r"^JOBGATE_TARGET_PYTHON \?= (.+)$", makefile, re.MULTILINE)
    platforms = re.search(r"^JOBGATE_TARGET_PLATFORM \?= (.+)$", makefile, re.MULTILINE)
    parameters = template["Parameters"]

    assert python
    assert f"python{python[1]}" == parameters["PythonRuntime"]["Default"]
    assert platforms
    assert all(name.endswith("_aarch64") for name in platforms[1].split())
    assert parameters["Architecture"]["Default"] == "arm64"


def test_layer_s_requirements_are_the_same_for_every_target() -> None:
    # pip judges a marker by the Python that runs it, not by the one it installs for.
    requirements = (REPOSITORY / "shared/requirements.txt").read_text()
    markers = set(re.findall(r"\b(python_\w+|platform_\w+|sys_platform|os_name)\b", requirements))

    assert markers <= {"platform_python_implementation"}


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: resource for name, resource in resources.items() if resource["Type"] == kind}


def integrations(resources: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Method, path, function and integration of each route."""
    for path, methods in resources["JobgateApi"]["Properties"]["Body"]["paths"].items():
        for method, operation in methods.items():
            integration = operation["x-amazon-apigateway-integration"]
            function = re.search(r"functions/\$\{(\w+)Aliaslive\}/", integration["uri"]["Fn::Sub"])
            assert function
            yield method, path, function[1], integration


def is_relay(function: str) -> bool:
    return function == "RelayFunction"


def log_group(function: dict[str, Any]) -> str:
    return str(function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"])


def role_of(function: dict[str, Any]) -> str:
    return str(function["Properties"]["Role"]["Fn::GetAtt"][0])


def statements(resources: dict[str, Any], logical_id: str) -> list[dict[str, Any]]:
    """Every statement of a function's role; each must allow, so that a union tells it all."""
    role = resources[role_of(resources[logical_id])]["Properties"]
    found = [
        statement
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    assert all(statement["Effect"] == "Allow" for statement in found)
    assert not any({"NotAction", "NotResource"} & statement.keys() for statement in found)
    return found


def item_statements(resources: dict[str, Any], logical_id: str) -> list[dict[str, Any]]:
    return [
        statement
        for statement in statements(resources, logical_id)
        if any(action.startswith("dynamodb:") for action in listed(statement["Action"]))
        and statement["Action"] != KNOW_THE_TABLE
    ]


def leading_keys(statement: dict[str, Any]) -> list[str]:
    condition = statement["Condition"]
    assert condition.keys() == {"ForAllValues:StringLike"}
    keys: list[str] = condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    return keys


def secret_name(resource: dict[str, Any]) -> str:
    if "Fn::GetAtt" in resource:
        assert resource["Fn::GetAtt"][1] == "Id"
        return str(resource["Fn::GetAtt"][0])
    return str(resource["Fn::Sub"]).rpartition(":secret:")[2]


def wildcards(resources: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each action and resource with a `*`, and each policy of AWS's, of any role and key."""
    for logical_id, resource in resources.items():
        properties = resource["Properties"]
        for managed in properties.get("ManagedPolicyArns", []):
            yield logical_id, managed["Fn::Sub"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        documents += [
            properties[name] for name in ("KeyPolicy", "PolicyDocument") if name in properties
        ]
        for document in documents:
            for statement in document["Statement"]:
                for value in [*listed(statement["Action"]), *listed(statement["Resource"])]:
                    text = value.get("Fn::Sub", "") if isinstance(value, dict) else value
                    if "*" in text:
                        yield logical_id, text


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def camel_case(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def test_a_message_in_the_dead_letter_queue_raises_an_alarm(resources: dict[str, Any]) -> None:
    alarm = resources["RefreshFailuresAlarm"]["Properties"]

    assert (alarm["Namespace"], alarm["MetricName"]) == (
        "AWS/SQS",
        "ApproximateNumberOfMessagesVisible",
    )
    (dimension,) = alarm["Dimensions"]
    assert dimension["Value"] == {"Fn::GetAtt": ["RefreshDeadLetterQueue", "QueueName"]}
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")


def test_a_refresh_that_gitlab_did_not_confirm_raises_an_alarm(resources: dict[str, Any]) -> None:
    counted = resources["UnconfirmedConfigurationFilter"]["Properties"]
    alarm = resources["UnconfirmedConfigurationAlarm"]["Properties"]
    (metric,) = counted["MetricTransformations"]

    # The record's own values: tests/unit/test_refresh_doubt.py.
    assert counted["FilterPattern"] == '{ $.type = "refresh" && $.reason = "config_unknown" }'
    assert counted["LogGroupName"] == {"Ref": "ConfigRefreshLogGroup"}
    for name in ("MetricName", "MetricNamespace"):
        assert metric[name] == alarm[name.replace("MetricNamespace", "Namespace")]
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
