"""Starts and stops the stand-in as a child process of the local stack."""

from __future__ import annotations

import http.client
import secrets
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.gitlab.__main__ import CONTROL_TOKEN_FILE
from local.gitlab.control import Control
from local.gitlab.git import program_path
from local.process import Child, free_port, spawn, wait_until

if TYPE_CHECKING:
    from local.certificates import CertificateAuthority

_REPOSITORY_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class GitLab:
    """A running stand-in."""

    url: str
    control: Control
    children: tuple[Child, ...]

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        authority: CertificateAuthority,
        hook_authority: CertificateAuthority | None = None,
    ) -> GitLab:
        """Start one on a free port, with its repositories, certificate and log in `folder`.

        Where it delivers hooks it trusts the same authority, or `hook_authority` alone. Raises
        ChildFailedError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = authority.issue("gitlab", folder)
        token = secrets.token_urlsafe(32)
        token_file = folder / CONTROL_TOKEN_FILE
        token_file.touch(mode=0o600)
        token_file.write_text(token + "\n")
        port = free_port()
        child = spawn(
            "GitLab stand-in",
            [
                *(sys.executable, "-m", "local.gitlab"),
                *("--folder", folder, "--port", str(port)),
                *("--certificate", files.certificate, "--key", files.key),
                *("--hook-ca", (hook_authority or authority).certificate),
            ],
            log=folder / "gitlab.log",
            env={"PATH": program_path()},
            cwd=_REPOSITORY_ROOT,
        )
        trust = ssl.create_default_context(cafile=authority.certificate)
        try:
            wait_until(
                lambda: _is_healthy(port, trust), children=[child], what="The GitLab stand-in"
            )
        except BaseException:
            child.stop()
            raise
        url = f"https://127.0.0.1:{port}"
        return cls(url, Control(url, token=token, ca=authority.certificate), (child,))

    def stop(self) -> None:
        """End it; what is in its folder stays."""
        self.control.close()
        for child in self.children:
            child.stop()


def _is_healthy(port: int, trust: ssl.SSLContext) -> bool:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=trust, timeout=5)
    try:
        connection.request("GET", "/-/health")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
