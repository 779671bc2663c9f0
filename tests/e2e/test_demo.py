"""`make demo` as a newcomer runs it: the whole story, and every way to leave it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stack import Stack

pytestmark = pytest.mark.stack

_ROOT = Path(__file__).parents[2]


@contextmanager
def _demo(
    tmp_path: Path, *arguments: str, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """A demo whose temporary files lie in `tmp_path`, which also tells its processes apart."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local.demo", *arguments],
        cwd=_ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # noqa: TID251  a newcomer's own
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _processes(tmp_path: Path) -> dict[int, str]:
    """Process id and command line of what has this test's folder in it, or runs in there."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                place = str((folder / "cwd").readlink())
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue
            if str(tmp_path) in line or place.startswith(str(tmp_path)):
                found[int(folder.name)] = line
    return found


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read the demo's output up to a line with this text; the test's time-out bounds it."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"the demo ended without {text!r}:\n{seen}")


def test_the_story_comes_out_as_told_and_leaves_nothing_running(tmp_path: Path) -> None:
    with _demo(tmp_path) as demo:
        output, _ = demo.communicate(timeout=280)
    assert demo.returncode == 0, output
    steps = re.search(r"(\d+) of (\d+) steps", output)
    assert steps is not None
    assert steps[1] == steps[2]
    assert _processes(tmp_path) == {}
    assert list(tmp_path.glob("jobgate-demo-*")) == []


def test_in_a_cluster_of_the_user_it_asks_first_and_removes_everything(
    tmp_path: Path, stack: Stack
) -> None:
    def objects() -> str:
        kinds = "namespaces,clusterroles,clusterrolebindings"
        return stack.admin.must("get", kinds, "--output=name")

    before = objects()
    kubeconfig = str(stack.cluster.admin_kubeconfig)
    with _demo(tmp_path, "--cluster", kubeconfig, stdin=subprocess.PIPE) as demo:
        refused, _ = demo.communicate("n\n", timeout=60)
    assert demo.returncode == 1, refused
    assert "Nothing was done" in refused
    assert objects() == before
    with _demo(tmp_path, "--cluster", kubeconfig, stdin=subprocess.PIPE) as demo:
        output, _ = demo.communicate("y\n", timeout=280)
    assert demo.returncode == 0, output
    assert "kubectl auth whoami" in output
    assert objects() == before


@pytest.mark.parametrize("moment", ["Starting the GitLab stand-in", "── 1/"])
def test_ctrl_c_ends_everything(tmp_path: Path, moment: str) -> None:
    with _demo(tmp_path) as demo:
        _read_until(demo, moment)
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, rest
    assert "Traceback" not in rest
    assert _processes(tmp_path) == {}


def test_a_taken_port_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with _demo(tmp_path, "--port", str(port)) as demo:
            output, _ = demo.communicate(timeout=120)
    assert demo.returncode == 1, output
    assert str(port) in output
    assert "Traceback" not in output
    assert _processes(tmp_path) == {}


def test_a_child_that_dies_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    with _demo(tmp_path) as demo:
        _read_until(demo, "── 1/")
        (etcd,) = [
            number
            for number, line in _processes(tmp_path).items()
            if line.split(" ", 1)[0].endswith("/etcd")
        ]
        os.kill(etcd, signal.SIGKILL)
        output, _ = demo.communicate(timeout=200)
    assert demo.returncode == 1, output
    assert "etcd ended with exit code -9" in output
    assert _processes(tmp_path) == {}
