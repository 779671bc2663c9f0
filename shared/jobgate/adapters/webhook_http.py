"""The webhooks' route: GitLab's deliveries come in as API Gateway's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters.log import failure_text
from jobgate.adapters.proxy_event import json_answer, request_id_of, request_of
from jobgate.core.errors import InvalidRequest, InvalidToken, Unavailable
from jobgate.core.hook import HookScope
from jobgate.core.issuer import ALIAS_FORM
from jobgate.core.webhook import HookSecrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobgate.adapters.proxy_event import Event
    from jobgate.adapters.secrets import SecretReader
    from jobgate.ports import HooksOf
    from jobgate.usecases.receive_webhook import ReceiveWebhook

_FRESH_SECONDS = 1.0
_MAX_BODY_BYTES = 6 * 1024 * 1024  # what Lambda is given at most


def hooks_in(secrets: SecretReader, secret: str) -> HooksOf:
    """An issuer's webhooks from the secret that holds them all, by alias."""

    def hooks_of(alias: str, *, fresh: bool) -> list[HookSecrets]:
        # Strangers' deliveries ask for fresh ones too, so these are kept for a moment all the same.
        held = secrets.json(secret, max_age=_FRESH_SECONDS) if fresh else secrets.json(secret)
        return [_hook(entry) for entry in held.get(alias, [])]

    return hooks_of


def _hook(entry: Mapping[str, Any]) -> HookSecrets:
    scope = entry.get("scope")
    return HookSecrets(
        secret_token=entry.get("secret_token"),
        signing_token=entry.get("signing_token"),
        entry_id=entry.get("id"),
        scope=None if scope is None else HookScope(scope["kind"], scope["id"]),
    )


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
            self._log(self._receiver.receive(alias, headers, request.body))
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
