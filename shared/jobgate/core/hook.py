"""A webhook of GitLab's as this deployment knows it, beside its secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HookKind = Literal["project", "group", "instance"]


@dataclass(frozen=True, slots=True)
class HookScope:
    """Whom a webhook belongs to; the instance's id is 0, as in the subject index."""

    kind: HookKind
    id: int


@dataclass(frozen=True, slots=True)
class HookSeen:
    """A delivery that was authentic: the id of the secrets that proved it, and when (epoch)."""

    entry_id: str
    at: float
