"""When a message of the queue that failed is tried again."""

from __future__ import annotations

from jobgate.core.errors import InvalidRequest, Throttled

_FIRST_SECONDS = 2
_FACTOR = 4
_LONGEST_SECONDS = 120


def seconds_until_next_try(exc: Exception, *, received: int) -> int:
    """Whole seconds: 2, 8, 32 and then 120, as the message is `received` again and again.

    GitLab's own `Retry-After` is waited for. What can't be read never will be, and so goes to the
    dead-letter queue without a wait.
    """
    if isinstance(exc, InvalidRequest):
        return 0
    tries = min(max(received, 1), 10)
    seconds = min(_FIRST_SECONDS * int(_FACTOR ** (tries - 1)), _LONGEST_SECONDS)
    if isinstance(exc, Throttled):
        # A second more: both clocks count whole ones.
        return max(seconds, int(exc.retry_after) + 1)
    return seconds
