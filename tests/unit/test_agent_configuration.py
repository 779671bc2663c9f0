"""Reading config.yaml: every mistake with its place, hostile YAML bounded, nothing constructed."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobgate.core.agent import PROBLEMS_MAX, AsAgent, AsCIJob, AsIdentity
from jobgate.core.agent_configuration import (
    AgentConfiguration,
    InvalidConfiguration,
    WrittenEntry,
    read_configuration,
)

FILE = ".gitlab/agents/prod/config.yaml"


def read(text: str | bytes) -> AgentConfiguration | InvalidConfiguration:
    data = textwrap.dedent(text).encode() if isinstance(text, str) else text
    return read_configuration(data, file=FILE)


def problems(text: str | bytes) -> list[tuple[str, int, int]]:
    result = read(text)
    assert isinstance(result, InvalidConfiguration)
    return [(p.code, p.line, p.column) for p in result.problems]


def test_every_key_is_read_in_the_files_order() -> None:
    configuration = read(
        """\
        ci_access:
          projects:
            - id: top/app
              default_namespace: payments
              access_as:
                impersonate:
                  username: deployer
                  uid: "7"
                  groups: [ops, dev]
                  extra:
                    - key: team
                      val: [a, b]
              environments: [production, review/*]
              protected_branches_only: true
              resource_management: {enabled: true}
            - {id: top/other, access_as: {agent: {}}}
          groups:
            - id: top
              access_as: {ci_job: {}}
          instance: {}
        user_access: {anything: 1}
        """
    )

    identity = AsIdentity("deployer", "7", ("ops", "dev"), (("team", ("a", "b")),))
    assert configuration == AgentConfiguration(
        projects=(
            WrittenEntry(
                path="top/app",
                line=3,
                column=11,
                access_as=identity,
                default_namespace="payments",
                environments=("production", "review/*"),
                protected_branches_only=True,
            ),
            WrittenEntry(path="top/other", line=16, column=12, access_as=AsAgent()),
        ),
        groups=(WrittenEntry(path="top", line=18, column=11, access_as=AsCIJob()),),
        instance=WrittenEntry(path="", line=20, column=13),
    )


@pytest.mark.parametrize("data", [None, b"", b"---\n", b"null", b"# only a comment\n", b"{}"])
def test_no_file_and_an_empty_one_are_valid_and_say_nothing(data: bytes | None) -> None:
    assert read_configuration(data, file=FILE) == AgentConfiguration()


@pytest.mark.parametrize(
    "text",
    ["ci_access:", "ci_access: {projects: , groups: null}", "ci_access: {instance: null}"],
)
def test_null_is_as_absent(text: str) -> None:
    assert read(text) == AgentConfiguration()


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("ci_access: [a]", "not_a_mapping", 1, 12),
        ("- a", "not_a_mapping", 1, 1),
        ("just text", "not_a_mapping", 1, 1),
        ("ci_access:\n  project:\n    - id: a", "unknown_key", 2, 3),
        ("ci_access:\n  projects: {id: a}", "not_a_list", 2, 13),
        ("ci_access:\n  projects:\n    - text", "not_a_mapping", 3, 7),
        ("ci_access:\n  projects:\n    - ", "id_missing", 3, 6),
        ("ci_access:\n  projects:\n    - {}", "id_missing", 3, 7),
        ("ci_access:\n  projects:\n    - id:", "id_missing", 3, 7),
        ("ci_access:\n  projects:\n    - id: ''", "empty", 3, 11),
        ("ci_access:\n  projects:\n    - id: 123", "not_a_text", 3, 11),
        ("ci_access:\n  projects:\n    - id: [a]", "not_a_text", 3, 11),
        ("ci_access:\n  groups:\n    - id: a\n      colour: red", "unknown_key", 4, 7),
        ("ci_access:\n  instance: {id: a}", "unknown_key", 2, 14),
        ("ci_access:\n  projects:\n    - id: a\n      id: b", "duplicate_key", 4, 7),
        ("ci_access: {}\nci_access: {}", "duplicate_key", 2, 1),
        ("ci_access: {projects: [{id: a, environments: [1]}]}", "not_a_text", 1, 47),
        ("ci_access: {projects: [{id: a, environments: [~]}]}", "empty", 1, 47),
        ("ci_access: {projects: [{id: a, access_as: {}}]}", "access_as_not_one", 1, 43),
        ("ci_access: {projects: [{id: a, access_as: agent}]}", "not_a_mapping", 1, 43),
        ("ci_access: {projects: [{id: a, access_as: {agent: }}]}", "access_as_not_one", 1, 43),
        ("ci_access: {projects: [{id: a, access_as: {agent: {x: 1}}}]}", "unknown_key", 1, 52),
        ("ci_access: {projects: [{id: a, access_as: {ci_user: {}}}]}", "unknown_key", 1, 44),
        (
            "ci_access: {projects: [{id: a, access_as: {agent: {}, ci_job: {}}}]}",
            "access_as_not_one",
            1,
            43,
        ),
        (
            "ci_access: {projects: [{id: a, access_as: {impersonate: {}}}]}",
            "username_missing",
            1,
            57,
        ),
        (
            "ci_access: {projects: [{id: a, access_as: {impersonate: {username: }}}]}",
            "username_missing",
            1,
            57,
        ),
        (
            "ci_access: {projects: [{id: a, access_as: {impersonate: text}}]}",
            "not_a_mapping",
            1,
            57,
        ),
        ("ci_access: {projects: [{id: a, protected_branches_only: 1}]}", "not_a_boolean", 1, 57),
        ("ci_access: {projects: [{id: a, resource_management: {off_: 1}}]}", "unknown_key", 1, 54),
        ("a: [", "yaml_syntax", 2, 1),
        ("a: b: c", "yaml_syntax", 1, 5),
        ("a: 1\n---\nb: 2", "second_document", 2, 1),
        ("a: *nowhere", "unknown_alias", 1, 4),
        ("ci_access: !!python/object/apply:os.system [id]", "tag", 1, 12),
        ("ci_access: {projects: [{id: !!str 12}]}", "tag", 1, 29),
        ("ci_access: !unknown {}", "tag", 1, 12),
        ("user_access: !!binary aGk=", "tag", 1, 14),
    ],
)
def test_one_mistake_is_one_problem_at_its_place(
    text: str, code: str, line: int, column: int
) -> None:
    assert problems(text) == [(code, line, column)]


@pytest.mark.parametrize("extra", ["text", "{key: k}", "{val: [v]}", "{key: k, val: [1]}"])
def test_a_broken_extra_is_one_problem(extra: str) -> None:
    identity = f"{{username: u, extra: [{extra}]}}"

    found = problems(
        f"ci_access: {{projects: [{{id: a, access_as: {{impersonate: {identity}}}}}]}}"
    )

    assert len(found) == 1


def test_a_mistyped_key_is_answered_with_the_likely_one() -> None:
    result = read("ci_access: {projects: [{id: a, enviroments: [b]}]}")

    assert isinstance(result, InvalidConfiguration)
    assert result.problems[0].fix == "Did you mean environments?"


def test_ten_mistakes_give_ten_problems_each_at_its_line() -> None:
    text = """\
        ci_access:
          project: []
          projects:
            - id: 12
            - name: x
              id: a
            - id: b
              environments: production
            - id: c
              access_as: {}
            - id: d
              access_as: {ci_user: {}}
            - id: e
              access_as: {impersonate: {groups: [g]}}
            - id: f
              protected_branches_only: maybe
            - {}
          groups:
            - id: g
              environments: [""]
        """

    assert [(code, line) for code, line, _ in sorted(problems(text), key=lambda p: p[1])] == [
        ("unknown_key", 2),
        ("not_a_text", 4),
        ("unknown_key", 5),
        ("not_a_list", 8),
        ("access_as_not_one", 10),
        ("unknown_key", 12),
        ("username_missing", 14),
        ("not_a_boolean", 16),
        ("id_missing", 17),
        ("empty", 20),
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xfe", "not_utf8"),
        (b"ci_access: \x80", "not_utf8"),
        ("ci_access: {}".encode("utf-16"), "not_utf8"),
        (b"a: \x00", "yaml_syntax"),
        (b"a: \x1b", "yaml_syntax"),
        (b"[" * 131_072, "too_deep"),
        (b"{a: " * 10_000, "too_deep"),
        (b"- " * 10_000, "too_deep"),
        (b"x" * 131_073, "file_too_large"),
    ],
    ids=["bom", "byte", "utf16", "nul", "escape", "brackets", "braces", "dashes", "large"],
)
def test_what_is_no_text_or_no_end_is_one_clear_problem(data: bytes, code: str) -> None:
    assert [found for found, _, _ in problems(data)] == [code]


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert read("\ufeffci_access: {}".encode()) == AgentConfiguration()


def test_aliases_work() -> None:
    text = """\
        ci_access:
          projects:
            - {id: a, environments: &both [staging, production]}
            - {id: b, environments: *both}
        """

    configuration = read(text)

    assert isinstance(configuration, AgentConfiguration)
    assert configuration.projects[1].environments == ("staging", "production")


def test_aliases_that_multiply_end_in_one_problem() -> None:
    names = ", ".join("e" * 1000)
    entries = ", ".join("*entry" for _ in range(2000))
    text = f"x: &entry {{id: a, environments: [{names}]}}\nci_access: {{projects: [{entries}]}}\n"

    assert [code for code, _, _ in problems(text)] == ["too_many_nodes"]


@pytest.mark.parametrize(
    "value", ["environments: [{0}]", "access_as: {{impersonate: {{username: u, groups: [{0}]}}}}"]
)
def test_aliases_that_multiply_a_long_text_end_in_one_problem(value: str) -> None:
    texts = f"&long {'x' * 30_000}" + ", *long" * 500
    text = f"ci_access: {{groups: [{{id: a, {value.format(texts)}}}]}}"

    assert [code for code, _, _ in problems(text)] == ["too_much_text"]


def test_a_long_path_repeated_by_an_alias_ends_in_one_problem() -> None:
    entries = f"{{id: &long {'x' * 30_000}}}" + ", {id: *long}" * 500

    assert [code for code, _, _ in problems(f"ci_access: {{projects: [{entries}]}}")] == [
        "too_much_text"
    ]


def test_a_file_of_the_greatest_size_without_aliases_has_not_too_much_text() -> None:
    text = "ci_access: {groups: [{id: a, environments: [%s]}]}"

    configuration = read(text % ("x" * (131_072 - len(text) + 2)))

    assert isinstance(configuration, AgentConfiguration)


def test_an_alias_to_itself_is_a_problem_and_no_endless_loop() -> None:
    found = problems("ci_access: {projects: &self [*self]}")

    assert [code for code, _, _ in found] == ["alias_of_itself"]


def test_the_problems_of_one_file_are_bounded() -> None:
    assert len(problems(f"ci_access: {{projects: [{'1, ' * 30_000}]}}")) == PROBLEMS_MAX


def test_the_offending_text_is_shown_but_not_at_length() -> None:
    result = read(f"ci_access: {{{'k' * 500}: 1}}")

    assert isinstance(result, InvalidConfiguration)
    assert len(result.problems[0].text) <= 120


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert isinstance(
        read_configuration(data, file=FILE), AgentConfiguration | InvalidConfiguration
    )


YAML_WORDS = st.sampled_from(
    ["ci_access", "projects", "groups", "id", "access_as", ": ", "\n", "  ", "- ", "{", "}", "[",
     "]", ",", "a/b", "*", "&x ", "*x", "<<", "null", "1", "!t", "'", '"', "|", "?", "#"]
)  # fmt: skip


@given(st.lists(YAML_WORDS, max_size=40).map("".join))
def test_anything_that_looks_like_a_configuration_is_read_or_refused(text: str) -> None:
    result = read_configuration(text.encode(), file=FILE)

    assert isinstance(result, AgentConfiguration | InvalidConfiguration)
    if isinstance(result, InvalidConfiguration):
        assert all(p.line >= 1 and p.column >= 1 and p.fix for p in result.problems)
