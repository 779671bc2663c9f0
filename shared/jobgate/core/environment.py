"""GitLab's environments: the pattern of `environments:` and the slug of a name.

Source: GitLab, "Restrict project and group access by using environments" and
`Gitlab::Slug::Environment`.
"""

from __future__ import annotations

import hashlib
import re

_SLUG_MAX = 24
_SLUG_KEPT = 17
_SUFFIX_LENGTH = 6
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def environment_matches(pattern: str, name: str) -> bool:
    """Whether an environment's name fits a pattern: exact, or `*` for any run of characters.

    Anchored at both ends and case-sensitive; `*` doesn't cross a line break.
    """
    if not pattern or len(pattern) - pattern.count("*") > len(name):
        # What a name is too short for is never compiled, so no pattern costs more than names do.
        return False
    pattern = re.sub(r"\*+", "*", pattern)
    first, *others = (re.escape(part) for part in pattern.split("*"))
    if not others:
        return pattern == name
    # Atomic groups: the first place where a part fits is the only one tried, which loses no match
    # and keeps the time linear. Plain `[^\n]*` between the parts would take exponential time.
    middle = "".join(f"(?>[^\n]*?{part})" for part in others[:-1])
    return re.fullmatch(f"{first}{middle}[^\n]*{others[-1]}", name) is not None


def environment_slug(name: str) -> str:
    """The slug that GitLab gives an environment of this name: at most 24 of `[a-z0-9-]`."""
    slug = _readable_slug(name)
    if _needs_suffix(slug, name):
        kept = slug[:_SLUG_KEPT]
        return f"{kept.removesuffix('-')}-{_suffix(name)}"
    return slug.removesuffix("-")


def slug_can_be_computed(name: str) -> bool:
    """Whether an environment of this name has one slug, however old it is.

    The suffix of one that was created before GitLab computed suffixes is random.
    """
    return not _needs_suffix(_readable_slug(name), name)


def _readable_slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]", "-", name.lower())
    if not re.match(r"[a-z]", slug):
        slug = f"env-{slug}"
    return re.sub(r"-+", "-", slug)


def _needs_suffix(slug: str, name: str) -> bool:
    return len(slug) > _SLUG_MAX or slug != name


def _suffix(name: str) -> str:
    number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    digits = []
    for _ in range(_SUFFIX_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
