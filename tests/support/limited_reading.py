"""Reads a configuration from standard input within limits of CPU time and memory; prints its end.

A process of its own, so that a reader without bounds dies alone: `python -m
tests.support.limited_reading`.
"""

from __future__ import annotations

import json
import resource
import sys

from jobgate.core.agent_configuration import InvalidConfiguration, read_configuration

# The reader's own share is a small part of either: starting Python takes the most of it.
CPU_SECONDS = 5
MEMORY_BYTES = 256 * 1024 * 1024


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    read = read_configuration(sys.stdin.buffer.read(), file="config.yaml")
    found = read.problems if isinstance(read, InvalidConfiguration) else ()
    problems = [(p.code, p.line, p.column, p.text, p.fix) for p in found]
    sys.stdout.write(json.dumps({"problems": problems}))


if __name__ == "__main__":
    main()
