"""`jobgate explain`: what a job would get of the deployment as it is now, and why not.

By the exchange's own decision on the deployed state. For operators, who have no job's token: its
payload does, or the few claims of it that are known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate import wiring
from jobgate.cli.instance_file import json_object
from jobgate.core import explanation
from jobgate.core.errors import InvalidRequest, InvalidToken
from jobgate.core.id_token import verified_job

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected
    from jobgate.core.explanation import Explanation

_HOUR = 3600


def explain(
    connected: Connected, claims: str, *, issuer: str | None, agent: str | None
) -> Explanation:
    """Explain the job of `claims`, a token's payload as JSON, as if it asked now.

    Raises InvalidRequest where they aren't an ID token's, Unavailable as the exchange does.
    """
    stack, alias = connected.stack, connected.registry.issuer(issuer).alias
    if claims.lstrip().startswith("eyJ"):
        raise InvalidRequest("--claims: give the payload of the ID token, not the token itself.")
    now = connected.outside.clock()
    try:
        verified = verified_job(
            _as_of_now(json_object(claims, "--claims"), int(now)),
            issuer=alias,
            bounds=stack.bounds,
            now=now,
            not_before=None,
        )
    except InvalidToken as exc:
        raise InvalidRequest(f"These aren't an ID token's claims: {exc}.") from exc
    environment = {
        "JOBGATE_TABLE": stack.table,
        "JOBGATE_GITLAB_TOKENS_SECRET": stack.gitlab_tokens,
    }
    explaining = wiring.explain(
        environment, connected.aws, settings=stack.settings, bounds=stack.bounds
    )
    return explaining.of(verified, decision_id="none, as nothing was exchanged", context=agent)


def show(connected: Connected, explained: Explanation) -> None:
    """Print the explanation as a job would read it."""
    for line in explanation.as_text(explained).splitlines():
        connected.output.say(line)
    connected.output.result(explanation.as_json(explained))


def _as_of_now(claims: dict[str, Any], now: int) -> dict[str, Any]:
    """The claims with a token's times of now: an old payload asks what would be the case today."""
    return {"jti": "explain", **claims, "iat": now, "nbf": now, "exp": now + _HOUR}
