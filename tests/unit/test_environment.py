from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobgate.core.environment import environment_matches, environment_slug, slug_can_be_computed

NEAR = st.text(alphabet="ab*/\n.[", max_size=8)
NAMES = st.text(alphabet="ab/\n.[", max_size=8)


@given(pattern=NEAR, name=NAMES)
def test_a_pattern_matches_what_an_anchored_expression_of_it_matches(
    pattern: str, name: str
) -> None:
    expression = "".join("[^\n]*" if c == "*" else re.escape(c) for c in pattern)
    expected = bool(pattern) and re.fullmatch(expression, name) is not None

    assert environment_matches(pattern, name) is expected


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("review/*", "review/a\nb"),
        ("*", "a\nb"),
        ("prod.", "prodx"),
        ("prod", "prod\n"),
        ("REVIEW/*", "review/1"),
        ("review/?", "review/1"),
        ("[a-z]*", "abc"),
    ],
)
def test_a_pattern_is_literal_but_for_the_star(pattern: str, name: str) -> None:
    assert not environment_matches(pattern, name)


def test_many_stars_take_no_longer_than_few() -> None:
    # A backtracking matcher would go on for years, so the child's limit of processor time tells.
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "from jobgate.core.environment import environment_matches\n"
        "assert not environment_matches('*a' * 60 + '*b', 'a' * 255)\n"
        "assert environment_matches('*a' * 60 + '*', 'a' * 255)\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": "shared"})


def test_a_long_pattern_takes_no_longer_than_the_name_it_is_compared_with() -> None:
    # To compile an expression as long as a whole file would take this child's time many times over.
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (5, 5))\n"
        "from jobgate.core.environment import environment_matches\n"
        "for n in range(100):\n"
        "    assert environment_matches('*' * (120_000 + n), 'a' * 255)\n"
        "    assert not environment_matches('*a' * (60_000 + n), 'a' * 255)\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": "shared"})


@given(st.text(max_size=300))
def test_a_slug_is_a_dns_label_of_at_most_24_characters(name: str) -> None:
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", environment_slug(name))
    assert len(environment_slug(name)) <= 24


@given(st.text(max_size=40), st.text(max_size=40))
def test_names_that_differ_in_more_than_a_trailing_dash_have_different_slugs(
    one: str, other: str
) -> None:
    if one.removesuffix("-") != other.removesuffix("-"):
        assert environment_slug(one) != environment_slug(other)


@pytest.mark.parametrize(
    ("name", "certain"),
    [
        ("production", True),
        ("staging-1234567890123456", True),
        ("foo-", True),
        ("review/1", False),
        ("Production", False),
        ("foo--bar", False),
        ("1-foo", False),
        ("staging-12345678901234567", False),
    ],
)
def test_a_slug_without_a_suffix_can_be_computed_however_old_the_environment(
    name: str, *, certain: bool
) -> None:
    assert slug_can_be_computed(name) is certain
    assert (len(environment_slug(name)) <= len(name) and environment_slug(name) in name) is certain
