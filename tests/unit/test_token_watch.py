from __future__ import annotations

import json

import pytest
from jobgate.core.errors import NotForUs, Unavailable
from jobgate.core.gitlab_token import TokenEnd, days_left, ends_soon
from jobgate.ports.gitlab import TokenEnds
from jobgate.usecases.token_watch import TokenWatch

from tests.support import builders as b
from tests.support.fakes import FakeClock

DAY = 86_400  # b.NOW is 2026-09-21T14:13:20Z


class FakeTokenEnds(TokenEnds):
    def __init__(self) -> None:
        self.known: dict[str, TokenEnd] = {}

    def token_end(self, issuer: str) -> TokenEnd | None:
        return self.known.get(issuer)

    def note_token_end(self, issuer: str, end: TokenEnd) -> None:
        self.known[issuer] = end


class Watched:
    """A watch over `main`; `answer` is what GitLab says, or raises."""

    def __init__(self, answer: str | Exception | None = "2026-12-31") -> None:
        self.answer = answer
        self.asked = 0
        self.ends = FakeTokenEnds()
        self.clock = FakeClock()
        self.lines: list[str] = []
        self.watch = TokenWatch(
            issuers=lambda: ["main"],
            ask=self.ask,
            ends=self.ends,
            recorder=self.lines.append,
            clock=self.clock,
        )

    def ask(self, _issuer: str) -> str | None:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def told(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]


def line(**values: object) -> dict[str, object]:
    return {"type": "gitlab_token", "issuer": "main", **values}


def test_a_tokens_end_is_read_once_a_day() -> None:
    watched = Watched()

    for seconds in (0, 300, DAY - 301, 1):
        watched.clock.advance(seconds)
        watched.watch.run()

    assert watched.asked == 2
    assert watched.told == [line(days_left=100), line(days_left=99)]


def test_a_clock_that_was_set_back_does_not_stop_the_reading() -> None:
    watched = Watched()
    watched.watch.run()
    watched.clock.advance(-10 * DAY)

    watched.watch.run()

    assert watched.asked == 2


def test_a_token_that_gitlab_does_not_accept_has_no_day_left() -> None:
    watched = Watched(NotForUs("GitLab doesn't accept the run-time token"))

    watched.watch.run()

    assert watched.told == [line(days_left=-1)]
    assert watched.ends.known["main"] == TokenEnd(expires_at=None, good=False, noted_at=b.NOW)


@pytest.mark.parametrize("answer", [Unavailable("GitLab answered 503"), "the 1st of May"])
def test_a_gitlab_that_does_not_say_is_asked_again_in_the_next_round(
    answer: str | Exception,
) -> None:
    watched = Watched(answer)

    for _ in range(2):
        watched.watch.run()

    assert watched.asked == 2
    assert "days_left" not in watched.told[0]


def test_a_token_without_an_end_is_noted_without_days() -> None:
    watched = Watched(None)

    watched.watch.run()

    assert watched.told == [line(days_left=None)]


@pytest.mark.parametrize(
    ("date", "left", "soon"),
    [
        ("2026-09-21", -1, True),
        ("2026-09-22", 0, True),
        ("2026-10-22", 30, True),
        ("2026-10-23", 31, False),
        (None, None, False),
    ],
)
def test_days_are_whole_and_end_at_midnight(date: str | None, left: int | None, soon: bool) -> None:  # noqa: FBT001  a table's column
    assert days_left(date, now=b.NOW) == left
    assert ends_soon(left) is soon
