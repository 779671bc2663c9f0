"""What an unquoted YAML value is, by the rules of the reader that GitLab's agent server uses.

Source: go.yaml.in/yaml/v2 (below sigs.k8s.io/yaml), resolve.go: YAML 1.1's words, but no numbers in
base 60, and what looks like a date stays a text. Only the kind matters: no number is ever used.
"""

from __future__ import annotations

import math
import re
from enum import Enum


class Kind(Enum):
    """What a scalar is; UNREADABLE is one that was reported, MERGE the key `<<`."""

    NULL = "null"
    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"
    MERGE = "merge"
    UNREADABLE = "unreadable"


TRUE_WORDS = frozenset(
    ("y", "Y", *(w for t in ("yes", "true", "on") for w in (t, t.title(), t.upper())))
)
_FALSE_WORDS = ("n", "N", *(w for t in ("no", "false", "off") for w in (t, t.title(), t.upper())))
_NUMBER_WORDS = (
    *(".nan", ".NaN", ".NAN"),
    *(sign + word for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")),
)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), Kind.NULL),
    **dict.fromkeys((*TRUE_WORDS, *_FALSE_WORDS), Kind.BOOLEAN),
    **dict.fromkeys(_NUMBER_WORDS, Kind.NUMBER),
    "<<": Kind.MERGE,
}
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# The sign after `0b` is a slip of that reader's, and "0b-1" a path that GitLab allows.
_PREFIXED = re.compile(r"([-+]?)0(?:[xX]([0-9a-fA-F]+)|[oO]([0-7]+)|[bB]([01]+))|0b([-+][01]+)")
_DIGITS_MAX = 400  # more is beyond every number's range, and Python refuses some thousand itself


def kind_of_plain(text: str) -> Kind:
    """The kind of an unquoted scalar."""
    kind = _WORDS.get(text)
    if kind is not None:
        return kind
    # Underscores between digits are allowed, but not in what begins with a point.
    compact = text if text[0] == "." else text.replace("_", "")
    if text[0] in "+-.0123456789" and (_is_decimal(compact) or _is_prefixed(compact)):
        return Kind.NUMBER
    return Kind.TEXT


def _is_decimal(text: str) -> bool:
    return _DECIMAL.fullmatch(text) is not None and math.isfinite(float(text))


def _is_prefixed(text: str) -> bool:
    """Whether a text is an integer with a base; beyond 64 bits that reader makes it a text."""
    found = _PREFIXED.fullmatch(text)
    if found is None or len(text) > _DIGITS_MAX:
        return False
    sign, *digits = found.groups()
    value = next(int(d, base) for d, base in zip(digits, (16, 8, 2, 2), strict=True) if d)
    if sign == "-":
        return value <= 1 << 63
    return value < (1 << 63 if sign else 1 << 64)
