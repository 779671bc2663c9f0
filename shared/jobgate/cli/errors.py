"""What a command ends with when it can't do what it was asked: one sentence and an exit code."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError

from jobgate.adapters.aws_api import AWSError
from jobgate.core.errors import InvalidRequest, JobgateError, Unavailable

FINDINGS = 1
USAGE = 2
UNKNOWN = 3
REFUSED = 4

_DENIALS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
    }
)


class Refused(JobgateError):  # noqa: N818  a decision, as in contracts: exit code 4
    """What was asked would break a rule that Jobgate keeps, or a right is missing."""


def exit_code(exc: JobgateError | BotoCoreError) -> int:
    """The exit code that goes with an error."""
    match exc:
        case InvalidRequest():
            return USAGE
        case Refused():
            return REFUSED
        case AWSError(code=code) if code in _DENIALS:
            return REFUSED
        case _:
            return UNKNOWN


def sentence(exc: JobgateError | BotoCoreError) -> str:
    """What a person is told. botocore's own sentences hold no secret."""
    match exc:
        case AWSError(code=code):
            return f"AWS refused the call: {code}."
        case BotoCoreError():
            return f"AWS can't be asked: {exc}"
        case Unavailable(__cause__=BotoCoreError() as cause):
            return f"AWS can't be asked: {cause}"
        case InvalidRequest() | Refused():
            return str(exc)
        case _:
            # The rest of the package writes these for a log, without a capital and a full stop.
            text = str(exc)
            return text[:1].upper() + text[1:].removesuffix(".") + "."
