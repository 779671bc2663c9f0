"""ministack as a child process: one port of 127.0.0.1 behind TLS, all state in memory."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local.aws.commands import inherited
from local.process import free_port, spawn, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from local.certificates import CertificateAuthority, ServerCertificate
    from local.process import Child

REGION = "eu-central-1"
# Settings of ministack's are passed on to the functions that it runs, so there are few.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running ministack. `environment` holds the AWS_* variables that lead a client to it."""

    endpoint_url: str
    environment: dict[str, str]
    child: Child


def start_emulator(interpreter: Path, folder: Path, *, authority: CertificateAuthority) -> Emulator:
    """Start ministack with `interpreter`, everything it writes under `folder`, and wait for it.

    Raises ChildFailedError when it ends or isn't ready in time.
    """
    port = free_port()
    endpoint_url = f"https://127.0.0.1:{port}"
    environment = client_environment(endpoint_url, authority.certificate)
    server = authority.issue("aws", folder)
    settings = _settings(port, folder, server)
    child = spawn(
        "ministack",
        _command(interpreter, port, server),
        log=folder / "ministack.log",
        env={**settings, **environment},
    )
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    try:
        wait_until(lambda: _ready(endpoint_url, tls), children=[child], what="ministack")
    except BaseException:
        child.stop()
        raise
    return Emulator(endpoint_url, environment, child)


def client_environment(endpoint_url: str, ca_certificate: Path) -> dict[str, str]:
    """What the AWS command line, boto3 and the SAM CLI need to work here and nowhere else."""
    return {
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_CA_BUNDLE": str(ca_certificate),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def _command(interpreter: Path, port: int, server: ServerCertificate) -> list[str | Path]:
    # Through its server's own command: ministack's would take port 443 as well where it can.
    return [
        interpreter,
        *("-m", "hypercorn"),
        *("--workers", "0"),
        *("--bind", f"127.0.0.1:{port}"),
        *("--certfile", server.certificate),
        *("--keyfile", server.key),
        *("--keep-alive", "75"),
        *("--graceful-timeout", "0"),
        "ministack.app:app",
    ]


def _settings(port: int, folder: Path, server: ServerCertificate) -> dict[str, str]:
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        **{name: value for name, value in inherited().items() if name in _PASSED_ON},
        # Signatures are verified, and each function may do what its role allows.
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "USE_SSL": "1",
        "MINISTACK_SSL_CERT": str(server.certificate),
        "MINISTACK_SSL_KEY": str(server.key),
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
        "TMPDIR": str(temporary),
    }


def _ready(endpoint_url: str, tls: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(  # noqa: S310  always https, to our own child
            f"{endpoint_url}/_ministack/ready", timeout=5, context=tls
        ) as answer:
            return bool(json.load(answer)["status"] == "completed")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
