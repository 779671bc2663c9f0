"""docs/local.md, typed in: the page's own commands lead from an empty stack to a job."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "local.md"
SECONDS = 240


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Of a `make local EMPTY=1` that is up."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "local", "--empty", "--folder", str(tmp_path)]
    with log.open("w") as out:
        started = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / "environment").exists():
            assert started.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield tmp_path
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(timeout=60)
    assert not (tmp_path / "environment").exists()


def commands(heading: str) -> str:
    """What a section of the page shows to be typed."""
    _, _, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    section, _, _ = rest.partition("\n## ")
    return "\n".join(re.findall(r"^    (.*)$", section, re.MULTILINE))


def test_the_page_leads_from_an_empty_stack_to_a_job_in_the_cluster(folder: Path) -> None:
    play = f"{sys.executable} -m local.play --folder {folder} "
    script = commands("From nothing, by hand")
    script = script.replace("make play FILE=", play).replace(".local/", f"{folder}/")

    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": str(folder), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert 'deployment "web" successfully rolled out' in done.stdout
    assert re.search(r"Job \d+ ended with 0\.", done.stdout)
    assert "allowed" in done.stdout.rpartition("ended with 0.")[2], done.stdout
    assert done.stdout.endswith("Nothing is wrong.\n"), done.stdout
