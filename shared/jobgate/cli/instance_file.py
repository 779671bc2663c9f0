"""The file that stands for a GitLab instance: groups, users, projects, agents, environments.

Its form is closed: a key that is missing or unknown, an id that is given twice or leads nowhere
raises InvalidRequest with the place. Paths aren't compared with ids, since ids decide.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from jobgate.cli.inputs import agent_name
from jobgate.core.errors import InvalidRequest
from jobgate.core.settings import Settings
from jobgate.ports.gitlab import GitLabGroup, GitLabProject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ID_MAX = 2**63 - 1  # GitLab's ids are of PostgreSQL's bigint
_DEPTH_MAX = 21  # a group and GitLab's twenty levels of subgroups
_SHOWN = 80
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenAgent:
    """An agent of the instance, registered in a project."""

    agent_id: int
    name: str
    project_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenInstance:
    """An instance as its file says; `slugs` are environments' by project id and name."""

    settings: Settings
    groups: tuple[GitLabGroup, ...]
    projects: tuple[GitLabProject, ...]
    agents: tuple[GivenAgent, ...]
    slugs: Mapping[tuple[int, str], str]


def json_object(text: str, option: str) -> dict[str, Any]:
    """The JSON object in a file, without duplicate keys and what JSON doesn't have (RFC 8259)."""
    try:
        value: Any = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        why = f" ({exc})" if isinstance(exc, ValueError) else ""
        raise InvalidRequest(f"{option}: the file isn't good JSON{why}.") from exc
    if not isinstance(value, dict):
        raise InvalidRequest(f"{option}: the file must hold a JSON object.")
    return value


def read_instance(text: str) -> GivenInstance:
    """The instance in a file's text. Raises InvalidRequest."""
    try:
        return _instance(json_object(text, "--instance"))
    except _FormError as exc:
        raise InvalidRequest(f"--instance: {exc}.") from exc


class _FormError(ValueError):
    """What is wrong, beginning with the place in the file."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A value and where it is."""

    where: str
    value: Any

    def fields(self, *required: str, optional: tuple[str, ...] = ()) -> dict[str, _Place]:
        if not isinstance(self.value, dict):
            raise _FormError(f"{self.where} must be an object")
        for name in required:
            if name not in self.value:
                raise _FormError(f"{self.where} has no {name}")
        for name in self.value:
            if name not in (*required, *optional):
                raise _FormError(f"{self.where} has an unknown key {name[:_SHOWN]!r}")
        prefix = "" if self.where == "the file" else f"{self.where}."
        return {name: _Place(f"{prefix}{name}", value) for name, value in self.value.items()}

    def items(self) -> list[_Place]:
        if not isinstance(self.value, list):
            raise _FormError(f"{self.where} must be a list")
        return [_Place(f"{self.where}[{n}]", value) for n, value in enumerate(self.value)]

    def integer(self, *, most: int = _ID_MAX) -> int:
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise _FormError(f"{self.where} must be a whole number from 1 to {most}")
        return value

    def text(self) -> str:
        value = self.value
        if not isinstance(value, str) or not value or any("\ud800" <= c <= "\udfff" for c in value):
            raise _FormError(f"{self.where} must be a text that isn't empty")
        return value

    def boolean(self) -> bool:
        if not isinstance(self.value, bool):
            raise _FormError(f"{self.where} must be true or false")
        return self.value


def _instance(value: dict[str, Any]) -> GivenInstance:
    lists = ("groups", "users", "projects", "agents")
    top = _Place("the file", value).fields("v", "settings", *lists, optional=("environments",))
    if top["v"].value != 1 or isinstance(top["v"].value, bool):
        raise _FormError("v must be 1")
    groups = _each(top["groups"], _group)
    users = dict(_each(top["users"], _user))
    namespaces = {group.group_id: (group.path, "group") for group in groups}
    namespaces |= {i: (name, "user") for i, name in users.items()}
    projects = _each(top["projects"], lambda place: _project(place, namespaces))
    agents = _each(top["agents"], _agent)
    slugs = dict(_each(top["environments"], _slug)) if "environments" in top else {}
    _check_unique("id of a namespace", [*(g.group_id for g in groups), *users], top["users"])
    _check_unique("path of a namespace", (p.lower() for p, _ in namespaces.values()), top["users"])
    _check_unique("id of a project", (p.project_id for p in projects), top["projects"])
    _check_unique("path of a project", (p.path.lower() for p in projects), top["projects"])
    _check_unique("id of an agent", (a.agent_id for a in agents), top["agents"])
    _check_unique("agent", ((a.project_id, a.name) for a in agents), top["agents"])
    _check_chains(groups)
    known = {project.project_id for project in projects}
    for project_id in [*(a.project_id for a in agents), *(i for i, _ in slugs)]:
        if project_id not in known:
            raise _FormError(f"project_id {project_id} is of no project in projects")
    return GivenInstance(
        settings=_settings(top["settings"]),
        groups=groups,
        projects=projects,
        agents=agents,
        slugs=slugs,
    )


def _settings(place: _Place) -> Settings:
    """The deployment's; what isn't given is as a deployment has it by default."""
    names = ("instance_wide", "entry_limit", "fork_jobs", "allowed_identities")
    given = place.fields(optional=names)
    settings = Settings()
    if "instance_wide" in given:
        wide = given["instance_wide"].boolean()
        settings = dataclasses.replace(settings, instance_wide=wide)
    if "entry_limit" in given:
        limit = given["entry_limit"].integer()
        settings = dataclasses.replace(settings, entry_limit=limit)
    if "fork_jobs" in given:
        settings = dataclasses.replace(settings, fork_jobs=_fork_jobs(given["fork_jobs"]))
    if "allowed_identities" in given:
        allowed = frozenset(item.text() for item in given["allowed_identities"].items())
        settings = dataclasses.replace(settings, allowed_identities=allowed)
    return settings


def _fork_jobs(place: _Place) -> Literal["allow", "deny"]:
    match place.value:
        case "allow":
            return "allow"
        case "deny":
            return "deny"
        case _:
            raise _FormError(f"{place.where} must be allow or deny")


def _each(place: _Place, read: Callable[[_Place], _T]) -> tuple[_T, ...]:
    return tuple(read(item) for item in place.items())


def _group(place: _Place) -> GitLabGroup:
    fields = place.fields("id", "full_path", "parent_id")
    parent = fields["parent_id"]
    return GitLabGroup(
        group_id=fields["id"].integer(),
        path=fields["full_path"].text(),
        parent_id=None if parent.value is None else parent.integer(),
    )


def _user(place: _Place) -> tuple[int, str]:
    fields = place.fields("namespace_id", "username")
    return fields["namespace_id"].integer(), fields["username"].text()


def _project(place: _Place, namespaces: Mapping[int, tuple[str, str]]) -> GitLabProject:
    fields = place.fields("id", "path_with_namespace", "namespace_id")
    namespace_id = fields["namespace_id"].integer()
    if namespace_id not in namespaces:
        raise _FormError(f"{place.where}.namespace_id {namespace_id} is of no group and no user")
    path, kind = namespaces[namespace_id]
    return GitLabProject(
        project_id=fields["id"].integer(),
        path=fields["path_with_namespace"].text(),
        default_branch="main",
        namespace_id=namespace_id,
        namespace_path=path,
        namespace_kind=kind,
    )


def _agent(place: _Place) -> GivenAgent:
    fields = place.fields("id", "name", "project_id")
    try:
        name = agent_name(fields["name"].text())
    except InvalidRequest as exc:
        raise _FormError(f"{place.where}.name isn't an agent's name") from exc
    return GivenAgent(
        agent_id=fields["id"].integer(), name=name, project_id=fields["project_id"].integer()
    )


def _slug(place: _Place) -> tuple[tuple[int, str], str]:
    fields = place.fields("project_id", "name", "slug")
    return (fields["project_id"].integer(), fields["name"].text()), fields["slug"].text()


def _check_unique(what: str, values: Iterable[object], place: _Place) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise _FormError(f"{place.where}: the {what} {str(value)[:_SHOWN]!r} is there twice")


def _check_chains(groups: Iterable[GitLabGroup]) -> None:
    parents = {group.group_id: group.parent_id for group in groups}
    for group_id in parents:
        upwards: int | None = group_id
        for _ in range(_DEPTH_MAX):
            if upwards not in parents:
                raise _FormError(f"parent_id {upwards} is of no group in groups")
            upwards = parents[upwards]
            if upwards is None:
                break
        else:
            raise _FormError(f"the group {group_id} has more ancestors than GitLab allows")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is there twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
