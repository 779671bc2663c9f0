"""API Gateway's and Lambda's quotas, each under a name, so that a test can make one small."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds; the defaults are AWS's for a Regional REST API.

    Sources: API Gateway's "Quotas for configuring and running a REST API", "Stream the integration
    response", and Lambda's "Lambda quotas".
    """

    request_head: int = 10_240
    """Request line and headers together."""
    request_body: int = 10 * 1024 * 1024
    event: int = 6 * 1024 * 1024
    """Lambda's payload of one synchronous invocation."""
    response_payload: int = 6 * 1024 * 1024 + 100
    """Lambda's buffered result; the 100 bytes are what Lambda's own emulator adds."""
    stream: int = 200 * 1024 * 1024
    """All that one streamed invocation may send."""
    prelude: int = 64 * 1024
    """Status and headers of a streamed answer. AWS documents no figure; this one bounds memory."""
    buffered_seconds: float = 29
    """Longest wait for a buffered integration, whatever the route asks for."""
    stream_seconds: float = 900
    """Longest life of a streamed answer, whatever the route asks for."""
    idle_seconds: float = 300
    """A streamed answer without a byte for this long is cut."""
    init_seconds: float = 10
    """Lambda's init phase; the first invocation repeats it within its own time-out."""
    unreserved_concurrency: int = 50
    """Workers of a function that reserves none (AWS: 1,000 an account, too many for a machine)."""
    worker_idle_seconds: float = 300
    """A warm worker without work for this long is ended (AWS documents no figure)."""
