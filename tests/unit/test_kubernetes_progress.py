from __future__ import annotations

import io

from local.kubernetes.progress import TerminalProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_file_gets_a_plain_line_at_the_start_and_every_half_minute() -> None:
    out, clock = io.StringIO(), Clock()
    progress = TerminalProgress(out, clock=clock)

    for second in range(70):
        clock.now = 100.0 + second
        progress.tick("Building etcd (2 of 4)")
    progress.say("Built etcd in 70 s.")

    assert out.getvalue().splitlines() == [
        "Building etcd (2 of 4)  0:00",
        "Building etcd (2 of 4)  0:30",
        "Building etcd (2 of 4)  1:00",
        "Built etcd in 70 s.",
    ]


def test_terminal_gets_one_line_that_moves() -> None:
    out, clock = Terminal(), Clock()
    progress = TerminalProgress(out, clock=clock)

    progress.tick("Building")
    clock.now += 61
    progress.tick("Building")
    progress.say("Built.")

    assert out.getvalue() == "\r\x1b[K⠙ Building  0:00\r\x1b[K⠹ Building  1:01\r\x1b[KBuilt.\n"


def test_next_step_starts_at_zero() -> None:
    out, clock = io.StringIO(), Clock()
    progress = TerminalProgress(out, clock=clock)

    progress.tick("one")
    clock.now += 10
    progress.tick("two")

    assert out.getvalue() == "one  0:00\ntwo  0:00\n"
