"""How GitLab names an environment for machines, and guesses its tier."""

from __future__ import annotations

import hashlib
import re

_SLUG_LENGTH = 24
_KEPT_LENGTH = 17
_SUFFIX_LENGTH = 6
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

#: In the order of GitLab's Environment#guess_tier; the first match wins.
_TIERS = (
    ("development", re.compile("dev|review|trunk", re.IGNORECASE)),
    ("testing", re.compile("test|tst|int|ac(?:ce|)pt|qa|qc|control|quality", re.IGNORECASE)),
    ("staging", re.compile("st(?:a|)g|mod(?:e|)l|pre|demo|non", re.IGNORECASE)),
    ("production", re.compile("pr(?:o|)d|live", re.IGNORECASE)),
)


def environment_slug(name: str) -> str:
    """The slug of a new environment (Gitlab::Slug::Environment, GitLab >= 12)."""
    slug = re.sub("[^a-z0-9]", "-", name.lower())
    if not re.match("[a-z]", slug):
        slug = "env-" + slug
    slug = re.sub("-+", "-", slug)
    if len(slug) > _SLUG_LENGTH or slug != name:
        kept = slug[:_KEPT_LENGTH]
        return kept + ("" if kept.endswith("-") else "-") + _suffix(name)
    return slug.removesuffix("-")


def guessed_tier(name: str) -> str:
    """The tier that GitLab gives an environment whose job names none."""
    return next((tier for tier, pattern in _TIERS if pattern.search(name)), "other")


def _suffix(name: str) -> str:
    number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    digits: list[str] = []
    while number and len(digits) < _SUFFIX_LENGTH:
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
