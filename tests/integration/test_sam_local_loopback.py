"""A port of 127.0.0.1 as a socket in a folder, as the SAM CLI's containers reach it."""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from local.process import free_port, spawn, wait_until
from local.sam_local import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = b"x" * 3_000_000


@contextmanager
def published(port: int, log: Path) -> Iterator[Path]:
    # A short path: a socket's may hold 107 bytes.
    with tempfile.TemporaryDirectory(prefix="jg-") as folder:
        arguments = [sys.executable, loopback.__file__, "publish", str(port), folder]
        publisher = spawn("publisher", arguments, log=log, env={})
        try:
            found = Path(folder) / str(port)
            wait_until(found.is_socket, children=[publisher], what="the socket")
            yield found
        finally:
            publisher.stop()


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def test_published_port_carries_both_ways_until_each_side_has_ended(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(read_all(connection))

        thread = threading.Thread(target=echo)
        thread.start()
        with (
            published(server.getsockname()[1], tmp_path / "log") as path,
            socket.socket(socket.AF_UNIX) as client,
        ):
            client.settimeout(60)
            client.connect(str(path))
            client.sendall(LARGE)
            client.shutdown(socket.SHUT_WR)

            assert read_all(client) == LARGE
        thread.join()


def test_published_port_on_which_nothing_listens_ends_the_connection(tmp_path: Path) -> None:
    with (
        published(free_port(), tmp_path / "log") as path,
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.settimeout(60)
        client.connect(str(path))

        assert client.recv(1) == b""
