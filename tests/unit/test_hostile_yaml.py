"""Hostile files: each is read within little time and memory, and ends in a clear answer.

By `jobgate lint` and by a refresh alike, in a child process with limits of CPU time and memory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jobgate.core.agent import PROBLEMS_MAX
from jobgate.core.agent_configuration import FILE_MAX_BYTES

from tests.support import builders as b

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
CONFIG = ".gitlab/agents/prod/config.yaml"
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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one good agent beside the hostile one, `prod`."""
    other = tmp_path / ".gitlab/agents/other/config.yaml"
    other.parent.mkdir(parents=True)
    other.write_text("ci_access: {}\n")
    (tmp_path / ".gitlab/agents/prod").mkdir()
    return tmp_path


class Reader:
    """The process that reads each checkout in a child with limits."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *(arguments or ("-m", "tests.support.limited_reading"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    def ask(self, checkout: Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{checkout}\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def stop(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.stop()


def read(reader: Reader, checkout: Path) -> dict[str, Any]:
    """What `lint` and a refresh found, which must be the same, both within the limits."""
    answer = reader.ask(checkout)
    assert answer["ended"] == 0, answer["said"]
    found = json.loads(answer["said"])
    linted = [
        {**problem, "file": problem["file"].removeprefix(f"{checkout}/")}
        for problem in found["lint"].pop("problems")
    ]
    refreshed: dict[str, Any] = found["refresh"]
    problems = refreshed["problems"]
    assert [{**problem, "severity": "error"} for problem in problems] == linted
    assert found["lint"] == {"exit": 1 if problems else 0, "said": ""}
    return refreshed


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_ends_in_a_clear_answer_within_little_time_and_memory(
    name: str, reader: Reader, checkout: Path
) -> None:
    data, code = HOSTILE[name]
    (checkout / CONFIG).write_bytes(data)

    found = read(reader, checkout)

    problems = found["problems"]
    assert ({p["code"] for p in problems} & {code}) == ({code} if code else set())
    assert bool(problems) is bool(code)
    assert len(problems) <= PROBLEMS_MAX
    lines = data.count(b"\n") + data.count(b"\r") + 1
    for problem in problems:
        assert 1 <= problem["line"] <= lines + 1
        assert problem["column"] >= 1
        assert problem["text"]
        assert problem["fix"]
        assert (problem["text"] + problem["fix"]).isprintable()
    # Of a file that can't be used the last good one stays.
    assert found["projects"] == ([b.APP] if problems else [])


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "config.yaml").write_text("ci_access: {}\n")


PATHS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "a folder": (a_folder, "not_a_file"),
    "a link to a file": (lambda path: path.symlink_to("../other/config.yaml"), "not_a_file"),
    "a link out of the checkout": (lambda path: path.symlink_to("/etc/passwd"), "not_a_file"),
    "a link to what never ends": (lambda path: path.symlink_to("/dev/zero"), "not_a_file"),
    "a link to itself": (lambda path: path.symlink_to("config.yaml"), "not_a_file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "not_a_file"),
    "a link to the checkout": (lambda path: path.symlink_to("../../.."), "not_a_file"),
    "an empty file": (Path.touch, None),
    "no file": (lambda path: path.with_name("README.md").touch(), None),
    "a pipe, which git doesn't hold": (os.mkfifo, None),
}


@pytest.mark.parametrize("name", PATHS)
def test_what_is_no_configuration_is_one_problem_and_what_is_absent_none(
    name: str, reader: Reader, checkout: Path
) -> None:
    make, code = PATHS[name]
    make(checkout / CONFIG)

    found = read(reader, checkout)

    assert [(p["code"], p["file"], p["line"]) for p in found["problems"]] == (
        [(code, CONFIG, 1)] if code else []
    )
    assert found["projects"] == ([b.APP] if code else [])


@pytest.mark.parametrize(
    ("endless", "code", "said"),
    [
        ("lambda data, file: [bytearray(1 << 20) for _ in range(1 << 20)]", 1, "MemoryError"),
        ("lambda data, file: sum(iter(int, 1))", -signal.SIGKILL, ""),
    ],
    ids=["memory", "time"],
)
def test_the_limits_end_a_reader_that_has_no_bounds(
    endless: str, code: int, said: str, checkout: Path
) -> None:
    (checkout / CONFIG).touch()
    script = (
        "import jobgate.core.lint, tests.support.limited_reading as limited\n"
        f"jobgate.core.lint.read_configuration = {endless}\n"
        "limited.CPU_SECONDS = 1\n"
        "limited.main()\n"
    )
    reader = Reader("-c", script)

    answer = reader.ask(checkout)

    reader.stop()
    assert answer["ended"] == code, answer["said"]
    assert said in answer["said"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_lines_are_counted_whatever_ends_them(end: str, reader: Reader, checkout: Path) -> None:
    text = end.join(["ci_access:", "  projects:", "    - id: a", "      colour: red", ""])
    (checkout / CONFIG).write_bytes(text.encode())

    problems = read(reader, checkout)["problems"]

    assert [(p["code"], p["line"], p["column"]) for p in problems] == [("unknown_key", 4, 7)]
