"""What two runs of one command may differ in, taken out of what they printed."""

from __future__ import annotations

import re

_TIME_OF_DAY = r"\d\d:\d\d:\d\d(?:\.\d+)?"
_REPLACED = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(?m)^[EWI]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ", "KLOG "),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
        (rf"\d{{4}}-\d\d-\d\d[T ]{_TIME_OF_DAY}(?:Z| ?[+-]\d\d:?\d\d)?(?: [A-Z]{{3,4}})?", "TIME"),
        # As `describe` and helm write it: Wed, 25 Nov 2026 14:15:34 +0000; Wed Nov 25 14:15:34 2026
        (
            (
                rf"[A-Z][a-z]{{2}},? (?:\d\d [A-Z][a-z]{{2}} \d{{4}}|[A-Z][a-z]{{2}} [ \d]\d)"
                rf" {_TIME_OF_DAY}(?: [+-]?\d{{4}})?"
            ),
            "TIME",
        ),
        (r"(resourceVersion\"?: ?\"?|Resource Version: +)\d+", r"\1VERSION"),
        (r"\b10(?:\.\d{1,3}){3}\b", "ADDRESS"),
        # A generated name's end, and an event's: Kubernetes makes them of these letters alone.
        (r"-[bcdfghjklmnpqrstvwxz2456789]{5}(?![\w-])", "-RANDOM"),
        (r"\.[0-9a-f]{16}\b", ".EVENT"),
        (r"\b(LIVE|MERGED)-\d+", r"\1"),
        (r"(?<![\w.-])(?:\d+d)?(?:\d+h)?(?:\d+m)?\d+[smhd](?:\d+s)?(?![\w.-])", "AGE"),
        (r"(?<=\S)[ \t]{2,}", "  "),
        (r"(?m)[ \t]+$", ""),
    )
)


def plain(text: str, own: dict[str, str], *, unordered: bool) -> str:
    """Take out times, ages, versions, ids and what `own` names of one side's own."""
    # The longest first: a folder's name may hold the namespace's.
    for value in sorted(own, key=len, reverse=True):
        text = text.replace(value, own[value])
    for pattern, by in _REPLACED:
        text = pattern.sub(by, text)
    lines = text.splitlines()
    whole = "\n".join(sorted(lines) if unordered else lines)
    return whole + "\n" if text.endswith("\n") else whole
