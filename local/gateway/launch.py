"""Starting the gateway as a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.gateway.settings import Files
from local.process import Child, spawn, wait_until

if TYPE_CHECKING:
    from local.certificates import CertificateAuthority
    from local.gateway.settings import Settings

_ROOT = Path(__file__).parent.parent.parent
_READY_SECONDS = 30
# A graceful end stops the workers, each of which may take two seconds.
_STOP_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway. `url` ends with the stage; `logs` has one file a function."""

    url: str
    logs: Path
    children: tuple[Child, ...]

    @classmethod
    def start(cls, folder: Path, settings: Settings, *, authority: CertificateAuthority) -> Gateway:
        """Start a gateway whose files are in `folder`, and wait until it listens.

        Raises ChildFailedError, also where the port is taken.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = Files.beside(folder / "gateway.json")
        authority.issue("gateway", folder)
        files.port.unlink(missing_ok=True)
        files.settings.write_text(settings.to_json())
        child = spawn(
            "gateway",
            [sys.executable, "-m", "local.gateway", "--config", files.settings],
            log=folder / "gateway.log",
            env={"PATH": os.defpath, "PYTHONUNBUFFERED": "1"},
            cwd=_ROOT,
        )
        try:
            wait_until(
                files.port.exists, children=(child,), what="The gateway", seconds=_READY_SECONDS
            )
        except BaseException:
            child.stop()
            raise
        port = int(files.port.read_text())
        url = f"https://127.0.0.1:{port}/{settings.api.stage}"
        return cls(url, files.logs, (child,))

    def update(self, settings: Settings) -> None:
        """Switch to other functions or routes while requests come; the port stays.

        Raises ChildFailedError.
        """
        files = Files.beside(self.logs.with_name("gateway.json"))
        files.updated.unlink(missing_ok=True)
        files.settings.write_text(settings.to_json())
        for child in self.children:
            child.process.send_signal(signal.SIGHUP)
        wait_until(
            files.updated.exists, children=self.children, what="The update", seconds=_READY_SECONDS
        )

    def stop(self) -> None:
        """End the gateway and its workers."""
        for child in self.children:
            child.stop(seconds=_STOP_SECONDS)
