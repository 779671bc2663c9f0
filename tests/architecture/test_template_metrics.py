"""Metrics, alarms and the dashboard, read from what CloudFormation would get."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jobgate.adapters.log import failure_line, failure_text
from jobgate.core.reasons import Reason

from local.sam_template import translate

REPOSITORY = Path(__file__).resolve().parents[2]
NAMESPACE = {"Fn::Sub": "Jobgate/${AWS::StackName}"}


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = translate(REPOSITORY / "template.yaml", {})["Resources"]
    return found


def test_each_alarm_has_a_paragraph_for_whoever_it_wakes(resources: dict[str, Any]) -> None:
    runbook = (REPOSITORY / "docs/operations.md").read_text()
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")

    assert {name for name in alarms if f"**`{name}`**" not in runbook} == set()
    assert set(re.findall(r"\*\*`(\w+Alarm)`\*\*", runbook)) == alarms.keys()


def test_each_alarm_tells_the_topic_if_there_is_one(resources: dict[str, Any]) -> None:
    told = {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}

    for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == told


def test_each_metric_of_ours_that_an_alarm_or_the_dashboard_names_is_published(
    resources: dict[str, Any],
) -> None:
    published = {
        transformation["MetricName"]
        for each in of_type(resources, "AWS::Logs::MetricFilter").values()
        for transformation in each["MetricTransformations"]
        if transformation["MetricNamespace"] == NAMESPACE
    }
    watched = {
        alarm["MetricName"]
        for alarm in of_type(resources, "AWS::CloudWatch::Alarm").values()
        if alarm["Namespace"] == NAMESPACE
    }
    shown = set(re.findall(r'"Jobgate/\$\{AWS::StackName\}", "(\w+)"', dashboard(resources)))
    searched = set(re.findall(r'MetricName=\\"(\w+)\\"', dashboard(resources)))

    assert watched | shown | searched <= published


# What an operator must be able to see, and the metric that shows it.
WANTED = {
    "decisions by outcome and reason": {
        "ExchangesAllowed",
        "ExchangesRefused",
        "RequestsAllowed",
        "RequestsRefused",
    },
    "how long a push waits": {"ApproximateAgeOfOldestMessage"},
    "age of the last good configuration": {"ConfigurationAge"},
    "streams that were cut": {"StreamCuts"},
    "cold starts": {"ExchangesColdStart", "RequestsColdStart"},
    "clusters' errors": {"UpstreamErrors"},
    "days until GitLab's token ends": {"GitLabTokenDaysLeft"},
}


@pytest.mark.parametrize("what", WANTED)
def test_what_an_operator_must_see_is_on_the_dashboard(
    resources: dict[str, Any], what: str
) -> None:
    missing = [name for name in WANTED[what] if name not in dashboard(resources)]

    assert missing == []


@pytest.mark.parametrize("name", ["ExchangesRefusedFilter", "RequestsRefusedFilter"])
def test_refusals_are_counted_by_their_reason(resources: dict[str, Any], name: str) -> None:
    (transformation,) = resources[name]["Properties"]["MetricTransformations"]

    assert transformation["Dimensions"] == [{"Key": "Reason", "Value": "$.reason"}]


def test_each_reason_that_a_metric_counts_is_one_of_the_list(resources: dict[str, Any]) -> None:
    patterns = [
        each["FilterPattern"] for each in of_type(resources, "AWS::Logs::MetricFilter").values()
    ]
    counted = {reason for text in patterns for reason in re.findall(r'reason = "(\w+)"', text)}

    assert counted
    assert counted <= {str(reason) for reason in Reason}


def test_undecided_is_every_reason_that_means_unknown(resources: dict[str, Any]) -> None:
    unknown = {str(reason) for reason in Reason if reason.endswith("_unknown")}

    for name in ("ExchangesUndecidedFilter", "RequestsUndecidedFilter"):
        pattern = resources[name]["Properties"]["FilterPattern"]
        assert set(re.findall(r'reason = "(\w+)"', pattern)) == unknown


def test_two_rounds_that_can_not_renew_a_clusters_token_wake_somebody(
    resources: dict[str, Any],
) -> None:
    """The pattern's fields are `usecases/renewal.py`'s, whose lines test_renewal compares."""
    told = resources["CredentialFailuresFilter"]["Properties"]
    alarm = resources["CredentialFailuresAlarm"]["Properties"]

    assert told["FilterPattern"] == '{ $.type = "cluster_credential" && $.error = * }'
    assert told["LogGroupName"] == {"Ref": "ReconcileLogGroup"}
    (metric,) = told["MetricTransformations"]
    assert (alarm["MetricName"], metric["MetricValue"]) == (metric["MetricName"], "1")
    judged = ("Statistic", "Period", "EvaluationPeriods", "Threshold", "ComparisonOperator")
    assert {name: alarm[name] for name in judged} == {
        "Statistic": "Sum",
        "Period": 300,
        "EvaluationPeriods": 2,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    }


def test_a_schedule_that_fails_in_each_round_wakes_somebody(resources: dict[str, Any]) -> None:
    alarm, an_hour, a_round = resources["ReconcileErrorsAlarm"]["Properties"], 3600, 300
    period, wanted = alarm["Period"], alarm["EvaluationPeriods"]
    counts = [0] * (an_hour // period)
    for failed_at in range(0, an_hour, a_round):
        counts[failed_at // period] += 1

    breaching = "".join("x" if count >= alarm["Threshold"] else "." for count in counts)

    assert alarm["TreatMissingData"] == "notBreaching"
    assert "x" * wanted in breaching


def test_dashboard_is_json(resources: dict[str, Any]) -> None:
    widgets = json.loads(dashboard(resources))["widgets"]

    places = {(widget["x"], widget["y"]) for widget in widgets}
    assert len(places) == len(widgets)


def dashboard(resources: dict[str, Any]) -> str:
    body: str = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    return body


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == kind
    }


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("TokenExchange", json.dumps({"message": failure_text("r-1", ValueError("secret"))})),
        ("GitlabWebhook", json.dumps({"message": failure_text("r-1", ValueError("secret"))})),
        ("Relay", failure_line("r-1", "ValueError")),
    ],
)
def test_an_answer_of_500_is_counted_by_the_line_that_it_leaves(
    resources: dict[str, Any], function: str, line: str
) -> None:
    """A new version's bug is no error of Lambda's: the function answers."""
    made = resources[f"{function}FailuresFilter"]["Properties"]
    found = re.fullmatch(r'\{ \$\.(\w+) = "([^"]+)" \}', made["FilterPattern"])

    assert found
    assert fnmatch.fnmatchcase(json.loads(line)[found[1]], found[2])
    assert made["LogGroupName"] == {"Ref": f"{function}LogGroup"}
    assert made["MetricTransformations"][0]["MetricName"] == "InternalFailures"
