"""What GitLab's webhooks need, and those for the ends of authorised projects' jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.hook import HookMade
    from jobgate.core.webhook import HookSecrets


class HooksOf(Protocol):
    """An issuer's webhooks by its alias."""

    def __call__(
        self, alias: str, project_id: int | None, /, *, fresh: bool
    ) -> Iterable[HookSecrets]:
        """`fresh` asks for secrets that were stored a few seconds ago.

        `project_id` adds the webhook that was made for this project's jobs, if it was.
        """
        ...


class HookSightings(Protocol):
    """Remembers that a webhook delivers, for people who ask whether it does."""

    def note(self, issuer: str, hook: HookSecrets, *, at: float) -> None:
        """Never raises, and may leave out what says nothing new: a sighting decides nothing."""
        ...


class AgentSnapshots(Protocol):
    """The agents of all issuers, and what their configurations grant."""

    def agents(self) -> Iterable[tuple[str, int]]:
        """Issuer alias and id of each agent that a configuration project lists.

        Raises Unavailable where a project can't be read, after the agents of all others.
        """
        ...

    def snapshot(self, issuer: str, agent_id: int) -> AgentSnapshot | None: ...


class ProjectHooks(Protocol):
    """This deployment's webhooks of an issuer's projects, in GitLab; raises Unavailable.

    `formerly` is the address that a project's webhook was given last, where that's known.
    """

    @property
    def address(self) -> str:
        """The webhooks' URL without the query."""
        ...

    def write(
        self, project_id: int, secrets: HookSecrets, *, formerly: str | None
    ) -> tuple[int, bool]:
        """Make the project's webhook, or give the one that is there these secrets.

        Returns its id, and whether it's new. Raises Unanswered where it may have been done.
        """
        ...

    def remove(self, project_id: int, *, formerly: str | None) -> None: ...

    def is_archived(self, project_id: int) -> bool: ...

    def active_projects_below(self, group_id: int) -> Iterable[int]:
        """All of them; raises NotForUs where GitLab shows no such group."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHooks:
    """An issuer whose authorised projects have webhooks.

    `shared` is what their secrets are made from, and `newest` reads the id of what that is now;
    `others` are projects with a webhook of their own.
    """

    issuer: str
    gitlab: ProjectHooks
    shared: HookSecrets
    newest: Callable[[], str | None]
    others: frozenset[int]


class KeptIssuers(Protocol):
    """The issuers whose authorised projects' webhooks are kept by the schedule."""

    def aliases(self) -> Sequence[str]: ...

    def kept(self, alias: str, *, seconds: float) -> KeptHooks | None:
        """One of them with so much time for GitLab; None where it has nothing to be kept."""
        ...


class MadeHooks(Protocol):
    """Remembers which projects were given a webhook."""

    def made(self, issuer: str) -> Mapping[int, HookMade]:
        """By project id; what was noted before is in it."""
        ...

    def note(self, issuer: str, project_id: int, made: HookMade) -> None:
        """Raises Conflict where its revision isn't the one after what is there."""
        ...

    def forget(self, issuer: str, project_id: int) -> None: ...
