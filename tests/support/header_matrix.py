"""Headers that a caller sends to a relay, and how they may be spelled."""

from __future__ import annotations

CANARY = "canary-of-the-caller"

# What the relay sets itself, and what proxies and API servers believe: none of it travels.
NEVER = (
    "Authorization",
    "Audit-ID",
    "Content-Length",
    "Cookie",
    "Host",
    "Impersonate-Extra-agent.gitlab.com%2fid",
    "Impersonate-Extra-Scopes",
    "Impersonate-Group",
    "Impersonate-Uid",
    "Impersonate-User",
    "Proxy-Authorization",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-User",
    "X-Real-Ip",
    "X-Remote-Extra-Scopes",
    "X-Remote-Group",
    "X-Remote-Uid",
    "X-Remote-User",
)
# These travel under their own name, as they came.
CARRIED = (
    "Accept",
    "Accept-Encoding",
    "Content-Type",
    "Content-Encoding",
    "User-Agent",
    "Kubectl-Command",
    "Kubectl-Session",
)
SPELLINGS = ("as it is", "lower", "UPPER", "_ for -", "twice", "in Connection", "space behind")


def header_lines(name: str, spelling: str) -> list[tuple[str, str]]:
    """A header that the caller sends, as names and values."""
    one = (name, CANARY)
    spelled = {
        "as it is": [one],
        "lower": [(name.lower(), CANARY)],
        "UPPER": [(name.upper(), CANARY)],
        "_ for -": [(name.replace("-", "_"), CANARY)],
        "twice": [one, (name, f"{CANARY}-2")],
        "in Connection": [("Connection", f"{name}, close"), one],
        "space behind": [(f"{name} ", CANARY)],
    }
    return spelled[spelling]


def raw_lines(name: str, spelling: str) -> list[bytes]:
    """The same as lines of a request."""
    return [f"{each}: {value}".encode() for each, value in header_lines(name, spelling)]
