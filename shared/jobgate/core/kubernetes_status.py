"""Refusals in the form that kubectl prints: a `Status` (Kubernetes API conventions, "Errors")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobgate.core.reasons import EXPLANATIONS, Reason

if TYPE_CHECKING:
    from jobgate.core.reasons import Explanation

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
    500: "InternalError",
    501: "NotImplemented",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def status_code(reason: Reason) -> int:
    """The HTTP status of a refusal by the relay."""
    return _CODES.get(reason, 403)


def message(reason: Reason, *, decision_id: str, explanation: Explanation | None = None) -> str:
    """One sentence that says what is the case, one that says what to do, and the decision's id.

    `explanation` replaces the reason's own.
    """
    told = explanation or EXPLANATIONS[reason]
    return f"Jobgate: {told.sentence} {told.next_step} (reason {reason}, decision {decision_id})"


def status(
    reason: Reason,
    *,
    decision_id: str,
    code: int | None = None,
    explanation: Explanation | None = None,
) -> dict[str, object]:
    """A refusal as a Kubernetes `Status` object; `code` replaces the reason's own."""
    return _status(
        status_code(reason) if code is None else code,
        message(reason, decision_id=decision_id, explanation=explanation),
    )


def internal_error(*, decision_id: str) -> dict[str, object]:
    """A failure of Jobgate itself as a `Status` object."""
    return _status(
        500,
        "Jobgate: The request failed inside Jobgate. Run the job again; if it stays so, tell the "
        f"operators of Jobgate. (decision {decision_id})",
    )


def _status(code: int, text: str) -> dict[str, object]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": _STATUS_REASONS[code],
        "code": code,
    }
