"""What a gateway is started with; it travels to its process as a JSON file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.gateway.api import API
from local.gateway.environment import Runtime
from local.gateway.functions import Function
from local.gateway.limits import Limits

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """An API, its functions, and how to run them; port 0 takes a free one."""

    api: API
    functions: tuple[Function, ...]
    runtime: Runtime
    limits: Limits = field(default_factory=Limits)
    port: int = 0

    def to_json(self) -> str:
        """These settings as JSON."""
        return json.dumps(dataclasses.asdict(self), default=str, indent=1)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Settings:
        """The settings that `to_json` wrote."""
        return cls(
            API.from_json(value["api"]),
            tuple(Function.from_json(function) for function in value["functions"]),
            Runtime.from_json(value["runtime"]),
            Limits(**value["limits"]),
            value["port"],
        )


@dataclass(frozen=True, slots=True)
class Files:
    """Where a gateway's process reads and writes: all in the folder of its settings.

    `port` is written once the gateway listens, `updated` once new settings count; `logs` gets one
    file a function.
    """

    settings: Path
    certificate: Path
    key: Path
    port: Path
    updated: Path
    logs: Path

    @classmethod
    def beside(cls, settings: Path) -> Files:
        """The files of the gateway whose settings are in the file `settings`."""
        folder = settings.parent
        return cls(
            settings,
            folder / "gateway.crt",
            folder / "gateway.key",
            folder / "gateway.port",
            folder / "gateway.updated",
            folder / "functions",
        )
