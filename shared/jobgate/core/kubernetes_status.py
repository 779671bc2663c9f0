"""Refusals in the form that kubectl prints: a `Status` (Kubernetes API conventions, "Errors")."""

from __future__ import annotations

from jobgate.core.reasons import EXPLANATIONS, Reason

_CODES = {
    Reason.TOKEN_INVALID: 401,
    Reason.TOKEN_EXPIRED: 401,
    Reason.CLIENT_IMPERSONATION: 400,
    Reason.CHAIN_UNKNOWN: 503,
    Reason.JOB_UNKNOWN: 503,
    Reason.UNSUPPORTED: 501,
    Reason.TOO_LARGE: 413,
    Reason.THROTTLED: 429,
    Reason.UPSTREAM_UNREACHABLE: 502,
    Reason.UPSTREAM_TIMEOUT: 504,
}
_STATUS_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    413: "RequestEntityTooLarge",
    429: "TooManyRequests",
    501: "NotImplemented",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def status_code(reason: Reason) -> int:
    """The HTTP status of a refusal by the relay."""
    return _CODES.get(reason, 403)


def message(reason: Reason, *, decision_id: str) -> str:
    """One sentence that says what is the case, one that says what to do, and the decision's id."""
    explanation = EXPLANATIONS[reason]
    return (
        f"Jobgate: {explanation.sentence} {explanation.next_step} "
        f"(reason {reason}, decision {decision_id})"
    )


def status(reason: Reason, *, decision_id: str) -> dict[str, object]:
    """A refusal as a Kubernetes `Status` object."""
    code = status_code(reason)
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message(reason, decision_id=decision_id),
        "reason": _STATUS_REASONS[code],
        "code": code,
    }
