"""The forms of GitLab's answers: JSON to values; raises Unavailable for another form.

`integer`, `text`, `slug` and `file_kind` read one value and raise TypeError or ValueError instead.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.core.agent_folder import FileKind
from jobgate.core.errors import Unavailable
from jobgate.ports.gitlab import GitLabGroup, GitLabProject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobgate.adapters.https import Answer

_TOKEN = re.compile(r"[\x21-\x7e]+")
_SLUG = re.compile(r"[a-z](?:[a-z0-9-]{0,22}[a-z0-9])?")
_SHA1_DIGITS = 40
_MOVED = re.compile(r"/api/v4/(projects|groups)/[^/?#]+")
_NEXT = re.compile(r"""\brel=("?)next\1(?![\w-])""", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLabHook:
    """A webhook as GitLab lists it; `address` is its URL without the query."""

    hook_id: int
    address: str


def is_not_found(answer: Answer, *, is_path: bool) -> bool:
    """Whether GitLab's API itself says that there is no such thing.

    That is a 404 in JSON; and for a path its redirect to what was renamed away from there. A proxy
    before GitLab has pages of its own, and leads who asks too much of it to a sign-in.
    """
    if answer.status == 404:
        return isinstance(answer.json(), dict)
    is_redirect = answer.status in (301, 302, 307, 308)
    return is_path and is_redirect and bool(_MOVED.search(answer.headers.get("location", "")))


def is_blob(content: bytes, blob_id: str) -> bool:
    """Whether a content is that of git's blob: its id is the content's hash ("Git Objects")."""
    whole = b"blob %d\0%b" % (len(content), content)
    digest = hashlib.sha1 if len(blob_id) == _SHA1_DIGITS else hashlib.sha256
    return digest(whole, usedforsecurity=False).hexdigest() == blob_id


def token_of(value: object) -> str:
    """A token that a header can carry: the library's own error would quote another one."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise Unavailable("what is stored as GitLab's token can't be one")
    return value


def rows_of(body: object) -> list[dict[str, Any]]:
    """A page of a list of objects."""
    if not isinstance(body, list) or not all(isinstance(entry, dict) for entry in body):
        raise Unavailable("an answer of GitLab's that isn't a list of objects")
    return body


def project_of(body: Mapping[str, Any]) -> GitLabProject:
    """A project, alone or in a list."""
    # Left out where our token may see the project but not its code, as of a public project.
    branch = body.get("default_branch")
    try:
        namespace = body["namespace"]
        return GitLabProject(
            project_id=integer(body["id"]),
            path=text(body["path_with_namespace"]),
            default_branch=text(branch) if branch else None,
            namespace_id=integer(namespace["id"]),
            namespace_path=text(namespace["full_path"]),
            namespace_kind=text(namespace["kind"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a project in a form that isn't GitLab's") from exc


def group_of(body: dict[str, Any]) -> GitLabGroup:
    """A group, alone or in a list."""
    try:
        parent = body["parent_id"]
        return GitLabGroup(
            group_id=integer(body["id"]),
            path=text(body["full_path"]),
            parent_id=None if parent is None else integer(parent),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a group in a form that isn't GitLab's") from exc


def hook_of(body: Any) -> GitLabHook:
    """A webhook, alone or in a list."""
    try:
        return GitLabHook(hook_id=integer(body["id"]), address=text(body["url"]).partition("?")[0])
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a webhook in a form that isn't GitLab's") from exc


def file_kind(kind: object, mode: object) -> FileKind:
    """The kind of a tree's entry (GitLab, "Repositories API", with git's modes)."""
    match kind, mode:
        case "tree", _:
            return FileKind.FOLDER
        case "commit", _:
            return FileKind.SUBMODULE
        case "blob", "120000":
            return FileKind.LINK
        case "blob", str():
            return FileKind.FILE
    raise ValueError("neither a file nor a folder")


def slug(value: object) -> str:
    """An environment's slug."""
    slug = text(value)
    if not _SLUG.fullmatch(slug):
        raise ValueError("not a slug")
    return slug


def integer(value: object) -> int:
    """An integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not an integer")
    return value


def text(value: object) -> str:
    """A text that isn't empty."""
    if not isinstance(value, str) or not value:
        raise TypeError("not a text")
    return value


def next_page(link: str) -> str | None:
    """The target of `rel="next"` (RFC 8288) below the API's own prefix.

    Raises Unavailable where there is one that can't be asked for: what it lists isn't missing.
    """
    for part in link.split(","):
        url, _, parameters = part.rpartition(">")
        if _NEXT.search(parameters):
            _, found, target = url.partition("/api/v4")
            if not found:
                raise Unavailable("a next page that isn't of GitLab's API")
            return target
    return None
