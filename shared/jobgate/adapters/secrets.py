"""Values in Secrets Manager, kept for a while so that a warm function needn't ask each time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import Unavailable

if TYPE_CHECKING:
    from jobgate.adapters.aws_api import AWSCall
    from jobgate.ports import Clock

_KEPT_SECONDS = 60.0
_FRESH_SECONDS = 1.0


class SecretReader:
    """Reads secrets that hold a JSON object."""

    def __init__(self, call: AWSCall, *, clock: Clock) -> None:
        self._call = call
        self._clock = clock
        self._read: dict[str, tuple[float, dict[str, Any]]] = {}

    def json(self, secret: str, *, max_age: float = _KEPT_SECONDS) -> dict[str, Any]:
        """The JSON object in the secret of this ARN; raises Unavailable."""
        now = self._clock()
        known = self._read.get(secret)
        # Read in the future means that the clock was set back: that isn't young.
        if known is None or not 0 <= now - known[0] <= max_age:
            known = self._read[secret] = now, self._value(secret)
        return known[1]

    def entry(self, secret: str, name: str) -> Any:
        """The value of this name in the secret, None where there is none; raises Unavailable.

        One that isn't known may have been added since: it's looked for again, once a second.
        """
        held = self.json(secret)
        if name not in held:
            held = self.json(secret, max_age=_FRESH_SECONDS)
        return held.get(name)

    def _value(self, secret: str) -> dict[str, Any]:
        try:
            answer = self._call("secretsmanager", "GetSecretValue", {"SecretId": secret})
            value = json.loads(answer["SecretString"])
        except AWSError as exc:
            raise Unavailable(f"a secret can't be read: {exc.code}") from exc
        except (KeyError, ValueError):
            # Not "from": the library's text would quote the secret.
            raise Unavailable("a secret doesn't hold JSON") from None
        if not isinstance(value, dict):
            raise Unavailable("a secret doesn't hold a JSON object")
        return value
