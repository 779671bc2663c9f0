"""Reads what `git log`, `git ls-tree` and `git fast-import` speak, into values and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FIELDS = ("%H", "%P", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%B")
#: Fields end in a unit separator and commits begin with a record separator, both kept out of text.
LOG_FORMAT = "%x1e" + "".join(f"{field}%x1f" for field in _FIELDS)


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, with the paths that it changed against its first parent.

    A renamed file counts as added under its new name and isn't listed under its old one: so do
    GitLab's push events.
    """

    id: str
    parents: tuple[str, ...]
    author_name: str
    author_email: str
    authored: str
    committer_name: str
    committer_email: str
    committed: str
    message: str
    added: tuple[str, ...]
    modified: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def title(self) -> str:
        """The message's first line."""
        return self.message.split("\n", 1)[0]


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file or folder of a commit."""

    id: str
    name: str
    type: str
    path: str
    mode: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a commit does to one path: new content with a git mode, or None to delete it."""

    content: bytes | None
    mode: str = "100644"


def parse_log(printed: bytes) -> list[Commit]:
    """Commits in the order that `git log -z --name-status` printed them in LOG_FORMAT."""
    text = printed.decode(errors="replace")
    return [_parse_commit(record) for record in text.split("\x1e")[1:]]


def _parse_commit(record: str) -> Commit:
    *fields, names = record.split("\x1f")
    sha, parents, an, ae, at, cn, ce, ct, message = fields
    changed: dict[str, list[str]] = {"A": [], "M": [], "D": []}
    for status, path in _changes(names):
        changed["A" if status in "RC" else status if status in changed else "M"].append(path)
    return Commit(
        id=sha,
        parents=tuple(parents.split()),
        author_name=an,
        author_email=ae,
        authored=at,
        committer_name=cn,
        committer_email=ce,
        committed=ct,
        message=message,
        added=tuple(changed["A"]),
        modified=tuple(changed["M"]),
        removed=tuple(changed["D"]),
    )


def _changes(names: str) -> Iterator[tuple[str, str]]:
    """Pairs of status letter and (new) path."""
    parts = iter(names.strip("\0\n").split("\0"))
    for status in parts:
        if not status:
            return
        letter = status[0]
        path = next(parts)
        yield letter, next(parts) if letter in "RC" else path


def parse_tree(printed: bytes) -> list[TreeEntry]:
    """Entries of `git ls-tree -z --full-tree`, folders first, as GitLab lists them."""
    entries: list[TreeEntry] = []
    for line in printed.decode(errors="replace").split("\0")[:-1]:
        facts, path = line.split("\t", 1)
        mode, kind, sha = facts.split()
        entries.append(TreeEntry(sha, path.rsplit("/", 1)[-1], kind, path, mode))
    return sorted(entries, key=lambda entry: entry.type != "tree")


def fast_import(
    *,
    branch: str,
    parent: str | None,
    message: str,
    author: str,
    at: int,
    files: Mapping[str, FileChange],
) -> bytes:
    """The stream that makes one commit; `author` is `Name <email>`."""
    lines = [f"commit refs/heads/{branch}\ncommitter {author} {at} +0000\n".encode()]
    lines.append(_data(message.encode()))
    if parent is not None:
        lines.append(f"from {parent}\n".encode())
    for path, change in files.items():
        quoted = '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        if change.content is None:
            lines.append(f"D {quoted}\n".encode())
        else:
            lines.append(f"M {change.mode} inline {quoted}\n".encode())
            lines.append(_data(change.content))
    return b"".join(lines)


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"
