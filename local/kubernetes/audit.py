"""Reads the API server's audit log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def audit_events(log: Path, *, after: int = 0) -> Iterator[dict[str, Any]]:
    """The events of `log` behind its first `after` bytes, oldest first.

    An event has `verb`, `requestURI`, `user` and, where the caller impersonated, the
    `impersonatedUser` (both as `{"username", "uid", "groups", "extra"}`); its form is Event of
    audit.k8s.io/v1. A last line that is still being written is left out.
    """
    if not log.exists():
        return
    with log.open("rb") as lines:
        lines.seek(after)
        for line in lines:
            if line.endswith(b"\n"):
                event: dict[str, Any] = json.loads(line)
                yield event
