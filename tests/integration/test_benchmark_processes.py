"""A benchmark that is broken off leaves nothing behind."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PATIENCE_MS = 10_000
_STARTS_A_SUBJECT = """
import sys
from pathlib import Path
from benchmarks.relay.subjects import _Processes
with _Processes(Path(sys.argv[1])) as processes:
    processes.start([sys.executable, "-c", "import signal; signal.pause()"], {})
    print(*processes.pids, flush=True)
    sys.stdin.read()
"""


def test_a_killed_benchmark_takes_its_subjects_with_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTS_A_SUBJECT, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as benchmark:
        assert benchmark.stdout is not None
        subject = os.pidfd_open(int(benchmark.stdout.readline()))
        ended = select.poll()
        ended.register(subject, select.POLLIN)
        assert not ended.poll(0)
        benchmark.kill()
        has_ended = ended.poll(_PATIENCE_MS)
    os.close(subject)
    assert has_ended
