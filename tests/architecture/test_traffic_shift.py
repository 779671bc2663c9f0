"""How traffic moves to a new version of the functions behind the API, as translated."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cfnlint.api
import pytest

from local.cloudformation import resources as evaluated_resources
from local.sam_template import read_template, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"
SHIFTED = ("GitlabWebhookFunction", "RelayFunction", "TokenExchangeFunction")
CANARY = {"TrafficShift": "Canary10Percent10Minutes"}
# Of the whole function, and not of one of its versions.
NOT_VERSIONED = {"DeploymentPreference", "Events", "ReservedConcurrentExecutions"}


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    return read_template(TEMPLATE)


@pytest.fixture(scope="module")
def canary() -> dict[str, Any]:
    return translate(TEMPLATE, CANARY)


def parameters_in(value: Any, template: dict[str, Any]) -> Iterator[str]:
    """The parameters that a value depends on, by itself or by a condition."""
    if isinstance(value, list):
        for item in value:
            yield from parameters_in(item, template)
    if not isinstance(value, dict):
        return
    for name, argument in value.items():
        if name == "Ref":
            yield argument
        elif name == "Fn::Sub":
            yield from re.findall(r"\$\{(\w+)\}", json.dumps(argument))
            yield from parameters_in(argument, template)
        elif name == "Condition" and isinstance(argument, str):
            yield from parameters_in(template["Conditions"][argument], template)
        elif name == "Fn::If":
            yield from parameters_in(template["Conditions"][argument[0]], template)
            yield from parameters_in(argument[1:], template)
        else:
            yield from parameters_in(argument, template)


def test_every_parameter_that_a_version_was_made_with_gives_it_another_number(
    written: dict[str, Any],
) -> None:
    """Else a changed parameter would wait for the next change of code, unseen."""
    functions = [written["Globals"]["Function"]] + [
        {
            name: value
            for name, value in written["Resources"][function]["Properties"].items()
            if name not in NOT_VERSIONED
        }
        for function in SHIFTED
    ]
    content = written["Resources"]["SettingsVersion"]["Properties"]["Content"]

    used = set(parameters_in(functions, written)) & written["Parameters"].keys()

    assert used == set(parameters_in(content, written)) & written["Parameters"].keys()


@pytest.mark.parametrize("function", SHIFTED)
def test_a_version_says_which_settings_it_has(written: dict[str, Any], function: str) -> None:
    """The function's own says it too: Lambda makes no version of a function without a change."""
    properties = written["Resources"][function]["Properties"]

    assert "${SettingsVersion}" in properties["Description"]["Fn::Sub"]
    assert "${SettingsVersion}" in properties["VersionDescription"]["Fn::Sub"]
    assert written["Resources"]["SharedLayer"]["Properties"]["PublishLambdaVersion"] is True


def test_the_routes_lead_to_what_traffic_is_moved_by(canary: dict[str, Any]) -> None:
    body = json.dumps(canary["Resources"]["JobgateApi"]["Properties"]["Body"])

    led = set(re.findall(r"/functions/\$\{(\w+)(?:\.Arn)?\}", body))

    assert led == {f"{function}Aliaslive" for function in SHIFTED}


def test_codedeploy_is_there_only_where_traffic_is_to_shift(canary: dict[str, Any]) -> None:
    def found(template: dict[str, Any]) -> set[str]:
        kept = evaluated_resources(template)
        types = {each["Type"].partition("::")[2] for each in kept.values()}
        return {each for each in types if each.startswith("CodeDeploy")} | (
            {"TrafficShiftRole"} & kept.keys()
        )

    assert found(translate(TEMPLATE, {})) == set()
    assert found(canary) == {
        "CodeDeploy::Application",
        "CodeDeploy::DeploymentGroup",
        "TrafficShiftRole",
    }


@pytest.mark.parametrize("function", SHIFTED)
def test_a_new_version_that_alarms_is_taken_back(canary: dict[str, Any], function: str) -> None:
    resources = canary["Resources"]
    group = resources[f"{function}DeploymentGroup"]["Properties"]
    alarms = {alarm["Name"]["Ref"] for alarm in group["AlarmConfiguration"]["Alarms"]}
    policy = resources[f"{function}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]

    assert "InternalFailuresAlarm" in alarms
    assert {f"{name.removesuffix('Function')}ErrorsAlarm" for name in SHIFTED} <= alarms
    assert all(resources[alarm]["Type"] == "AWS::CloudWatch::Alarm" for alarm in alarms)
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    assert policy["DeploymentGroupName"] == {"Ref": f"{function}DeploymentGroup"}
    assert "Canary10Percent10Minutes" in json.dumps(group["DeploymentConfigName"])


def test_codedeploy_may_move_these_aliases_and_no_other(canary: dict[str, Any]) -> None:
    role = canary["Resources"]["TrafficShiftRole"]["Properties"]
    (policy,) = role["Policies"]
    moved, _ = policy["PolicyDocument"]["Statement"]

    assert sorted(each["Fn::Sub"] for each in moved["Resource"]) == [
        f"${{{function}.Arn}}:live" for function in SHIFTED
    ]
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {
        "Service": "codedeploy.amazonaws.com"
    }


def test_the_template_that_shifts_has_no_finding_of_cfn_lint(canary: dict[str, Any]) -> None:
    findings = cfnlint.api.lint_all(json.dumps(canary))

    assert [str(found) for found in findings if found.rule.severity != "informational"] == []
