"""What can go wrong, apart from a refusal (a refusal is a decision, not an error).

JobgateError
    InvalidRequest   the caller's request can't be understood; the text is fit for the caller
    InvalidToken     a token that isn't good; the text is for the log alone
    Unavailable      GitLab, AWS or the cluster can't be asked: what we don't know denies
        Unanswered   it was asked, and gave no whole answer: it may have done what it was asked for
            TimedOut     not in time
        OutOfTime    we stopped before our own end; a part is done, another try is to go on
        Throttled    it was asked too often; not again before `retry_after` seconds
        NotForUs     it answered that our token isn't good for that, or shows nothing to it
    StreamCut        an answer that had begun was broken off on purpose
    Conflict         somebody else wrote first; start again from what is there now
"""

from __future__ import annotations


class JobgateError(Exception):
    """Base of all errors that Jobgate raises on purpose."""


class InvalidRequest(JobgateError):  # noqa: N818  a noun of the field (RFC 6749, 5.2)
    """The request can't be understood. The text is a fixed sentence, fit for the caller."""


class InvalidToken(JobgateError):  # noqa: N818  a noun of the field (RFC 6750, 3.1)
    """The token isn't good. The text is for the log; it never holds the token."""

    def __init__(self, why: str, *, expired: bool = False) -> None:
        super().__init__(why)
        self.expired = expired


class Unavailable(JobgateError):  # noqa: N818  a state, not a mistake
    """An outside system didn't answer, or not in a form that can be believed."""


class OutOfTime(Unavailable):
    """Stopped in good time before the function's end; a part is done, and another try goes on."""


class Unanswered(Unavailable):
    """An outside system was sent something, and gave no whole answer."""


class TimedOut(Unanswered):
    """An outside system was reached and didn't answer in time."""


class Throttled(Unavailable):
    """An outside system asks for fewer calls; `retry_after` in seconds, from its own answer."""

    def __init__(self, why: str, *, retry_after: float) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class NotForUs(Unavailable):
    """An outside system answered, and to ask it again soon is of no use: what was is in doubt.

    GitLab's 401, 403, a 404 where something was before, a repository that shows nothing.
    """


class StreamCut(JobgateError):  # noqa: N818  an event, not a mistake
    """An answer that had begun was broken off on purpose; its end must not look like success."""


class Conflict(JobgateError):  # noqa: N818  as in HTTP 409
    """A conditional write found that somebody else had written first."""
