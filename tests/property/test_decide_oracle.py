"""`jobgate decide`, from files to its answer, agrees with the independent reading of the rules."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jobgate.cli.decide import as_json, decide

from tests.property.test_oracle import Given, a_file, generated
from tests.support import oracle as o
from tests.support.id_tokens import gitlab_claims

if TYPE_CHECKING:
    from random import Random  # noqa: TID251 - the type of what Hypothesis draws


def _instance(given_: Given) -> dict[str, Any]:
    tree = given_.now
    groups = {i: space for i, space in tree.spaces.items() if not space.is_user}
    return {
        "v": 1,
        "settings": {
            "instance_wide": given_.choices.instance_wide,
            "entry_limit": given_.choices.limit,
            "allowed_identities": sorted(given_.choices.allowed),
        },
        "groups": [
            {"id": i, "full_path": tree.space_path(i), "parent_id": space.parent}
            for i, space in groups.items()
        ],
        "users": [
            {"namespace_id": i, "username": tree.space_path(i)}
            for i in tree.spaces.keys() - groups.keys()
        ],
        "projects": [
            {"id": i, "path_with_namespace": tree.project_path(i), "namespace_id": space}
            for i, (space, _) in tree.projects.items()
        ],
        "agents": [{"id": a.id, "name": a.name, "project_id": a.project} for a in given_.agents],
    }


def _claims(job: o.Job, tree: o.Tree) -> dict[str, Any]:
    running = {
        "project_id": str(job.project),
        "project_path": tree.project_path(job.project),
        "namespace_id": str(job.namespace),
        "namespace_path": tree.space_path(job.namespace),
    }
    claims = gitlab_claims(
        **running,
        **{f"job_{name}": value for name, value in running.items()},
        job_id=str(job.id),
        pipeline_id=str(job.pipeline),
        user_login=job.user,
        ref_protected=str(job.protected).lower(),
    )
    if job.environment is not None:
        claims |= {"environment": job.environment, "deployment_tier": job.tier}
    return claims


def _written(folder: Path, given_: Given) -> list[str]:
    """Every agent's file, and the options that name their folders."""
    options = {}
    for agent in given_.agents:
        agents = folder / f"project-{agent.project}"
        file = agents / agent.name / "config.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(a_file(agent) if agent.valid else "ci_access: [")
        options[agent.project] = f"{given_.now.project_path(agent.project)}={agents}"
    return [*options.values()]


def _access(agent: dict[str, Any]) -> o.Access:
    identity = agent["identity"]
    return o.Access(
        via=agent["via"]["kind"],
        via_id=agent["via"]["id"],
        whom=identity
        and o.Whom(
            identity["user"],
            identity["uid"],
            tuple(identity["groups"]),
            tuple((key, tuple(values)) for key, values in identity["extra"].items()),
        ),
        namespace=agent["namespace"],
    )


@given(st.randoms(use_true_random=True))
@settings(max_examples=50)
def test_a_small_instance_is_decided_offline_as_the_rules_say(random: Random) -> None:
    given_ = generated(random, groups=5, projects=4, agents=3, jobs=4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = _written(folder, given_)
        instance, claims = folder / "instance.json", folder / "claims.json"
        instance.write_text(json.dumps(_instance(given_)))
        for job in given_.jobs:
            claims.write_text(json.dumps(_claims(job, given_.now)))

            answer = as_json(decide(options, instance, claims))

            # Nothing but this moment is known offline.
            expected = o.agents_of(
                job, given_.agents, then=given_.now, now=given_.now, choices=given_.choices
            )
            assert {a["id"]: _access(a) for a in answer["agents"] if a["allowed"]} == expected
