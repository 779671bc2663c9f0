"""TCP ports of 127.0.0.1 in one network namespace, served from another by Unix sockets in a folder.

    loopback.py publish PORT,… FOLDER…  where the ports are: in each folder a socket for each
    loopback.py join FOLDER             where they aren't: a port for each socket, in the background

Runs in a function's container as well: the standard library alone, any Python that Lambda has.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Opener = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_LOOPBACK = "127.0.0.1"
_CHUNK = 65536


async def publish(ports: list[str], folders: list[Path]) -> None:
    """Serve each port as a socket of its name in each folder, until the process is ended."""
    for port in ports:
        tcp = partial(asyncio.open_connection, _LOOPBACK, int(port))
        for folder in folders:
            await asyncio.start_unix_server(partial(_carry, tcp), folder / port)
    await asyncio.Event().wait()


async def join(folder: Path, listening: dict[str, socket.socket]) -> None:
    """Serve each listening port from the socket of its name, until the process is ended."""
    for name, server in listening.items():
        unix = partial(asyncio.open_unix_connection, folder / name)
        await asyncio.start_server(partial(_carry, unix), sock=server)
    await asyncio.Event().wait()


async def _carry(
    open_other: Opener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        other_reader, other_writer = await open_other()
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
    for each in (writer, other_writer):
        each.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(_CHUNK):
            target.write(chunk)
            await target.drain()
        target.write_eof()
    except OSError:
        target.close()


def _listen(port: int) -> socket.socket:
    return socket.create_server((_LOOPBACK, port))


def main(arguments: list[str]) -> None:
    """Run one end."""
    if arguments[0] == "publish":
        folders = [Path(folder) for folder in arguments[2:]]
        asyncio.run(publish(arguments[1].split(","), folders))
        return
    folder = Path(arguments[1])
    listening = {each.name: _listen(int(each.name)) for each in folder.iterdir()}
    # Whoever started this goes on once the ports listen.
    if os.fork() == 0:
        os.setsid()
        asyncio.run(join(folder, listening))


if __name__ == "__main__":
    main(sys.argv[1:])
