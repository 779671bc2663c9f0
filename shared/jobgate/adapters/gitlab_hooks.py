"""This deployment's webhooks in GitLab (GitLab, webhooks APIs of projects, groups, the system)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.core.errors import NotForUs
from jobgate.core.hook import HookScope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobgate.adapters.gitlab_writes import GitLabWrites
    from jobgate.core.issuer import Issuer
    from jobgate.core.webhook import HookSecrets

_NAME = "Jobgate"


class GitLabHooks:
    """The webhooks of one issuer; of several of ours in one place one is kept.

    Raises Unavailable, or what its API raises for a right that lacks.
    """

    def __init__(self, api: GitLabWrites, issuer: Issuer, *, base_url: str) -> None:
        self.url = f"{base_url}/webhooks/gitlab/{issuer.alias}"
        self._api = api
        self._alias = issuer.alias

    def write(self, scope: HookScope, secrets: HookSecrets) -> tuple[int, bool]:
        """Give a place's webhook these secrets, or make it: its id, and whether it's new."""
        return self._write(scope, hook_body(scope, self.url, secrets))

    def write_of_project(self, project_id: int, secrets: HookSecrets) -> tuple[int, bool]:
        """The same where all authorised projects share secrets: the URL says whose it is."""
        scope = HookScope("project", project_id)
        body = hook_body(scope, f"{self.url}?project={project_id}", secrets)
        return self._write(scope, body)

    def remove(self, scope: HookScope) -> None:
        """Delete this deployment's webhook of a place, if there is one; another's stays."""
        for hook in list(self._api.pages(root(scope))):
            if _address(hook) == self.url:
                self._api("DELETE", f"{root(scope)}/{hook['id']}")

    def remove_of_project(self, project_id: int) -> None:
        """Delete this deployment's webhook of a project."""
        self.remove(HookScope("project", project_id))

    def projects_below(self, group_id: int) -> Iterator[int]:
        """Every project of a group and of those below it that isn't archived."""
        if self._api("GET", f"/groups/{group_id}?with_projects=false") is None:
            raise NotForUs(f"GitLab shows no group {group_id}")
        query = "include_subgroups=true&with_shared=false&archived=false&simple=true"
        for project in self._api.pages(f"/groups/{group_id}/projects?{query}&order_by=id"):
            yield int(project["id"])

    def _write(self, scope: HookScope, body: Mapping[str, Any]) -> tuple[int, bool]:
        mine = [hook for hook in self._api.pages(root(scope)) if self._is_ours(hook)]
        for double in mine[1:]:
            self._api("DELETE", f"{root(scope)}/{double['id']}")
        if mine and self._api("PUT", f"{root(scope)}/{mine[0]['id']}", body) is not None:
            return int(mine[0]["id"]), False
        for old in mine[:1]:  # GitLab before 17.2 can't change a system hook
            self._api("DELETE", f"{root(scope)}/{old['id']}")
        answer = self._api("POST", root(scope), body)
        if answer is None:
            raise NotForUs(f"this GitLab offers no webhook for {scope.kind} {scope.id}")
        return int(answer["id"]), True

    def _is_ours(self, hook: Mapping[str, Any]) -> bool:
        """By its address, or by name where the deployment's base URL has changed."""
        address = _address(hook)
        same_route = address.endswith(f"/webhooks/gitlab/{self._alias}")
        return address == self.url or (hook.get("name") == _NAME and same_route)


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


def _address(hook: Mapping[str, Any]) -> str:
    return str(hook.get("url", "")).partition("?")[0]
