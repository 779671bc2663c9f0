"""`jobgate explain`: the exchange's decision on what is stored, for operators."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.adapters import agent_items, items
from jobgate.cli.registry import Registry
from jobgate.core.public_settings import PublicSettings
from moto import mock_aws

from tests.support import builders as b
from tests.support.id_tokens import ABSENT, gitlab_claims
from tests.support.operators_stack import OperatorsStack
from tests.support.stores import job_item

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AGENT = b.an_agent(projects={b.APP: b.an_entry(environments=["production"])})
HIDDEN = b.an_agent(b.STAGING, name="hidden", projects={101: b.an_entry()})


@pytest.fixture
def stack() -> Iterator[OperatorsStack]:
    with mock_aws():
        made = OperatorsStack.deploy()
        # The decision is made by the system's clock, as the deployed one is.
        made.now = now = time.time()  # noqa: TID251  see above
        registry = Registry(made.table)
        registry.prepare_issuer(b.an_issuer(), now=b.NOW)
        registry.save_issuer(b.an_issuer())
        registry.save_settings(PublicSettings(base_url=b.BASE_URL))
        config_project = agent_items.config_project_item(b.a_config_project_item())
        subject = items.subject_key("main", "project", b.APP)
        for item in (
            config_project | {"root_path": {"S": "top"}},
            subject | {items.stamp(i): {"N": "1"} for i in (b.PROD, b.STAGING)},
            agent_items.snapshot_item(AGENT),
            agent_items.snapshot_item(HIDDEN),
            items.place_item("main", b.APP, b.a_place(fetched_at=now)),
            items.place_item("main", b.CONFIG_PROJECT, b.a_config_place(fetched_at=now)),
            items.chain_item("main", b.a_chain(fetched_at=now)),
            job_item(b.a_job().key, b.a_state(seen_at=now), expires_at=int(now) + 3600),
        ):
            made.table.put(item)
        yield made


def claims_file(folder: Path, **changes: Any) -> Path:
    file = folder / "claims.json"
    file.write_text(json.dumps(gitlab_claims(**changes)))
    return file


def test_an_old_tokens_payload_is_explained_as_of_now(
    stack: OperatorsStack, tmp_path: Path
) -> None:
    file = claims_file(tmp_path, environment="production", deployment_tier="production")

    explained = stack.json("explain", "--claims", file)

    assert explained["reason"] is None
    assert [(a["context"], a["allowed"]) for a in explained["agents"]] == [
        ("top/sub1/agents:prod", True)
    ]


def test_what_is_missing_is_told_in_the_jobs_own_words(
    stack: OperatorsStack, tmp_path: Path
) -> None:
    answer = stack.run("explain", "--claims", claims_file(tmp_path))

    assert answer.code == 0
    assert "refused  top/sub1/agents:prod: no_environment\n" in answer.out
    assert "project top/sub1/app: environments are asked for, and the job has none" in answer.out
    assert "hidden" not in answer.out


def test_another_agent_is_as_one_that_is_not_there(stack: OperatorsStack, tmp_path: Path) -> None:
    file = claims_file(tmp_path)

    answers = [
        stack.json("explain", "--claims", file, "--agent", f"top/sub1/agents:{name}")
        for name in ("hidden", "nothing")
    ]

    assert [(answer["reason"], answer["agents"]) for answer in answers] == [("not_listed", [])] * 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("eyJhbGciOi.eyJ.x", "not the token itself"),
        ("[]", "--claims"),
        ("{", "--claims"),
        (json.dumps(gitlab_claims(job_id=ABSENT)), "the claim job_id isn't an id"),
    ],
)
def test_what_are_no_claims_is_told(
    stack: OperatorsStack, tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "claims.json"
    file.write_text(content)

    answer = stack.run("explain", "--claims", file)

    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err


def test_an_issuer_that_there_is_not_is_told(stack: OperatorsStack, tmp_path: Path) -> None:
    answer = stack.run("explain", "--claims", claims_file(tmp_path), "--issuer", "other")

    assert answer.code == 2
    assert "No issuer has the alias 'other'" in answer.err
