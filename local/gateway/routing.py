"""Which route takes a request: API Gateway's rule, the most specific resource first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.gateway.api import API, Route

_EXACT, _VARIABLE, _GREEDY = range(3)


@dataclass(frozen=True, slots=True)
class Match:
    """A route, and its path parameters as they were sent (API Gateway doesn't decode them)."""

    route: Route
    parameters: Mapping[str, str]


def match(api: API, method: str, path: str) -> Match | None:
    """Find the route for `path`, which has no stage and begins with a slash.

    Segments are compared as they were sent: no decoding, no dot segments resolved, no slashes
    merged. One slash at the end is ignored, yet stays in the event's path.
    """
    found = [
        (rank, route.method == "ANY", route, parameters)
        for route in api.routes
        if route.method in (method, "ANY")
        for rank, parameters in _resources(route.resource, path)
    ]
    if not found:
        return None
    _, _, route, parameters = min(found, key=lambda candidate: candidate[:2])
    return Match(route, parameters)


def _resources(resource: str, path: str) -> list[tuple[tuple[int, ...], dict[str, str]]]:
    """The rank and parameters of `resource` for `path`, if it fits: a list of none or one."""
    rest = path.removeprefix("/")
    rank: list[int] = []
    parameters: dict[str, str] = {}
    for part in resource.removeprefix("/").split("/"):
        if part.startswith("{") and part.endswith("+}"):
            if not rest:
                return []
            return [((*rank, _GREEDY), {**parameters, part[1:-2]: rest})]
        segment, _, rest = rest.partition("/")
        if part.startswith("{"):
            if not segment:
                return []
            rank.append(_VARIABLE)
            parameters[part[1:-1]] = segment
        elif part == segment:
            rank.append(_EXACT)
        else:
            return []
    return [] if rest else [(tuple(rank), parameters)]
