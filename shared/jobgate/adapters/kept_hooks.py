"""The issuers whose authorised projects' webhooks the schedule keeps, each with its own token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobgate.adapters.gitlab_api import GitLabAPI
from jobgate.adapters.gitlab_hooks import GitLabProjectHooks
from jobgate.adapters.gitlab_writes import GitLabWrites
from jobgate.adapters.hook_secrets import scopes_in, shared_in
from jobgate.adapters.https import HTTPSClient
from jobgate.ports.hooks import KeptHooks, KeptIssuers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from jobgate.adapters.secrets import SecretReader
    from jobgate.core.issuer import Issuer
    from jobgate.ports import Deployment

_CALL_SECONDS = 5.0
_LAST_WRITE_SECONDS = 15.0  # for what had begun when the round's time was over
_PROOF = "the job hooks' token"


class StoredKeptIssuers(KeptIssuers):
    """From the secrets of these ARNs; every call raises Unavailable."""

    def __init__(
        self,
        deployment: Callable[[], Deployment],
        secrets: SecretReader,
        *,
        hooks: str,
        tokens: str,
    ) -> None:
        self._deployment = deployment
        self._secrets = secrets
        self._hooks = hooks
        self._tokens = tokens

    def aliases(self) -> Sequence[str]:
        return sorted(self._secrets.json(self._tokens))

    def kept(self, alias: str, *, seconds: float) -> KeptHooks | None:
        found = self._deployment()
        issuer, shared = found.issuers.get(alias), shared_in(self._entries(alias))
        if issuer is None or found.base_url is None or shared is None:
            return None
        token = self._secrets.json(self._tokens)[alias]
        return KeptHooks(
            issuer=alias,
            gitlab=_project_hooks(issuer, token, base_url=found.base_url, seconds=seconds),
            shared=shared,
            newest=lambda: newest_in(self._entries(alias)),
            others=others_in(self._entries(alias)),
        )

    def _entries(self, alias: str) -> list[dict[str, Any]]:
        # As they are now: `connect` may be storing new ones at this very moment.
        entries: list[dict[str, Any]] = self._secrets.json(self._hooks, max_age=0).get(alias, [])
        return entries


def newest_in(entries: Iterable[Mapping[str, Any]]) -> str | None:
    """The id of the newest of what the webhooks of all authorised projects share."""
    shared = shared_in(entries)
    return None if shared is None else shared.entry_id


def others_in(entries: Iterable[Mapping[str, Any]]) -> frozenset[int]:
    """The projects whose webhooks have secrets of their own."""
    return frozenset(scope.id for scope in scopes_in(entries) if scope.kind == "project")


def _project_hooks(
    issuer: Issuer, token: str, *, base_url: str, seconds: float
) -> GitLabProjectHooks:
    """At most half of the time is for the lists of groups' projects."""
    until = time.monotonic() + seconds + _LAST_WRITE_SECONDS
    api = GitLabWrites(issuer, token, seconds=_CALL_SECONDS, proof=_PROOF, until=until)
    client = HTTPSClient(f"{issuer.base_url}/api/v4", issuer.ca)
    reads = GitLabAPI(client, token, seconds=seconds / 2)
    return GitLabProjectHooks(api, reads, issuer, base_url=base_url)
