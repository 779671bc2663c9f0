"""Where a project is in GitLab's tree of namespaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A group or a user namespace, by id and full path."""

    namespace_id: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceChain:
    """A namespace's ancestors, root first, itself last; `fetched_at` in epoch seconds."""

    kind: Literal["group", "user"]
    members: tuple[Namespace, ...]
    fetched_at: float

    @property
    def root_id(self) -> int:
        """The top-level namespace."""
        return self.members[0].namespace_id

    @property
    def groups(self) -> tuple[Namespace, ...]:
        """The groups, root first; none for a user namespace."""
        return self.members if self.kind == "group" else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPlace:
    """The namespace that a project is in now (the token's is frozen at the job's start).

    `path` is the project's full path, `root_id` its top-level namespace.
    """

    namespace_id: int
    path: str
    root_id: int
    fetched_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known of where a job's project is; None is unknown, and unknown grants nothing.

    `config_places` says the same of configuration projects, by id; one that isn't in it is unknown.
    """

    place: ProjectPlace | None
    chain: NamespaceChain | None
    config_places: Mapping[int, ProjectPlace] = field(default_factory=dict)
