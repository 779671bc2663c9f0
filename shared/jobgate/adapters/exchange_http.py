"""The exchange's routes: RFC 8693 at `/token`, what kubectl needs, and why access is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters.exchange_request import RequestRefused, job_request, token_request
from jobgate.adapters.log import failure_text
from jobgate.adapters.proxy_event import (
    TooLong,
    json_answer,
    request_id_of,
    request_of,
    text_answer,
)
from jobgate.adapters.published_documents import PublishedDocuments
from jobgate.core import explanation
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.kubeconfig import exec_credential, exec_kubeconfig, kubeconfig
from jobgate.core.reasons import Reason, advice
from jobgate.usecases.presented_token import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.adapters.proxy_event import Event, Request
    from jobgate.ports import Clock, Deployment
    from jobgate.usecases.exchange import Exchange
    from jobgate.usecases.explain import Explain

_MAX_BODY_BYTES = 68 * 1024  # a token of 64 KiB and the other fields
# JSON is YAML, so one body is both; a writer of YAML would cost more than all the rest.
_CONFIG_TYPES = ("application/json", "application/yaml", "application/x-yaml", "text/yaml")
# What may be mended by asking again; everything else stays refused.
_UNKNOWN = frozenset({Reason.JOB_UNKNOWN, Reason.CHAIN_UNKNOWN})
_TOKEN_REASONS = frozenset({Reason.TOKEN_INVALID, Reason.TOKEN_EXPIRED})
# Whatever the target: RFC 8693, 2.2.2 keeps invalid_target for the others.
_ABOUT_SUBJECT = _TOKEN_REASONS | {Reason.JOB_FINISHED}


class ExchangeHTTP:
    """Answers API Gateway's events."""

    def __init__(
        self,
        exchange: Exchange,
        explain: Explain,
        deployment: Callable[[], Deployment],
        *,
        clock: Clock,
        log: Callable[[str], None],
    ) -> None:
        self._exchange = exchange
        self._explain = explain
        self._deployment = deployment
        self._log = log
        published = PublishedDocuments(deployment, clock=clock)
        self._routes: Mapping[tuple[str, str], Callable[[Request], dict[str, Any]]] = {
            ("POST", "/token"): self._token,
            ("GET", "/kubeconfig"): self._kubeconfig,
            ("POST", "/kubeconfig"): self._kubeconfig,
            ("GET", "/credential"): self._credential,
            ("POST", "/credential"): self._credential,
            ("GET", "/explain"): self._explanation,
            ("POST", "/explain"): self._explanation,
            ("GET", "/.well-known/jwks.json"): published.keys,
            ("GET", "/.well-known/openid-configuration"): published.discovery,
        }

    def __call__(self, event: Event, _context: object) -> dict[str, Any]:
        """Answer one request; whatever goes wrong, the caller learns no more than that it did."""
        try:
            answer = self._routes.get((event["httpMethod"], event["path"]), _nothing)
            return answer(request_of(event, max_body_bytes=_MAX_BODY_BYTES))
        except RequestRefused as exc:
            return _error(exc.status, exc.code, str(exc))
        except TooLong as exc:
            return _error(413, "invalid_request", str(exc))
        except InvalidRequest as exc:
            return _error(400, "invalid_request", str(exc))
        except Unavailable as exc:
            self._log(f"unavailable: {exc}")
            return _error(503, "temporarily_unavailable", "Jobgate can't answer at the moment.")
        except Exception as exc:  # noqa: BLE001  the one place where nothing may get past
            self._log(failure_text(request_id_of(event), exc))
            return _error(500, "server_error", "Something went wrong inside Jobgate.")

    def _token(self, request: Request) -> dict[str, Any]:
        asked = token_request(request)
        outcome = self._exchange.redeem(asked.subject_token, targets=asked.targets)
        if isinstance(outcome, Refused):
            return _token_refusal(outcome, bound=bool(asked.targets))
        return json_answer(
            200,
            {
                "access_token": outcome.token,
                "issued_token_type": asked.issued_token_type,
                "token_type": "Bearer",
                "expires_in": outcome.expires_in,
            },
            _decision(outcome.decision_id),
        )

    def _kubeconfig(self, request: Request) -> dict[str, Any]:
        asked = job_request(request)
        media_type = request.preferred(_CONFIG_TYPES)
        if asked.choice("format", ("token", "exec")) == "exec":
            granted = self._exchange.grants(asked.token, targets=asked.targets)
            if isinstance(granted, Refused):
                return _job_refusal(granted)
            config = exec_kubeconfig(
                granted.grants, base_url=granted.base_url, ca=self._deployment().ca
            )
            return json_answer(200, config, _decision(granted.decision_id, media_type))
        outcome = self._exchange.redeem(asked.token, targets=asked.targets)
        if isinstance(outcome, Refused):
            return _job_refusal(outcome)
        config = kubeconfig(
            outcome.grants,
            access_token=outcome.token,
            base_url=outcome.base_url,
            ca=self._deployment().ca,
        )
        return json_answer(200, config, _decision(outcome.decision_id, media_type))

    def _credential(self, request: Request) -> dict[str, Any]:
        asked = job_request(request)
        outcome = self._exchange.redeem(asked.token, targets=asked.targets)
        if isinstance(outcome, Refused):
            return _job_refusal(outcome)
        credential = exec_credential(outcome.token, expires_at=outcome.expires_at)
        return json_answer(200, credential, _decision(outcome.decision_id))

    def _explanation(self, request: Request) -> dict[str, Any]:
        asked = job_request(request)
        outcome = self._explain.run(asked.token, context=asked.parameters.get("agent"))
        if isinstance(outcome, Refused):
            return _job_refusal(outcome)
        if request.preferred(("text/plain", "application/json")) == "text/plain":
            headers = {"Jobgate-Decision": outcome.decision_id}
            return text_answer(200, explanation.as_text(outcome), headers)
        return json_answer(200, explanation.as_json(outcome), _decision(outcome.decision_id))


def _nothing(_request: Request) -> dict[str, Any]:
    return _error(404, "invalid_request", "There is nothing here.")


def _decision(decision_id: str, media_type: str = "application/json") -> dict[str, str]:
    return {"Content-Type": media_type, "Jobgate-Decision": decision_id}


def _token_refusal(refused: Refused, *, bound: bool) -> dict[str, Any]:
    """RFC 6749, 5.2 and RFC 8693, 2.2.2."""
    if answer := _try_later(refused):
        return answer
    about_target = bound and refused.reason not in _ABOUT_SUBJECT
    return _refusal(refused, 400, "invalid_target" if about_target else "invalid_request")


def _job_refusal(refused: Refused) -> dict[str, Any]:
    """401 only where a fresh ID token would help (RFC 6750, 3.1)."""
    if answer := _try_later(refused):
        return answer
    if refused.reason is Reason.UNSUPPORTED:
        return _refusal(refused, 400, "invalid_request")
    if refused.reason in _TOKEN_REASONS:
        return _refusal(refused, 401, "invalid_token")
    return _refusal(refused, 403, "access_denied")


def _try_later(refused: Refused) -> dict[str, Any] | None:
    if refused.reason in _UNKNOWN:
        return _refusal(refused, 503, "temporarily_unavailable")
    if refused.reason is Reason.THROTTLED:
        return _refusal(refused, 429, "temporarily_unavailable")
    return None


def _refusal(refused: Refused, status: int, code: str) -> dict[str, Any]:
    """An error with the reason and the decision's id beside it."""
    sentence = refused.sentence or advice(refused.reason)
    found = {"reason": refused.reason, "decision_id": refused.decision_id}
    answer = _error(status, code, sentence, **found)
    answer["headers"]["Jobgate-Decision"] = refused.decision_id
    return answer


def _error(status: int, code: str, description: str, **found: str) -> dict[str, Any]:
    # RFC 6750, 3; API Gateway hands it on under another name, which no client of ours reads.
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return json_answer(status, {"error": code, "error_description": description, **found}, headers)
