"""This deployment's webhooks in GitLab (GitLab, webhooks APIs of projects, groups, the system)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters.gitlab_forms import hook_of
from jobgate.core.errors import NotForUs
from jobgate.core.hook import HookScope
from jobgate.ports.hooks import ProjectHooks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobgate.adapters.gitlab_api import GitLabAPI
    from jobgate.adapters.gitlab_forms import GitLabHook
    from jobgate.adapters.gitlab_writes import GitLabWrites
    from jobgate.core.issuer import Issuer
    from jobgate.core.webhook import HookSecrets

_NAME = "Jobgate"


class GitLabHooks:
    """The webhooks of one issuer; of several of ours in one place one is kept.

    Ours are those with this deployment's address, or with one of those that it is known to have had
    (`formerly`): another deployment may be connected to the same GitLab under the same alias.
    Raises Unavailable, or what its API raises for a right that lacks.
    """

    def __init__(self, api: GitLabWrites, issuer: Issuer, *, base_url: str) -> None:
        self.address = hooks_address(base_url, issuer.alias)
        self._api = api

    def write(
        self,
        scope: HookScope,
        secrets: HookSecrets,
        *,
        formerly: Iterable[str] = (),
        query: str = "",
    ) -> tuple[int, bool]:
        """Give a place's webhook these secrets, or make it: its id, and whether it's new."""
        body = hook_body(scope, self.address + query, secrets)
        mine = self._ours(scope, formerly)
        for double in mine[1:]:
            self._api("DELETE", f"{root(scope)}/{double.hook_id}")
        if mine and self._api("PUT", f"{root(scope)}/{mine[0].hook_id}", body) is not None:
            return mine[0].hook_id, False
        for old in mine[:1]:  # GitLab before 17.2 can't change a system hook
            self._api("DELETE", f"{root(scope)}/{old.hook_id}")
        answer = self._api("POST", root(scope), body)
        if answer is None:
            raise NotForUs(f"this GitLab offers no webhook for {scope.kind} {scope.id}")
        return hook_of(answer).hook_id, True

    def remove(self, scope: HookScope, *, formerly: Iterable[str] = ()) -> None:
        """Delete this deployment's webhook of a place, if there is one; another's stays."""
        for hook in self._ours(scope, formerly):
            self._api("DELETE", f"{root(scope)}/{hook.hook_id}")

    def _ours(self, scope: HookScope, formerly: Iterable[str]) -> list[GitLabHook]:
        ours = {self.address, *formerly}
        found = map(hook_of, self._api.pages(root(scope), must_exist=True))
        return [hook for hook in found if hook.address in ours]


class GitLabProjectHooks(ProjectHooks):
    """The webhooks of one issuer's authorised projects; `reads` has the time for its lists."""

    def __init__(
        self, api: GitLabWrites, reads: GitLabAPI, issuer: Issuer, *, base_url: str
    ) -> None:
        self._hooks = GitLabHooks(api, issuer, base_url=base_url)
        self._api = api
        self._reads = reads

    @property
    def address(self) -> str:
        return self._hooks.address

    def write(
        self, project_id: int, secrets: HookSecrets, *, formerly: str | None
    ) -> tuple[int, bool]:
        # They share secrets, so the URL says whose it is.
        query, known = f"?project={project_id}", [] if formerly is None else [formerly]
        scope = HookScope("project", project_id)
        return self._hooks.write(scope, secrets, formerly=known, query=query)

    def remove(self, project_id: int, *, formerly: str | None) -> None:
        known = [] if formerly is None else [formerly]
        self._hooks.remove(HookScope("project", project_id), formerly=known)

    def is_archived(self, project_id: int) -> bool:
        found = self._api("GET", f"/projects/{project_id}")
        return isinstance(found, dict) and found.get("archived") is True

    def active_projects_below(self, group_id: int) -> Iterable[int]:
        try:
            return self._reads.active_projects_below(group_id)
        finally:
            self._reads.close()


def hooks_address(base_url: str, alias: str) -> str:
    """Where an issuer's webhooks deliver to, without a query."""
    return f"{base_url}/webhooks/gitlab/{alias}"


def hook_body(scope: HookScope, url: str, secrets: HookSecrets) -> dict[str, Any]:
    """What GitLab is asked for."""
    body: dict[str, Any] = {
        "name": _NAME,
        "url": url,
        "token": secrets.secret_token,
        "push_events": True,
        "tag_push_events": True,
        "enable_ssl_verification": True,
    }
    if scope.kind == "instance":
        # They carry no job events, but one for a push of more branches than have their own.
        body["repository_update_events"] = True
    else:
        body["job_events"] = True
    if secrets.signing_token is None:
        return body
    return body | {"signing_token": secrets.signing_token}


def root(scope: HookScope) -> str:
    """Where GitLab's API keeps a place's webhooks."""
    return "/hooks" if scope.kind == "instance" else f"/{scope.kind}s/{scope.id}/hooks"
