"""The relay against its peers: paired rounds in one run, ratios with their spread, and gates.

    .venv/bin/python -m benchmarks.relay [--rounds N] [--docs FOLDER]

Prints a Markdown table; with `--docs` writes it and a chart there. Ends with 1 where a gate fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from benchmarks.relay import measure, report
from benchmarks.relay.subjects import (
    ADAPTER,
    BARE,
    DIRECT,
    LEAN,
    NGINX,
    OURS,
    ROOT,
    URLLIB3,
    Setting,
    nginx_program,
)
from local.aws.build import build
from local.aws.target import prove_fit, target_of
from local.gateway.environment import Runtime
from local.gateway.runtime_folder import prepare_runtime
from local.kubernetes.cache import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_FIT = ("3.11", "3.12", "3.13", "3.14")
_ADAPTER_CRATE = ("lambda_web_adapter", "1.0.0-rc1")


def main(arguments: list[str]) -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--docs", type=Path, help="a folder for benchmarks.md and benchmarks.svg")
    options = parser.parse_args(arguments)
    # As Ctrl-C, so that nothing is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(os, "sched_setaffinity"):
        # One CPU for everything: the work counts, not how soon another core is woken for a part.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="relay-benchmark-") as name:
        folder = Path(name)
        with _neighbours(folder) as told, _setting(folder, told) as setting:
            names = [OURS, URLLIB3, LEAN, BARE, DIRECT]
            if setting.adapter:
                names.append(ADAPTER)
            if nginx_program():
                names.append(NGINX)
            else:
                _say(f"{NGINX}: skipped, since no nginx is installed")
            figures = measure.warm(names, setting, options.rounds, _say)
            _say("cold starts")
            on_lambda = {n: f for n, f in figures.items() if n not in (DIRECT, NGINX)}
            measure.cold(on_lambda, setting, options.rounds)
            _say("growth of memory")
            for subject in (OURS, URLLIB3):
                measure.growth(subject, figures[subject], setting)
    gates = report.gates(figures)
    text = report.markdown(figures, gates, options.rounds)
    print(text)
    if options.docs:
        (options.docs / "benchmarks.md").write_text(report.page(text, target_of(_python()).version))
        (options.docs / "benchmarks.svg").write_text(report.chart(figures))
    return 0 if all(gate.holds for gate in gates) else 1


@contextlib.contextmanager
def _neighbours(folder: Path) -> Iterator[Mapping[str, Any]]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.relay.neighbours", folder / "neighbours"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        try:
            yield json.loads(_pipe(process.stdout).readline())
        finally:
            _pipe(process.stdin).close()


@contextlib.contextmanager
def _setting(folder: Path, told: Mapping[str, Any]) -> Iterator[Setting]:
    environ = os.environ  # noqa: TID251  the user's cache folder and PATH
    target = target_of(_python())
    built = build(target, folder / "sam-build.log", say=_say)
    try:
        prove_fit(built.layer, target)
        runtime = Runtime(
            folder=prepare_runtime(cache_root(environ) / "runtimes", target.interpreter),
            endpoint=told["environment"]["AWS_ENDPOINT_URL"],
        )
        relay = built.folder / "RelayFunction"
        yield Setting(told, runtime, relay, built.layer, _adapter(cache_root(environ)), folder)
    finally:
        built.release()


def _python() -> Path:
    """The distribution's Python where it is fit, since it is built as optimized as AWS's."""
    found = shutil.which("python3", path=os.defpath)
    return Path(found) if found and target_of(Path(found)).version in _FIT else Path(sys.executable)


def _adapter(cache: Path) -> Path | None:
    """The Lambda Web Adapter, built where cargo is; None without it."""
    crate, version = _ADAPTER_CRATE
    folder = cache / f"{crate}-{version}"
    program = folder / "bin" / "lambda-adapter"
    cargo = shutil.which("cargo")
    if not program.exists():
        if cargo is None:
            _say(f"{ADAPTER}: skipped, since there is no cargo to build it with")
            return None
        _say(f"Building {crate} {version}, which takes some minutes.")
        command = [cargo, "install", "--quiet", crate, "--version", version, "--locked"]
        subprocess.run([*command, "--root", folder], check=True)
    return program


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
