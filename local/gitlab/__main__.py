"""Runs the stand-in.

`python -m local.gitlab --folder DIR --certificate FILE --key FILE --port N --hook-ca FILE`

The control token is read from DIR/control-token, a file of one line that is made if need be.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import shutil
import signal
import ssl
import time
from pathlib import Path

from aiohttp import web

from local.gitlab.application import build_application
from local.gitlab.context import GitLabParts
from local.gitlab.deliveries import Deliveries
from local.gitlab.faults import Faults, RequestLog
from local.gitlab.instance import Instance
from local.gitlab.rate_limits import RateLimits
from local.gitlab.repositories import Repositories
from local.gitlab.signing_keys import KeySet

CONTROL_TOKEN_FILE = "control-token"  # noqa: S105  a file's name, not a token


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m local.gitlab", description=__doc__)
    for name in ("--folder", "--certificate", "--key", "--hook-ca"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    asyncio.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder
    repositories = folder / "repositories"
    # Projects live in memory, so what an earlier run left belongs to nothing.
    shutil.rmtree(repositories, ignore_errors=True)
    repositories.mkdir(parents=True)
    url = f"https://127.0.0.1:{arguments.port}"
    instance = Instance(url=url, clock=time.time)  # noqa: TID251  this is where the clock comes from
    parts = GitLabParts(
        instance=instance,
        repositories=Repositories(repositories),
        deliveries=Deliveries(instance, ssl.create_default_context(cafile=arguments.hook_ca)),
        keys=KeySet(),
        faults=Faults(),
        requests=RequestLog(),
        rate_limits=RateLimits(),
    )
    application = build_application(parts, control_token=_control_token(folder))
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=2)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(arguments.certificate, arguments.key)
    await web.TCPSite(runner, "127.0.0.1", arguments.port, ssl_context=tls).start()
    print(f"GitLab stand-in listens on {url}", flush=True)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
    await parts.deliveries.close()
    await runner.cleanup()


def _control_token(folder: Path) -> str:
    path = folder / CONTROL_TOKEN_FILE
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()


if __name__ == "__main__":
    main()
