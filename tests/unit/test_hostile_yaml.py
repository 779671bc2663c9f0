"""Hostile files: each is read within little time and memory, and ends in a clear answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jobgate.core.agent import PROBLEMS_MAX
from jobgate.core.agent_configuration import FILE_MAX_BYTES

ROOT = Path(__file__).parents[2]
LARGEST = FILE_MAX_BYTES


def filled(part: str | bytes, *, head: str = "", tail: str = "") -> bytes:
    """As many parts as the largest file holds."""
    repeated = part.encode() if isinstance(part, str) else part
    space = LARGEST - len(head) - len(tail)
    return head.encode() + repeated * (space // len(repeated)) + tail.encode()


def numbered(form: str, *, head: str = "", tail: str = "") -> bytes:
    """The same with a number in each part."""
    text, number = head, 0
    while len(text) + len(form.format(number)) + len(tail) <= LARGEST:
        text += form.format(number)
        number += 1
    return (text + tail).encode()


def laughs(levels: int, *, use: str) -> bytes:
    """Each level repeats the one below nine times."""
    repeated = (", ".join([f"*a{level - 1}"] * 9) for level in range(1, levels))
    lines = (f"a{level}: &a{level} [{nine}]" for level, nine in enumerate(repeated, start=1))
    return "\n".join(["a0: &a0 {id: a}", *lines, use]).encode()


def merged_laughs(levels: int) -> bytes:
    """The same with merge keys, twice a level."""
    lines = (f"m{n + 1}: &m{n + 1} {{<<: [*m{n}, *m{n}]}}" for n in range(levels))
    use = f"ci_access: {{projects: [*m{levels}]}}"
    return "\n".join(["m0: &m0 {id: a}", *lines, use]).encode()


def merged_chain(levels: int) -> bytes:
    lines = (f"m{n + 1}: &m{n + 1} {{<<: *m{n}}}" for n in range(levels))
    use = f"ci_access: {{projects: [*m{levels}]}}"
    return "\n".join(["m0: &m0 {id: a}", *lines, use]).encode()


MANY_NAMES = "e, " * 5000
MANY_ENTRIES = "*x, " * 5000
LONG_TEXT = "x" * 60_000
ITS_USES = ", *x" * 9000

HOSTILE: dict[str, tuple[bytes, str]] = {
    "nested aliases": (laughs(40, use="ci_access: {projects: *a39}"), "not_a_mapping"),
    "nested aliases as environments": (
        laughs(40, use="ci_access: {projects: [{id: a, environments: *a39}]}"),
        "not_a_text",
    ),
    "many entries of many names": (
        (
            f"x: &x {{id: a, environments: [{MANY_NAMES}]}}\n"
            f"ci_access: {{projects: [{MANY_ENTRIES}]}}"
        ).encode(),
        "too_many_nodes",
    ),
    "a long text in many places": (
        f"ci_access: {{groups: [{{id: a, environments: [&x {LONG_TEXT}{ITS_USES}]}}]}}".encode(),
        "too_much_text",
    ),
    "nested merges": (merged_laughs(45), "too_many_nodes"),
    "a chain of merges": (merged_chain(4000), "too_deep"),
    "many merges of many keys": (
        numbered(
            "{{<<: *k, id: a{0}}}, ",
            head="k: &k {"
            + "".join(f"k{n}: , " for n in range(4000))
            + "}\nci_access: {projects: [",
            tail="]}",
        ),
        "unknown_key",
    ),
    "a merge of itself": (b"ci_access: &a {<<: *a}", "alias_of_itself"),
    "an alias beside its anchor": (filled("- &a *a\n"), "yaml_syntax"),
    "anchors within themselves": (filled("&a [*a], ", head="[", tail="]"), "alias_of_itself"),
    "aliases of nothing": (filled("*a, ", head="[", tail="]"), "unknown_alias"),
    "many anchors": (numbered("&a{0} [], ", head="[", tail="]"), "not_a_mapping"),
    "brackets": (b"[" * LARGEST, "too_deep"),
    "braces": (b"{" * LARGEST, "too_deep"),
    "closed brackets": (b"[" * (LARGEST // 2) + b"]" * (LARGEST // 2), "too_deep"),
    "dashes": (filled("- "), "too_deep"),
    "question marks": (filled("? "), "too_deep"),
    "a list 10,000 deep": (b"ci_access: {projects: " + b"[" * 10_000 + b"]" * 10_000, "too_deep"),
    "a growing indentation": (
        "".join(f"{' ' * n}a:\n" for n in range(500)).encode(),
        "too_deep",
    ),
    "many keys": (numbered("k{0}:\n"), ""),
    "many keys in an entry": (
        numbered("    k{0}:\n", head="ci_access:\n  groups:\n  - id: a\n"),
        "unknown_key",
    ),
    "the same key": (filled("k: \n", head="ci_access:\n"), "duplicate_key"),
    "keys that are nearly the right one": (numbered("ci_acces{0}:\n"), "unknown_key"),
    "a long key": (filled("k", tail=": 1"), "yaml_syntax"),
    "a long line": (filled("x", head="ci_access: "), "not_a_mapping"),
    "a long quoted line": (filled(r"\x41", head='ci_access: "', tail='"'), "not_a_mapping"),
    "an open quote": (filled("x\n", head='a: "'), "yaml_syntax"),
    "folded text": (filled("x\n  ", head="ci_access: >\n  "), "not_a_mapping"),
    "digits": (filled("9", head="ci_access: "), "not_a_mapping"),
    "comments": (filled("#\n"), ""),
    "empty lines": (b"\n" * LARGEST, ""),
    "entries of nothing": (filled("  - \n", head="ci_access:\n  projects:\n"), "id_missing"),
    "documents": (filled("---\n"), "second_document"),
    "directives": (filled("%A b\n", tail="--- {}\n"), "yaml_syntax"),
    "tags": (filled("!t a, ", head="[", tail="]"), "tag"),
    "a tag that constructs": (b"ci_access: !!python/object/apply:os.abort []", "tag"),
    "binary": (bytes(range(256)) * 512, "not_utf8"),
    "zeros": (bytes(LARGEST), "yaml_syntax"),
    "a program": (b"\x7fELF\x02\x01\x01" + bytes(9), "yaml_syntax"),
    "UTF-16": ("ci_access: {}".encode("utf-16"), "not_utf8"),
    "UTF-16 without its mark": ("ci_access: {}".encode("utf-16-le"), "yaml_syntax"),
    "UTF-32": ("ci_access: {}".encode("utf-32"), "not_utf8"),
    "byte order marks": (filled("\ufeff"), "not_a_mapping"),
    "too large": (b"#" * (LARGEST + 1), "file_too_large"),
}


def read(data: bytes) -> list[tuple[str, int, int, str, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.limited_reading"],
        input=data,
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    problems: list[tuple[str, int, int, str, str]] = json.loads(done.stdout)["problems"]
    return problems


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_a_clear_answer_within_little_time_and_memory(name: str) -> None:
    data, code = HOSTILE[name]

    problems = read(data)

    assert ({found for found, *_ in problems} & {code}) == ({code} if code else set())
    assert bool(problems) is bool(code)
    assert len(problems) <= PROBLEMS_MAX
    lines = data.count(b"\n") + data.count(b"\r") + 1
    for _, line, column, text, fix in problems:
        assert 1 <= line <= lines + 1
        assert column >= 1
        assert text
        assert fix
        assert (text + fix).isprintable()


def test_the_limits_end_a_reader_that_has_no_bounds(tmp_path: Path) -> None:
    script = (
        "import resource, tests.support.limited_reading as limited\n"
        "def endless(data, file):\n"
        "    return [bytearray(1 << 20) for _ in range(1 << 20)]\n"
        "limited.read_configuration = endless\n"
        "limited.main()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        input=b"",
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )

    assert done.returncode != 0
    assert b"MemoryError" in done.stderr


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_lines_are_counted_whatever_ends_them(end: str) -> None:
    text = end.join(["ci_access:", "  projects:", "    - id: a", "      colour: red", ""])

    assert [(p[0], p[1], p[2]) for p in read(text.encode())] == [("unknown_key", 4, 7)]
