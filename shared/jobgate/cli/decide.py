"""`jobgate decide`: what a job would get of every agent, from files alone.

For a merge request on a configuration project, and for tests: nothing is asked of a deployment or
of GitLab, and the decision is the deployment's own.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobgate.cli.checkouts import read_agents_folder, readable
from jobgate.cli.given_instance import GivenGitLab, GivenStore
from jobgate.cli.inputs import read_file
from jobgate.cli.instance_file import json_object, read_instance
from jobgate.cli.problems import problem_as_json, problem_line
from jobgate.core.agent_decision import as_json as agent_as_json
from jobgate.core.agent_folder import AGENTS_FOLDER
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidRequest
from jobgate.core.issuer import Issuer
from jobgate.usecases.decide import Decide
from jobgate.usecases.refresh import Refresh

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobgate.cli.checkouts import CheckedOut
    from jobgate.cli.instance_file import GivenInstance
    from jobgate.cli.output import Output
    from jobgate.ports.gitlab import GitLabProject
    from jobgate.usecases.decide import Decided

_FILE_MAX_BYTES = 64 * 1024 * 1024  # an instance of some hundred thousand projects
_ISSUER = Issuer(
    alias="main",
    url="https://gitlab.invalid",
    base_url="https://gitlab.invalid",
    audience="https://jobgate.invalid",
    ca=None,
    is_default=True,
)


def decide(agents: Sequence[str], instance: Path, claims: Path) -> Decided:
    """Decide for every agent of the instance. Raises InvalidRequest."""
    given = read_instance(read_file(instance, "--instance", max_bytes=_FILE_MAX_BYTES))
    payload = _claims(read_file(claims, "--claims", max_bytes=_FILE_MAX_BYTES))
    gitlab = GivenGitLab(given, _trees(agents, given))
    store = GivenStore(_ISSUER.alias, given.agents)
    now = _moment(payload)
    refresh = Refresh(
        gitlab_of=lambda _alias: gitlab,
        store=store,
        recorder=lambda _line: None,
        settings=given.settings,
        clock=lambda: now,
        pick=lambda _count: 0,
    )
    deciding = Decide(
        issuer=_ISSUER,
        gitlab=gitlab,
        store=store,
        refresh=refresh,
        slugs=given.slugs,
        settings=given.settings,
        bounds=Bounds(),
        now=now,
    )
    return deciding.run(payload, {agent.agent_id: agent.project_id for agent in given.agents})


def as_json(decided: Decided) -> dict[str, Any]:
    """The answer in the form for scripts."""
    return {
        "v": 1,
        "agents": [agent_as_json(agent) for agent in decided.agents],
        "problems": [problem_as_json(problem) for problem in decided.problems],
    }


def show(output: Output, decided: Decided) -> None:
    """Print the answer."""
    output.table(
        ("agent", "allowed", "via", "as", "namespace", "reason", "nearest miss"),
        [_row(agent_as_json(agent)) for agent in decided.agents],
    )
    for problem in decided.problems:
        output.say(problem_line(problem))
    output.result(as_json(decided))


def _row(agent: Mapping[str, Any]) -> tuple[object, ...]:
    via, identity = agent["via"], agent["identity"]
    return (
        agent["context"],
        "yes" if agent["allowed"] else "no",
        via and " ".join(filter(None, (via["kind"], via["path"]))),
        identity["user"] if identity else agent["access_as"],
        agent["namespace"],
        agent["reason"],
        agent["nearest_miss"],
    )


def _claims(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("eyJ"):
        # A token is a credential: what a shell's history or a job's log shows needn't be one.
        raise InvalidRequest("--claims: give the payload of the ID token, not the token itself.")
    return json_object(text, "--claims")


def _moment(claims: Mapping[str, Any]) -> float:
    """The decision is made for the moment when the token was, so that an old one can be tried."""
    issued_at = claims.get("iat")
    return issued_at if isinstance(issued_at, int) and not isinstance(issued_at, bool) else 0


def _trees(agents: Sequence[str], instance: GivenInstance) -> dict[int, dict[str, CheckedOut]]:
    """What is in each configuration project that a folder is given for."""
    projects = {project.path.lower(): project for project in instance.projects}
    named = [text.partition("=") for text in agents if "=" in text]
    found = [(_project(path, projects), folder) for path, _, folder in named]
    for text in agents:
        if "=" not in text:
            found += [(holder, text) for holder in _holder(text, instance, found)]
    for project, count in Counter(project.path for project, _ in found).items():
        if count > 1:
            raise InvalidRequest(f"--agents: {project} is given twice.")
    return {project.project_id: read_agents_folder(_checked(folder)) for project, folder in found}


def _project(path: str, projects: Mapping[str, GitLabProject]) -> GitLabProject:
    project = projects.get(path.lower())
    if project is None:
        raise InvalidRequest(f"--agents: no project {path} is in --instance.")
    return project


def _holder(
    text: str, instance: GivenInstance, taken: Sequence[tuple[GitLabProject, str]]
) -> list[GitLabProject]:
    """The project that a folder without a path is of: the one that has agents of these names."""
    folder = _checked(text)
    taken_ids = {project.project_id for project, _ in taken}
    ids = {agent.project_id for agent in instance.agents} - taken_ids
    if len(ids) > 1:
        with readable(folder):
            names = {path.name for path in folder.iterdir()}
        ids &= {agent.project_id for agent in instance.agents if agent.name in names}
    if len(ids) > 1:
        raise InvalidRequest(f"--agents: say whose {folder} is, as PROJECT_PATH=DIR.")
    return [project for project in instance.projects if project.project_id in ids]


def _checked(text: str) -> Path:
    folder = Path(text)
    with readable(folder):
        if not text or not folder.is_dir():
            raise InvalidRequest(f"--agents: {text!r} isn't a folder.")
        if (folder / AGENTS_FOLDER).is_dir():
            raise InvalidRequest(f"--agents: give the folder {folder / AGENTS_FOLDER} itself.")
    return folder
