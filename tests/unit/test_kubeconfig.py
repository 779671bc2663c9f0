from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from jobgate.core.kubeconfig import exec_credential, exec_kubeconfig, kubeconfig

from tests.support import builders as b

if TYPE_CHECKING:
    from pathlib import Path

STAGING = b.a_grant(b.STAGING, name="staging", context="top/sub1/agents:staging")


def test_one_grant_is_the_current_context() -> None:
    config = kubeconfig(
        [b.a_grant(namespace="payments")], access_token="secret", base_url=b.BASE_URL, ca=None
    )

    assert config == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "agent:501", "cluster": {"server": f"{b.BASE_URL}/agents/501"}},
        ],
        "users": [{"name": "agent:501", "user": {"token": "secret"}}],
        "contexts": [
            {
                "name": "top/sub1/agents:prod",
                "context": {"cluster": "agent:501", "user": "agent:501", "namespace": "payments"},
            }
        ],
        "current-context": "top/sub1/agents:prod",
    }


def test_several_grants_have_no_current_context() -> None:
    config = kubeconfig([b.a_grant(), STAGING], access_token="t", base_url=b.BASE_URL, ca=None)

    assert "current-context" not in config
    assert [context["name"] for context in config["contexts"]] == [
        "top/sub1/agents:prod",
        "top/sub1/agents:staging",
    ]


def test_names_in_each_list_are_unique() -> None:
    config = kubeconfig([b.a_grant(), STAGING], access_token="t", base_url=b.BASE_URL, ca=None)

    for part in ("clusters", "users", "contexts"):
        names = [entry["name"] for entry in config[part]]
        assert len(names) == len(set(names))


def test_a_context_without_a_namespace_names_none() -> None:
    config = kubeconfig([b.a_grant()], access_token="t", base_url=b.BASE_URL, ca=None)

    assert "namespace" not in config["contexts"][0]["context"]


def test_a_private_authority_travels_with_every_cluster() -> None:
    config = kubeconfig([b.a_grant(), STAGING], access_token="t", base_url=b.BASE_URL, ca="PEM\n")

    authorities = [c["cluster"]["certificate-authority-data"] for c in config["clusters"]]
    assert authorities == ["UEVNCg==", "UEVNCg=="]


def test_the_json_is_yaml() -> None:
    config = kubeconfig([b.a_grant()], access_token="t", base_url=b.BASE_URL, ca=None)

    assert yaml.safe_load(json.dumps(config, indent=2)) == config


def test_the_exec_form_differs_in_its_users_alone() -> None:
    grants = [b.a_grant(namespace="payments"), STAGING]
    plain = kubeconfig(grants, access_token="t", base_url=b.BASE_URL, ca="PEM")
    config = exec_kubeconfig(grants, base_url=b.BASE_URL, ca="PEM")

    assert {**config, "users": None} == {**plain, "users": None}
    assert [user["name"] for user in config["users"]] == ["agent:501", "agent:502"]


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


class Plugin:
    """Runs the kubeconfig's plugin with a program of ours in curl's place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = exec_kubeconfig([b.a_grant()], base_url=b.BASE_URL, ca=None)
        self.plugin = config["users"][0]["user"]["exec"]

    def run(self, curl: str = "cat", **environment: str) -> tuple[int, str, str]:
        program = self.folder / "curl"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {self.folder}/arguments\n{curl}\n')
        program.chmod(0o755)
        given = {each["name"]: each["value"] for each in self.plugin["env"]}
        done = subprocess.run(
            [shutil.which(self.plugin["command"]) or "sh", *self.plugin["args"]],
            env={"PATH": f"{self.folder}:{os.defpath}", **environment, **given},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    @property
    def arguments(self) -> str:
        return (self.folder / "arguments").read_text()


def test_the_plugin_hands_the_token_over_by_standard_input_alone(plugin: Plugin) -> None:
    assert plugin.run(JOBGATE_ID_TOKEN="canary") == (0, "canary\n", "")
    assert "canary" not in plugin.arguments
    assert f"{b.BASE_URL}/credential?agent=top%2Fsub1%2Fagents%3Aprod" in plugin.arguments


def test_the_plugin_lets_no_curlrc_turn_verification_off(plugin: Plugin) -> None:
    plugin.run(JOBGATE_ID_TOKEN="canary")
    # curl(1): only as the first argument.
    assert plugin.arguments.splitlines()[0] == "-q"


def test_the_plugin_reads_the_token_from_a_file(plugin: Plugin, tmp_path: Path) -> None:
    file = tmp_path / "id token"
    file.write_text("canary\n")

    ended = plugin.run(JOBGATE_ID_TOKEN_FILE=str(file), JOBGATE_ID_TOKEN="stale")

    assert ended == (0, "canary\n", "")


def test_without_a_token_the_plugin_says_what_to_set(plugin: Plugin) -> None:
    code, output, error = plugin.run()

    assert (code, output) == (1, "")
    assert (
        error == "Jobgate: set JOBGATE_ID_TOKEN or JOBGATE_ID_TOKEN_FILE to the job's ID token.\n"
    )


def test_a_file_that_is_not_there_ends_the_plugin(plugin: Plugin) -> None:
    code, output, _ = plugin.run(JOBGATE_ID_TOKEN_FILE="/nowhere", JOBGATE_ID_TOKEN="stale")

    assert (code, output) == (1, "")


def test_a_refusal_is_told_on_standard_error_and_is_no_credential(plugin: Plugin) -> None:
    ended = plugin.run('printf "no more access"; exit 22', JOBGATE_ID_TOKEN="x")

    assert ended == (22, "", "Jobgate: no more access\n")


@pytest.mark.parametrize("context", ["top/a b:prod", "top/ä:prod", "t&agent=x:prod", "t'\"$(x):p"])
def test_a_context_is_one_parameter_of_the_credentials_url(context: str) -> None:
    config = exec_kubeconfig([b.a_grant(context=context)], base_url=b.BASE_URL, ca=None)

    url = config["users"][0]["user"]["exec"]["env"][0]["value"]
    assert parse_qs(urlsplit(url).query) == {"agent": [context]}


@pytest.mark.parametrize(("lives", "renewed"), [(3600, 3540), (60, 0), (5, -55)])
def test_a_credential_is_renewed_a_minute_before_it_ends(lives: int, renewed: int) -> None:
    now = int(b.NOW)
    credential = exec_credential("t", expires_at=now + lives)

    at = dt.datetime.fromisoformat(credential["status"]["expirationTimestamp"])
    assert at.timestamp() - now == renewed
