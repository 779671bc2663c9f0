"""What can be wrong with an agent's configuration, for who pushed it.

A code is a fixed name: docs/configuration.md says of each what it means and how to mend it.
"""

from __future__ import annotations

from enum import StrEnum

from jobgate.core.agent import PROBLEMS_MAX, Problem

_TEXT_SHOWN = 120


class ProblemCode(StrEnum):
    """Every code of a problem."""

    # The file as a whole: none of it is used.
    NOT_A_FILE = "not_a_file"
    FILE_TOO_LARGE = "file_too_large"
    NOT_UTF8 = "not_utf8"
    YAML_SYNTAX = "yaml_syntax"
    SECOND_DOCUMENT = "second_document"
    TOO_DEEP = "too_deep"
    TOO_MANY_NODES = "too_many_nodes"
    TOO_MUCH_TEXT = "too_much_text"
    TAG = "tag"
    UNKNOWN_ALIAS = "unknown_alias"
    ALIAS_OF_ITSELF = "alias_of_itself"
    # A key or a value: none of the file is used either, as in GitLab.
    KEY_NOT_TEXT = "key_not_text"
    DUPLICATE_KEY = "duplicate_key"
    UNKNOWN_KEY = "unknown_key"
    MERGE_NOT_MAPPING = "merge_not_mapping"
    MERGE_NOT_FIRST = "merge_not_first"
    NOT_A_MAPPING = "not_a_mapping"
    NOT_A_LIST = "not_a_list"
    NOT_A_TEXT = "not_a_text"
    NOT_A_BOOLEAN = "not_a_boolean"
    EMPTY = "empty"
    ID_MISSING = "id_missing"
    USERNAME_MISSING = "username_missing"
    KEY_MISSING = "key_missing"
    VAL_MISSING = "val_missing"
    ACCESS_AS_NOT_ONE = "access_as_not_one"
    # One entry: all others are used.
    NOT_FOUND = "not_found"
    DUPLICATE = "duplicate"
    BEYOND_LIMIT = "beyond_limit"
    RESERVED_IDENTITY = "reserved_identity"
    OUT_OF_SCOPE = "out_of_scope"
    PATH_REUSED = "path_reused"
    INSTANCE_NOT_ENABLED = "instance_not_enabled"
    # A file beside the configuration that nobody reads.
    OTHER_NAME = "other_name"
    JOBGATE_YAML = "jobgate_yaml"


class Problems:
    """The problems of one file, PROBLEMS_MAX at most and each of them once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[tuple[ProblemCode, int, int], Problem] = {}

    @property
    def are_full(self) -> bool:
        """Whether no further problem is kept."""
        return len(self._found) == PROBLEMS_MAX

    def add(self, code: ProblemCode, place: tuple[int, int], *, text: str, fix: str) -> None:
        """Note a problem at a place, line and column from 1."""
        # What an alias or a merge key repeats is wrong at one place, however often it's used.
        key = (code, *place)
        if not self.are_full and key not in self._found:
            line, column = place
            self._found[key] = Problem(
                code=code,
                file=self.file,
                line=line,
                column=column,
                text=printable(text),
                fix=printable(fix),
            )

    def in_order(self) -> tuple[Problem, ...]:
        """The problems, as the file is read."""
        return tuple(sorted(self._found.values(), key=lambda p: (p.line, p.column)))


def printable(text: str) -> str:
    """A text of a hostile file as a terminal may show it: escaped, and not at length."""
    cut = text[: _TEXT_SHOWN + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return shown if len(shown) <= _TEXT_SHOWN else f"{shown[: _TEXT_SHOWN - 1]}…"
