"""A command in process, network and mount namespaces of its own, as root on Linux.

Its first process is the namespace's init: when that ends, the kernel ends every process that began
below it, and its network interfaces and mounts go with them.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_UNSHARE = ("unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--net")
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_INTERFACE = "16sH14x"
_GRACE_SECONDS = 90


def run_inside(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run `argv` inside; returns its exit code."""
    return supervise([*_UNSHARE, *argv], env)


def supervise(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run `argv` to its end, with Ctrl-C and SIGTERM passed on as SIGINT; returns its exit code.

    It has time to clean up after itself, once: a second signal, or too long a goodbye, kills it.
    """
    # First, since a background job's SIGINT is ignored, and a child would inherit that.
    with _interruptible():
        # A session of its own: else a terminal's Ctrl-C would reach each process below it, unasked.
        child = subprocess.Popen(argv, env=dict(env), start_new_session=True)
        try:
            return child.wait()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE_SECONDS)
            raise
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Within the block SIGINT and SIGTERM raise KeyboardInterrupt, also in a background job."""
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_loopback() -> None:
    """Bring up 127.0.0.1, which is down in a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack(_INTERFACE, b"lo", 0)
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        _, flags = struct.unpack(_INTERFACE, answer)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_INTERFACE, b"lo", flags | _IFF_UP))


def remove_control_groups(name: str) -> None:
    """Remove the empty control groups `name`, which no namespace takes with it."""
    groups = Path("/sys/fs/cgroup")
    for group in [groups / name, *groups.glob(f"*/{name}")]:
        below = sorted((entry for entry in group.rglob("*") if entry.is_dir()), reverse=True)
        for folder in [*below, group]:
            with suppress(OSError):
                folder.rmdir()
