"""The webhooks' route: GitLab's deliveries come in as API Gateway's events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jobgate.adapters.log import failure_text
from jobgate.adapters.proxy_event import json_answer, request_id_of, request_of
from jobgate.core.errors import InvalidRequest, InvalidToken, Unavailable
from jobgate.core.issuer import ALIAS_FORM

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.adapters.proxy_event import Event, Request
    from jobgate.usecases.receive_webhook import ReceiveWebhook

_MAX_BODY_BYTES = 6 * 1024 * 1024  # what Lambda is given at most
_PROJECT_ID = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class WebhookHTTP:
    """Answers 2xx to everything authentic, 401 to the rest, and 503 where we can't tell."""

    def __init__(self, receiver: ReceiveWebhook, *, log: Callable[[str], None]) -> None:
        self._receiver = receiver
        self._log = log

    def __call__(self, event: Event, _context: object) -> dict[str, Any]:
        """Answer one delivery."""
        try:
            request = request_of(event, max_body_bytes=_MAX_BODY_BYTES)
            alias = request.path_parameters.get("alias", "")
            if not ALIAS_FORM.fullmatch(alias):
                return json_answer(401, {"error": "invalid_token"})
            headers = {name: values[-1] for name, values in request.headers.items()}
            told = self._receiver.receive(
                alias, headers, request.body, project_id=_project_id(request)
            )
            self._log(told)
        except InvalidToken as exc:
            self._log(str(exc))
            return json_answer(401, {"error": "invalid_token"})
        except InvalidRequest as exc:
            return json_answer(400, {"error": "invalid_request", "error_description": str(exc)})
        except Unavailable as exc:
            self._log(f"unavailable: {exc}")
            return json_answer(503, {"error": "temporarily_unavailable"})
        except Exception as exc:  # noqa: BLE001  the one place where nothing may get past
            self._log(failure_text(request_id_of(event), exc))
            return json_answer(500, {"error": "server_error"})
        return json_answer(202, {})


def _project_id(request: Request) -> int | None:
    """Whose webhook it says that it is, by its URL: a hint, which its secrets have to prove."""
    given = request.query.get("project", [])
    return int(given[0]) if len(given) == 1 and _PROJECT_ID.fullmatch(given[0]) else None
