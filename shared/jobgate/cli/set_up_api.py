"""GitLab's REST API with the operator's set-up token, which is never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.adapters.gitlab_writes import GitLabWrites
from jobgate.cli import inputs
from jobgate.cli.errors import Refused
from jobgate.cli.gitlab_calls import SECONDS
from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.core.issuer import Issuer

VARIABLE = "GITLAB_TOKEN"
PROOF = f"the token in {VARIABLE}"


class SetUpAPI(GitLabWrites):
    """As the operator: a right that lacks ends the command."""

    refusal = Refused

    def __init__(self, issuer: Issuer, token: str) -> None:
        super().__init__(issuer, token, seconds=SECONDS, proof=PROOF)


def set_up_token(environment: Mapping[str, str]) -> str:
    """The token from the environment; raises InvalidRequest where there is none."""
    token = environment.get(VARIABLE, "")
    if not token:
        raise InvalidRequest(
            f"Put a set-up token (scope api; Owner of the group, Maintainer of the project, or "
            f"for --instance an administrator) into the environment variable {VARIABLE}."
        )
    return inputs.bearer_token(token, VARIABLE)
