"""The exchange's routes: RFC 8693 at `/token`, a kubeconfig at `/kubeconfig`, our public keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jobgate.adapters.log import failure_text
from jobgate.adapters.proxy_event import json_answer, request_id_of, request_of
from jobgate.core import access_token, keys
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.kubeconfig import kubeconfig
from jobgate.core.reasons import EXPLANATIONS, Reason
from jobgate.usecases.exchange import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.adapters.proxy_event import Event, Request
    from jobgate.ports import Clock, Deployment
    from jobgate.usecases.exchange import Exchange

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a type's name
_SUBJECT_TOKEN_TYPES = frozenset(
    {"urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt"}
)
_MAX_BODY_BYTES = 68 * 1024  # a token of 64 KiB and the other fields
_HEADER_TOKEN_MAX_BYTES = 8 * 1024  # API Gateway carries 10,240 bytes of headers in all
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")
_PUBLIC = {"Cache-Control": "public, max-age=300"}
# What may be mended by asking again; everything else stays refused.
_UNKNOWN = frozenset({Reason.JOB_UNKNOWN, Reason.CHAIN_UNKNOWN})
# Whatever the target: RFC 8693, 2.2.2 keeps invalid_target for the others.
_ABOUT_SUBJECT = frozenset({Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED, Reason.JOB_FINISHED})

_POST_INSTEAD = "The token is too long for a header: POST it as the form field token."


class HeaderTooLong(InvalidRequest):
    """A bearer that API Gateway would carry only by chance."""


class ExchangeHTTP:
    """Answers API Gateway's events."""

    def __init__(
        self,
        exchange: Exchange,
        deployment: Callable[[], Deployment],
        *,
        clock: Clock,
        log: Callable[[str], None],
    ) -> None:
        self._exchange = exchange
        self._deployment = deployment
        self._clock = clock
        self._log = log

    def __call__(self, event: Event, _context: object) -> dict[str, Any]:
        """Answer one request; whatever goes wrong, the caller learns no more than that it did."""
        try:
            return self._route(request_of(event, max_body_bytes=_MAX_BODY_BYTES))
        except HeaderTooLong:
            return _error(431, "invalid_request", _POST_INSTEAD)
        except InvalidRequest as exc:
            return _error(400, "invalid_request", str(exc))
        except Unavailable as exc:
            self._log(f"unavailable: {exc}")
            return _error(503, "temporarily_unavailable", "Jobgate can't answer at the moment.")
        except Exception as exc:  # noqa: BLE001  the one place where nothing may get past
            self._log(failure_text(request_id_of(event), exc))
            return _error(500, "server_error", "Something went wrong inside Jobgate.")

    def _route(self, request: Request) -> dict[str, Any]:
        match (request.method, request.path):
            case ("POST", "/token"):
                return self._token(request)
            case ("GET" | "POST", "/kubeconfig"):
                return self._kubeconfig(request)
            case ("GET", "/.well-known/jwks.json"):
                key_set = keys.jwks(self._deployment().keys, now=self._clock())
                return json_answer(200, key_set, _PUBLIC)
            case ("GET", "/.well-known/openid-configuration"):
                return json_answer(200, self._discovery(), _PUBLIC)
            case _:
                return _error(404, "invalid_request", "There is nothing here.")

    def _token(self, request: Request) -> dict[str, Any]:
        form = request.form()
        subject_token = _checked_subject_token(form)
        outcome = self._exchange.redeem(subject_token, resource=form.get("resource"))
        if isinstance(outcome, Refused):
            status = 503 if outcome.reason in _UNKNOWN else 400
            return _refusal(outcome, status, bound=form.get("resource") is not None)
        return json_answer(
            200,
            {
                "access_token": outcome.token,
                "issued_token_type": ACCESS_TOKEN_TYPE,
                "token_type": "Bearer",
                "expires_in": outcome.expires_in,
            },
        )

    def _kubeconfig(self, request: Request) -> dict[str, Any]:
        subject_token = _presented_token(request)
        resource = request.parameter("agent")
        outcome = self._exchange.redeem(subject_token, resource=resource)
        if isinstance(outcome, Refused):
            return _refusal(outcome, _status(outcome.reason), bound=resource is not None)
        config = kubeconfig(
            outcome.grants,
            access_token=outcome.token,
            base_url=outcome.base_url,
            ca=self._deployment().ca,
        )
        return json_answer(200, config, {"Jobgate-Decision": outcome.decision_id})

    def _discovery(self) -> dict[str, Any]:
        base_url = self._deployment().base_url
        if base_url is None:
            raise Unavailable("the deployment has no base URL yet")
        return {
            "issuer": base_url,
            "jwks_uri": f"{base_url}/.well-known/jwks.json",
            "token_endpoint": f"{base_url}/token",
            "grant_types_supported": [GRANT_TYPE],
            "response_types_supported": ["none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [access_token.ALGORITHM],
        }


def _checked_subject_token(form: dict[str, str]) -> str:
    """The subject token of a token exchange request (RFC 8693, 2.1)."""
    if form.get("grant_type") != GRANT_TYPE:
        raise InvalidRequest(f"grant_type must be {GRANT_TYPE}.")
    if form.get("subject_token_type") not in _SUBJECT_TOKEN_TYPES:
        raise InvalidRequest("subject_token_type must be that of an ID token or a JWT.")
    if form.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
        raise InvalidRequest(f"requested_token_type must be {ACCESS_TOKEN_TYPE}.")
    if "actor_token" in form:
        raise InvalidRequest("actor_token isn't supported.")
    if "subject_token" not in form:
        raise InvalidRequest("subject_token is missing.")
    return form["subject_token"]


def _presented_token(request: Request) -> str:
    """The ID token: the form field `token` of a POST, or else the bearer (RFC 6750, 2.1)."""
    if request.method == "POST" and request.body:
        token = request.form().get("token")
        if token is None:
            raise InvalidRequest("The form field token is missing.")
        return token
    header = request.header("authorization") or ""
    if len(header) > _HEADER_TOKEN_MAX_BYTES:
        raise HeaderTooLong
    bearer = _BEARER.fullmatch(header)
    if bearer is None:
        raise InvalidRequest("Send the job's ID token as Authorization: Bearer.")
    return bearer[1]


def _status(reason: Reason) -> int:
    if reason in (Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED):
        return 401
    return 503 if reason in _UNKNOWN else 403


def _refusal(refused: Refused, status: int, *, bound: bool) -> dict[str, Any]:
    """RFC 6749, 5.2 and RFC 8693, 2.2.2; the reason and the decision's id come beside it."""
    explanation = EXPLANATIONS[refused.reason]
    if refused.reason in _UNKNOWN:
        code = "temporarily_unavailable"
    else:
        about_target = bound and refused.reason not in _ABOUT_SUBJECT
        code = "invalid_target" if about_target else "invalid_request"
    return json_answer(
        status,
        {
            "error": code,
            "error_description": f"{explanation.sentence} {explanation.next_step}",
            "reason": refused.reason,
            "decision_id": refused.decision_id,
        },
        {"Jobgate-Decision": refused.decision_id},
    )


def _error(status: int, code: str, description: str) -> dict[str, Any]:
    return json_answer(status, {"error": code, "error_description": description})
