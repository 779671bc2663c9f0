"""The issuers whose authorised projects' webhooks the schedule keeps, each with its own token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters.gitlab_hooks import GitLabHooks
from jobgate.adapters.gitlab_writes import GitLabWrites
from jobgate.adapters.hook_secrets import scopes_in, shared_in
from jobgate.usecases.job_hooks import KeptHooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from jobgate.adapters.secrets import SecretReader
    from jobgate.core.webhook import HookSecrets
    from jobgate.ports import Deployment, ProjectHooks

_SECONDS = 5.0
_PROOF = "the job hooks' token"


def kept_hooks_in(
    deployment: Callable[[], Deployment], secrets: SecretReader, *, hooks: str, tokens: str
) -> Callable[[], Iterator[KeptHooks]]:
    """Reads them from the secrets of these ARNs; raises Unavailable."""

    def kept() -> Iterator[KeptHooks]:
        for alias, token in secrets.json(tokens).items():
            issuer, base_url = deployment().issuers.get(alias), deployment().base_url
            if issuer is not None and base_url is not None:
                api = GitLabWrites(issuer, token, seconds=_SECONDS, proof=_PROOF)
                gitlab = GitLabHooks(api, issuer, base_url=base_url)
                entries = secrets.json(hooks).get(alias, [])
                shared = shared_in(entries)
                if shared is not None:
                    yield kept_hooks(alias, gitlab, shared, entries)

    return kept


def kept_hooks(
    alias: str, gitlab: ProjectHooks, shared: HookSecrets, entries: Iterable[Mapping[str, Any]]
) -> KeptHooks:
    """`entries` are all of the issuer's in the secret GitLabHooks."""
    others = frozenset(scope.id for scope in scopes_in(entries) if scope.kind == "project")
    return KeptHooks(issuer=alias, gitlab=gitlab, shared=shared, others=others)
