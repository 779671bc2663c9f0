"""What GitLab is asked with a run-time token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.agent_folder import TreeEntry
    from jobgate.core.gitlab_token import TokenEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLabProject:
    """A project as GitLab's API gives it. `default_branch` is None in an empty repository."""

    project_id: int
    path: str
    default_branch: str | None
    namespace_id: int
    namespace_path: str
    namespace_kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLabGroup:
    """A group as GitLab's API gives it."""

    group_id: int
    path: str
    parent_id: int | None


class GitLab(Protocol):
    """GitLab's REST API, read only. None is GitLab's own "not found"; all else raises."""

    def project(self, ref: int | str) -> GitLabProject | None:
        """By id or by full path; a path that was renamed away is not found."""
        ...

    def group(self, ref: int | str) -> GitLabGroup | None:
        """By id or by full path."""
        ...

    def projects_below(self, group_id: int) -> Mapping[str, GitLabProject]:
        """Every project in a group's tree, by lower-cased full path."""
        ...

    def groups_below(self, group_id: int) -> Mapping[str, GitLabGroup]:
        """Every group below a group, by lower-cased full path."""
        ...

    def head(self, project_id: int, branch: str) -> str | None:
        """The commit at a branch's head."""
        ...

    def agent_files(self, project_id: int, commit: str) -> Mapping[str, TreeEntry]:
        """Every path below `.gitlab/agents` at a commit, folders included."""
        ...

    def raw_file(self, project_id: int, path: str, commit: str) -> bytes | None:
        """A file's content at a commit, cut one byte above the largest configuration."""
        ...


class GitLabOfJobs(GitLab, Protocol):
    """What GitLab is asked about a running job beside where its project is."""

    def job_status(self, project_id: int, job_id: int) -> str | None:
        """The status of a job of this project, None where GitLab shows us no such job."""
        ...

    def environment_slug(self, project_id: int, name: str) -> str | None:
        """The slug of a project's environment."""
        ...


class TokenEnds(Protocol):
    """Remembers until when GitLab's run-time tokens are good."""

    def token_end(self, issuer: str) -> TokenEnd | None: ...

    def note_token_end(self, issuer: str, end: TokenEnd) -> None: ...
