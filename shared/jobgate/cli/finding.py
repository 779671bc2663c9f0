"""What `jobgate doctor` and its kin find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SKEW_MAX_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong, or (`note`) worth knowing. `where` names the link, `fix` what mends it."""

    code: str
    where: str
    text: str
    fix: str
    severity: Literal["fault", "note"] = "fault"
