"""What the relay answers itself, in the form that kubectl prints.

Measured with kubectl 1.36 and helm 4.2: clients print a `Status` well where they ask for a
resource. Where they ask for none (discovery, `/version`, which is helm's first call, OpenAPI), they
drop a JSON body and say "unknown", while a 403 in plain text is printed whole (docs/adr/0006). No
answer carries `Retry-After`: kubectl would try for the better part of a minute.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from jobgate.core import kubernetes_status, watch
from jobgate.core.kubernetes_request import kubernetes_request
from jobgate.core.reasons import EXPLANATIONS, Explanation, Reason

if TYPE_CHECKING:
    from jobgate.core.authorization import Rule

DECISION_HEADER = "Jobgate-Decision"
"""On every answer of the relay's own, and on no answer of the API server's: the decision's id."""

_FORBIDDEN = 403
_DISCOVERY = frozenset({"api", "apis", "version", "openapi"})
_UNFAITHFUL = Explanation(
    "The request can't be carried unchanged.",
    "Write the path and the query without empty, '.' or '..' segments, encoded slashes, control "
    "characters and repeated Content-Type lines.",
)
_TOKEN = Explanation(
    "The access token isn't good.", "Fetch a kubeconfig in this job, and use it as it is."
)
_CHANGED = Explanation(
    "What the agent's configuration allows this job has changed since the request began.",
    "Run the command again.",
)
_CREDENTIAL = Explanation(
    "The cluster refuses the credential that Jobgate has for it.", "Tell the operators of Jobgate."
)
# What was sent can't be called back: nobody knows how far the cluster came with it.
_MAYBE_DONE = "The request was sent by then, and what it was to change may be changed."
_LOOK_FIRST = "Look at what the cluster has before you send it again."
_METHOD = Explanation(
    "This HTTP method can't be carried.", "Use GET, HEAD, POST, PUT, PATCH or DELETE."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request isn't carried. `code` and `explanation` replace the reason's own.

    `cause` is for the record alone. `withdrawn`: the request was allowed first, and is with the
    cluster already.
    """

    reason: Reason
    rule: Rule | None = None
    code: int | None = None
    explanation: Explanation | None = None
    cause: str | None = None
    withdrawn: bool = False

    @property
    def ends_as(self) -> str:
        """How the record says that this ended what had been allowed."""
        return "expired" if self.reason is Reason.TOKEN_EXPIRED else "revoked"


CREDENTIAL_REFUSED = Refusal(reason=Reason.UPSTREAM_UNREACHABLE, explanation=_CREDENTIAL)
CHANGED = Refusal(reason=Reason.NOT_LISTED, explanation=_CHANGED)
TOKEN_INVALID = Refusal(reason=Reason.TOKEN_INVALID, explanation=_TOKEN)
UNFAITHFUL = Refusal(reason=Reason.UNSUPPORTED, code=400, explanation=_UNFAITHFUL)
UNSUPPORTED_METHOD = Refusal(reason=Reason.UNSUPPORTED, explanation=_METHOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAnswer:
    """An answer of the relay's own, whole."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def refusal_answer(refusal: Refusal, *, path: str, decision_id: str) -> OwnAnswer:
    """The answer to a refused request; `path` is the cluster's own, percent-encoded."""
    status = kubernetes_status.status(
        refusal.reason,
        decision_id=decision_id,
        code=refusal.code,
        explanation=refusal.explanation,
    )
    return _answer(status, path=path, decision_id=decision_id)


def withdrawn(refusal: Refusal, *, changes: bool) -> Refusal:
    """The refusal of a request that is with the cluster; `changes`: it's one that may change it."""
    return replace(in_doubt(refusal) if changes else refusal, withdrawn=True)


def in_doubt(refusal: Refusal) -> Refusal:
    """The refusal of a change that the cluster may have made."""
    told = refusal.explanation or EXPLANATIONS[refusal.reason]
    return replace(refusal, explanation=Explanation(f"{told.sentence} {_MAYBE_DONE}", _LOOK_FIRST))


def ending_event(refusal: Refusal, *, decision_id: str) -> bytes:
    """What ends a JSON watch whose right has ended.

    Always 403: on 410 a client would begin anew with a list.
    """
    return watch.error_event(
        kubernetes_status.status(
            refusal.reason,
            decision_id=decision_id,
            code=_FORBIDDEN,
            explanation=refusal.explanation,
        )
    )


def failure_answer(*, path: str, decision_id: str) -> OwnAnswer:
    """The answer where the relay itself went wrong; the cause is in the log, under the id."""
    return _answer(
        kubernetes_status.internal_error(decision_id=decision_id),
        path=path,
        decision_id=decision_id,
    )


def _answer(status: dict[str, object], *, path: str, decision_id: str) -> OwnAnswer:
    own = ((DECISION_HEADER, decision_id), ("Cache-Control", "no-store"))
    if _is_discovery(path):
        return OwnAnswer(
            status=403,
            headers=(("Content-Type", "text/plain; charset=utf-8"), *own),
            body=str(status["message"]).encode(),
        )
    code = status["code"]
    if not isinstance(code, int):  # Defensive: the Status object is our own.
        raise TypeError("a Status without a code")
    return OwnAnswer(
        status=code,
        headers=(("Content-Type", "application/json"), *own),
        body=json.dumps(status, separators=(",", ":")).encode(),
    )


def _is_discovery(path: str) -> bool:
    """Whether a client's discovery asks: for versions, groups and documents, not for a resource."""
    first = unquote(path).lstrip("/").partition("/")[0]
    return first in _DISCOVERY and not kubernetes_request("GET", path, ()).is_resource
