"""Commit statuses in GitLab (docs.gitlab.com, "Commits API": set commit pipeline status)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from jobgate.adapters.https import HTTPSClient
from jobgate.core.commit_status import STATUS_NAME
from jobgate.core.errors import Unavailable
from jobgate.ports.refresh import CommitStatuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.adapters.secrets import SecretReader
    from jobgate.core.agent import ConfigProject
    from jobgate.core.commit_status import CommitStatus
    from jobgate.ports import Deployment

_SECONDS = 5.0
_MAX_BYTES = 64 * 1024


class GitLabCommitStatuses(CommitStatuses):
    """With a token of their own, by issuer, which may set statuses; an issuer without one has none.

    What goes wrong is logged and nothing more: a status is for people, and decides nothing.
    """

    def __init__(
        self,
        deployment: Callable[[], Deployment],
        secrets: SecretReader,
        secret: str,
        *,
        log: Callable[[str], None],
    ) -> None:
        self._deployment = deployment
        self._secrets = secrets
        self._secret = secret
        self._log = log

    def post(self, issuer: str, project: ConfigProject, commit: str, status: CommitStatus) -> None:
        try:
            self._post(issuer, project, commit, status)
        except Unavailable as exc:
            self._log(f"no commit status for project {project.project_id} of {issuer}: {exc}")

    def _post(self, issuer: str, project: ConfigProject, commit: str, status: CommitStatus) -> None:
        token = self._secrets.json(self._secret).get(issuer)
        known = self._deployment().issuers.get(issuer)
        if known is None or not isinstance(token, str):
            return
        body = {
            "state": status.state,
            "name": STATUS_NAME,
            "description": status.description,
            "target_url": _target(known.base_url, project.path, commit, status),
        }
        client = HTTPSClient(f"{known.base_url}/api/v4", known.ca)
        try:
            answer = client.send(
                "POST",
                f"/projects/{project.project_id}/statuses/{commit}",
                json.dumps(body).encode(),
                headers={"PRIVATE-TOKEN": token, "Content-Type": "application/json"},
                seconds=_SECONDS,
                max_bytes=_MAX_BYTES,
            )
        finally:
            client.close()
        if answer.status != 201:
            raise Unavailable(f"GitLab answered {answer.status}")


def _target(base_url: str, project_path: str, commit: str, status: CommitStatus) -> str | None:
    """The page of the file at this commit, at the line of the first problem."""
    if status.file is None:
        return None
    return f"{base_url}/{quote(project_path)}/-/blob/{commit}/{quote(status.file)}#L{status.line}"
