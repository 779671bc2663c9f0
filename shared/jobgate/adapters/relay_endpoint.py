"""The relay behind API Gateway: a REST API's proxy event in, a streamed answer out.

Source: API Gateway, "Input format of a Lambda function for proxy integration". The path is still
percent-encoded and without the stage; the query is decoded; only the `multiValue…` maps hold all
values of a repeated header or parameter.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Protocol

from jobgate.adapters.log import failure_line
from jobgate.core.connection_check import PATH as CHECK_PATH
from jobgate.core.relay_refusal import (
    TOKEN_INVALID,
    UNFAITHFUL,
    OwnAnswer,
    failure_answer,
    refusal_answer,
)
from jobgate.core.upstream_request import IncomingRequest, agent_route
from jobgate.ports.relay import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.ports import Recorder
    from jobgate.usecases.relay import Relay


class Check(Protocol):
    """See `RelayEndpoint`."""

    def __call__(
        self, incoming: IncomingRequest, agent_id: int | None, *, decision_id: str
    ) -> dict[str, Any] | None: ...


_Pairs = tuple[tuple[str, str], ...]


class InvocationContext(Protocol):
    """What the endpoint reads of Lambda's context; `deadline` in epoch seconds."""

    @property
    def aws_request_id(self) -> str: ...

    @property
    def deadline(self) -> float: ...


class RelayEndpoint:
    """A streaming handler. The invocation's id is the decision's id.

    `close` closes what is kept between two requests. `check` answers an operator's question about
    an agent by a JSON object, None where the request's token isn't good for that.
    """

    def __init__(
        self,
        relay: Relay,
        *,
        log: Recorder,
        close: Callable[[], None],
        check: Check | None = None,
    ) -> None:
        self._relay = relay
        self._check = check
        self._log = log
        self._close = close

    def __call__(self, event: Mapping[str, Any], context: InvocationContext) -> Response:
        """Answer one event; never raises."""
        decision_id = context.aws_request_id
        path = "/"
        try:
            incoming = incoming_request(event)
            if incoming is None:
                self._log(failure_line(decision_id, "UnreadableEvent"))
                return _own(refusal_answer(UNFAITHFUL, path=path, decision_id=decision_id))
            agent_id, path = agent_route(incoming.path)
            if path == CHECK_PATH and self._check is not None:
                found = self._check(incoming, agent_id, decision_id=decision_id)
                return _own(_check_answer(found, decision_id))
            return self._relay.answer(incoming, decision_id=decision_id, deadline=context.deadline)
        except Exception as exc:  # noqa: BLE001  the one place where everything ends as an answer
            self._log(failure_line(decision_id, type(exc).__name__, exc))
            return _own(failure_answer(path=path, decision_id=decision_id))

    def before_snapshot(self) -> None:
        """No connection survives a snapshot (Lambda SnapStart)."""
        self._close()


def incoming_request(event: Mapping[str, Any]) -> IncomingRequest | None:
    """Read an event; None where it isn't of the form that a REST API gives."""
    method, path = event.get("httpMethod"), event.get("path")
    if not isinstance(method, str) or not isinstance(path, str):
        return None
    query = _pairs(event.get("multiValueQueryStringParameters"))
    headers = _pairs(event.get("multiValueHeaders"))
    body = _body(event)
    if query is None or headers is None or body is None:
        return None
    if event.get("queryStringParameters") and not query:
        # Of a repeated parameter only one value would be left.
        return None
    return IncomingRequest(method=method, path=path, query=query, headers=headers, body=body)


def _pairs(values: object) -> _Pairs | None:
    """A `multiValue…` map as pairs; None where it isn't one."""
    if values is None:
        return ()
    if not isinstance(values, dict):
        return None
    pairs: list[tuple[str, str]] = []
    for name, each in values.items():
        if not isinstance(each, list):
            return None
        for value in each:
            if not isinstance(value, str):
                return None
            pairs.append((name, value))
    return tuple(pairs)


def _body(event: Mapping[str, Any]) -> bytes | None:
    body = event.get("body")
    if body is None:
        return b""
    try:
        if event.get("isBase64Encoded") is True:
            return base64.b64decode(body, validate=True)
        data: bytes = body.encode()
    except (AttributeError, TypeError, ValueError):
        return None
    return data


def _check_answer(found: dict[str, Any] | None, decision_id: str) -> OwnAnswer:
    if found is None:
        return refusal_answer(TOKEN_INVALID, path=CHECK_PATH, decision_id=decision_id)
    headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    return OwnAnswer(status=200, headers=headers, body=json.dumps(found).encode())


def _own(answer: OwnAnswer) -> Response:
    return Response(
        status=answer.status,
        headers=answer.headers,
        body=iter((answer.body,)),
        length=len(answer.body),
    )
