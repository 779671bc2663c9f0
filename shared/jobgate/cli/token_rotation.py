"""`jobgate gitlab rotate-token`: a new token in GitLab and in the stack, with the old one's rights.

GitLab ends the old token in the moment in which it gives the new one, so whether the new one can
be stored is tried before. Functions read the secret anew within a minute; what they ask GitLab
until then fails, is tried again, and widens nothing.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from jobgate.adapters import items
from jobgate.adapters.aws_api import AWSError
from jobgate.cli import gitlab_tokens, stored_secrets
from jobgate.cli.errors import Refused
from jobgate.cli.gitlab_tokens import RUN_TIME
from jobgate.cli.set_up_api import SetUpAPI
from jobgate.core.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected
    from jobgate.core.issuer import Issuer

DAYS_MAX = 365  # GitLab's longest life of a token


def rotate_token(connected: Connected, issuer: Issuer, *, days: int) -> None:
    """Rotate the run-time token by itself; needs the scope self_rotate (or api)."""
    if not 1 <= days <= DAYS_MAX:
        raise InvalidRequest(f"--days is from 1 to {DAYS_MAX}.")
    secret = connected.stack.gitlab_tokens
    old = gitlab_tokens.stored_token(connected, secret, issuer.alias)
    if old is None:
        raise InvalidRequest("No run-time token is stored: run `jobgate issuer add` again.")
    stored_secrets.change_entry(connected.aws, secret, issuer.alias, old)
    new, ends = _rotated(connected, issuer, old, days)
    try:
        stored_secrets.change_entry(connected.aws, secret, issuer.alias, new)
    except AWSError as exc:
        raise Unavailable(
            "GitLab has ended the old token, and the new one couldn't be stored: make another one "
            "in GitLab and give it to `jobgate issuer add`."
        ) from exc
    forget_end(connected, issuer)
    connected.output.say(f"The run-time token of {issuer.alias!r} is new, until {ends}.")
    connected.output.result({"issuer": issuer.alias, "expires_at": ends})


def replace_token(connected: Connected, issuer: Issuer, token: str) -> None:
    """Take over a token that was made in GitLab; the old one stays good there. Raises Refused."""
    state = gitlab_tokens.check(issuer, token, RUN_TIME, projects=(), now=connected.outside.clock())
    if state.missing:
        raise Refused(gitlab_tokens.sentences(state)[0])
    secret = connected.stack.gitlab_tokens
    stored_secrets.change_entry(connected.aws, secret, issuer.alias, token)
    forget_end(connected, issuer)
    connected.output.say(gitlab_tokens.sentences(state)[0])
    connected.output.say("Revoke the old one in GitLab once a minute has passed.")
    connected.output.result({"issuer": issuer.alias, "expires_at": state.expires_at})


def forget_end(connected: Connected, issuer: Issuer) -> None:
    """Have the schedule's next round read until when the new token is good."""
    connected.table.delete(items.token_end_key(issuer.alias))


def _rotated(connected: Connected, issuer: Issuer, old: str, days: int) -> tuple[str, str]:
    now = dt.datetime.fromtimestamp(connected.outside.clock(), dt.UTC)
    ends = (now + dt.timedelta(days=days)).date().isoformat()
    status, body = SetUpAPI(issuer, old).ask(
        "POST", "/personal_access_tokens/self/rotate", {"expires_at": ends}
    )
    if status in (401, 403, 405):
        raise Refused(
            "GitLab doesn't let the run-time token rotate itself: give it the scope self_rotate, "
            "or make a new one and run this with --token-file."
        )
    if not 200 <= status < 300 or not isinstance(body, dict) or not body.get("token"):
        raise Unavailable(f"GitLab at {issuer.base_url} answered {status} to a rotation.")
    return str(body["token"]), str(body.get("expires_at") or ends)
