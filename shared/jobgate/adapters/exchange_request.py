"""What a job asks of the exchange: a token request (RFC 8693, 2.1), or a request with its token."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.adapters.proxy_event import single
from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.adapters.proxy_event import Request

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a type's name
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  the same

_SUBJECT_TOKEN_TYPES = frozenset({ID_TOKEN_TYPE, JWT_TYPE})
_ISSUED_TOKEN_TYPES = frozenset({ACCESS_TOKEN_TYPE, JWT_TYPE})
_TARGETS = ("audience", "resource")
_SINGLE = (
    "grant_type",
    "subject_token",
    "subject_token_type",
    "requested_token_type",
    "actor_token",
    "actor_token_type",
    "scope",
)
_PARAMETERS = ("agent", "format")
_HEADER_TOKEN_MAX_BYTES = 8 * 1024  # API Gateway carries 10,240 bytes of headers in all
_SCHEME = re.compile(r"(?i:bearer)(?: |$)")
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")


class RequestRefused(InvalidRequest):
    """A request with an answer of its own: status and error code (RFC 6749, RFC 6750)."""

    def __init__(self, sentence: str, *, status: int = 400, code: str = "invalid_request") -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A token exchange request; `targets` are its resources and audiences."""

    subject_token: str
    targets: tuple[str, ...]
    issued_token_type: str


def token_request(request: Request) -> TokenRequest:
    """Read `POST /token`; raises InvalidRequest. Parameters that nobody knows are ignored."""
    fields = request.fields()
    targets = [target for name in _TARGETS for target in fields.get(name, ()) if target]
    form = single(fields, _SINGLE)
    _check_grant_type(form)
    if form.get("subject_token_type") not in _SUBJECT_TOKEN_TYPES:
        raise InvalidRequest("subject_token_type must be that of an ID token or a JWT.")
    issued = form.get("requested_token_type", ACCESS_TOKEN_TYPE)
    if issued not in _ISSUED_TOKEN_TYPES:
        raise InvalidRequest(f"requested_token_type must be {ACCESS_TOKEN_TYPE}.")
    if form.keys() & {"actor_token", "actor_token_type"}:
        raise InvalidRequest("actor_token isn't supported.")
    if "scope" in form:
        raise RequestRefused("There are no scopes here: leave scope out.", code="invalid_scope")
    if "subject_token" not in form:
        raise InvalidRequest("subject_token is missing.")
    return TokenRequest(
        subject_token=form["subject_token"],
        targets=tuple(dict.fromkeys(targets)),
        issued_token_type=issued,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """A request that a job makes with its ID token. `parameters` have at most one value each."""

    token: str
    parameters: Mapping[str, str]

    @property
    def targets(self) -> tuple[str, ...]:
        """The agent that is asked for, if one is."""
        agent = self.parameters.get("agent")
        return () if agent is None else (agent,)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """A parameter with few values, the first of which stands for none."""
        value = self.parameters.get(name, choices[0])
        if value not in choices:
            raise InvalidRequest(f"{name} must be one of: {', '.join(choices)}.")
        return value


def job_request(request: Request) -> JobRequest:
    """Read a request whose ID token is the form field `token` of a POST, or else the bearer.

    Other form fields are parameters, as those of the query are. Raises InvalidRequest; 401 where
    there is no token at all (RFC 6750, 3.1).
    """
    has_form = request.method == "POST" and request.body
    form = single(request.fields(), ("token", *_PARAMETERS)) if has_form else {}
    query = {n: request.parameter(n) or "" for n in _PARAMETERS if n in request.query}
    if form.keys() & query.keys():
        raise InvalidRequest("A parameter stands in the query and in the form.")
    token = form.pop("token", None)
    bearer = _bearer(request)
    if token is not None and bearer is not None:
        raise InvalidRequest("Send the token as the bearer or as the form field, not both.")
    given = token or bearer
    if given is None:
        raise RequestRefused(
            "Send the job's ID token as Authorization: Bearer, or POST it as the form field token.",
            status=401,
            code="invalid_token",
        )
    return JobRequest(token=given, parameters=query | form)


def _check_grant_type(form: Mapping[str, str]) -> None:
    if form.get("grant_type") == GRANT_TYPE:
        return
    code = "unsupported_grant_type" if "grant_type" in form else "invalid_request"
    raise RequestRefused(f"grant_type must be {GRANT_TYPE}.", code=code)


def _bearer(request: Request) -> str | None:
    header = request.header("authorization")
    if header is None or not _SCHEME.match(header):
        # Nothing, or another scheme's credentials, which say nothing of a job.
        return None
    if len(header) > _HEADER_TOKEN_MAX_BYTES:
        raise RequestRefused(
            "The token is too long for a header: POST it as the form field token.", status=431
        )
    bearer = _BEARER.fullmatch(header)
    if bearer is None:
        raise InvalidRequest("What follows Authorization: Bearer is no token.")
    return bearer[1]
