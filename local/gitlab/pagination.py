"""GitLab's two ways of paging through a list: by number, and by key.

https://docs.gitlab.com/api/rest/#pagination
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEFAULT, _LARGEST = 20, 100
#: Beyond this many rows GitLab doesn't count: no totals, no link to the last page.
_COUNTED = 10_000

Item = TypeVar("Item")


def page_size(query: Mapping[str, str]) -> int:
    """`per_page`, capped as GitLab caps it."""
    return max(1, min(_whole(query.get("per_page"), _DEFAULT), _LARGEST))


def page_by_number(
    items: Sequence[Item], query: Mapping[str, str], url: str
) -> tuple[Sequence[Item], dict[str, str]]:
    """One page and its headers; `url` is the list's address without a query."""
    size, page = page_size(query), max(1, _whole(query.get("page"), 1))
    pages = max(1, -(-len(items) // size))
    following = page + 1 if page < pages else None
    previous = page - 1 if page > 1 else None
    counted = len(items) <= _COUNTED
    headers = {
        "X-Next-Page": "" if following is None else str(following),
        "X-Page": str(page),
        "X-Per-Page": str(size),
        "X-Prev-Page": "" if previous is None else str(previous),
    }
    links = {"prev": previous, "next": following, "first": 1}
    if counted:
        headers |= {"X-Total": str(len(items)), "X-Total-Pages": str(pages)}
        links["last"] = pages
    headers["Link"] = ", ".join(
        _link(url, {**query, "page": str(number), "per_page": str(size)}, relation)
        for relation, number in links.items()
        if number is not None
    )
    return items[(page - 1) * size : page * size], headers


def next_link(url: str, query: Mapping[str, str]) -> dict[str, str]:
    """The one header of a page by key that has a successor."""
    return {"Link": _link(url, query, "next")}


def _link(url: str, query: Mapping[str, str], relation: str) -> str:
    shown = {name: value for name, value in query.items() if name != "private_token"}
    return f'<{url}?{urlencode(sorted(shown.items()))}>; rel="{relation}"'


def _whole(value: str | None, otherwise: int) -> int:
    return int(value) if value is not None and value.isascii() and value.isdigit() else otherwise
