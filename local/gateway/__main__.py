"""The gateway's process: `python -m local.gateway --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from local.gateway.front import Front, FrontRequest
from local.gateway.pool import Pool
from local.gateway.settings import Files, Settings

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

_LONGEST_LINE = 1024 * 1024
_MOST_HEADERS = 10_000
_SHUTDOWN_SECONDS = 1.0


def main() -> None:
    """Serve until SIGTERM or SIGINT; the exit code is 1 where the port is taken."""
    parser = argparse.ArgumentParser(prog="python -m local.gateway", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    files = Files.beside(parser.parse_args().config)
    settings = Settings.from_json(json.loads(files.settings.read_text()))
    # What aiohttp says of a broken request quotes it, and there may be a token in it.
    logging.getLogger("aiohttp.server").disabled = True
    asyncio.run(_serve(settings, files))


async def _serve(settings: Settings, files: Files) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    deployed = _Deployed(files, settings)
    loop.add_signal_handler(signal.SIGHUP, deployed.update)
    handler = web.Server(
        deployed.handle,
        request_factory=_request,
        access_log=None,
        # The budget for the head is counted by the front, which knows AWS's answer to it.
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
        max_headers=_MOST_HEADERS,
        auto_decompress=False,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    try:
        server = await loop.create_server(handler, "127.0.0.1", settings.port, ssl=context)
    except OSError as error:
        sys.exit(f"The gateway can't listen on 127.0.0.1:{settings.port}: {error.strerror}")
    port = server.sockets[0].getsockname()[1]
    _publish(files.port, f"{port}\n")
    try:
        await ended.wait()
    finally:
        server.close()
        await deployed.stop()
        await handler.shutdown(_SHUTDOWN_SECONDS)


class _Deployed:
    """What answers: after an update the new functions, while the former end what they have begun.

    So it is on AWS, where an alias or a function's code is switched at once, and what runs runs on.
    """

    def __init__(self, files: Files, settings: Settings) -> None:
        self._files = files
        self._pools: list[Pool] = []
        self._front = self._new_front(settings)

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Answer by what is deployed when the request comes."""
        return await self._front.handle(incoming)

    def update(self) -> None:
        """Read the settings anew; the port stays."""
        former = tuple(self._pools)
        self._front = self._new_front(
            Settings.from_json(json.loads(self._files.settings.read_text()))
        )
        for pool in former:
            pool.drain()
        _publish(self._files.updated, "")

    async def stop(self) -> None:
        """End all workers, the former ones' too."""
        await asyncio.gather(*(pool.stop() for pool in self._pools))

    def _new_front(self, settings: Settings) -> Front:
        pools = _pools(settings, self._files)
        self._pools += pools.values()
        return Front(settings.api, settings.limits, pools)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return FrontRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


def _pools(settings: Settings, files: Files) -> dict[str, Pool]:
    files.logs.mkdir(parents=True, exist_ok=True)
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.check_output([settings.runtime.python, "-c", code], text=True).strip()
    return {
        function.logical_id: Pool(
            function,
            settings.runtime,
            settings.limits,
            version=version,
            log=files.logs / f"{function.name}.log",
        )
        for function in settings.functions
    }


def _publish(path: Path, text: str) -> None:
    """Write a file that is whole as soon as it can be seen."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(text)
    unfinished.rename(path)


if __name__ == "__main__":
    main()
