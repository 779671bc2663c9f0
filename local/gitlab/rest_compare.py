"""The REST route that compares two refs.

https://docs.gitlab.com/api/repositories/#compare-branches-tags-or-commits
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from local.gitlab.ci_shapes import commit_shape
from local.gitlab.context import PARTS, APIError, answer, not_found, project_of, truth
from local.gitlab.events import project_urls

routes = web.RouteTableDef()

_LOG_LIMIT = 1_000


@routes.get("/api/v4/projects/{id}/repository/compare")
async def compare(request: web.Request) -> web.Response:
    """What changed between two refs: from their common ancestor, unless `straight`."""
    parts = request.app[PARTS]
    project = project_of(request, role="reporter")
    straight = truth(request.query.get("straight"), otherwise=False)
    ends: list[str] = []
    for name in ("from", "to"):
        if not request.query.get(name):
            raise APIError(400, {"error": f"{name} is missing"})
        sha = await parts.repositories.resolve(project, request.query[name])
        if sha is None:
            raise not_found("Ref")
        ends.append(sha)
    start, end = ends
    base = start if straight else await parts.repositories.merge_base(project, start, end)
    changes = await parts.repositories.diff(project, base or start, end)
    commits = await parts.repositories.log(project, end, f"^{start}", limit=_LOG_LIMIT)
    shown = [commit_shape(parts.instance, project, commit) for commit in reversed(commits)]
    web_url, _, _ = project_urls(parts.instance, project)
    return answer(
        {
            "commit": shown[-1] if shown else None,
            "commits": shown,
            "diffs": [_diff_shape(*change) for change in changes],
            "compare_timeout": False,
            "compare_same_ref": start == end,
            "web_url": f"{web_url}/-/compare/{start}...{end}",
        }
    )


def _diff_shape(status: str, old_path: str, new_path: str) -> dict[str, Any]:
    return {
        "diff": "",
        "collapsed": False,
        "too_large": False,
        "new_path": new_path,
        "old_path": old_path,
        "a_mode": "0" if status == "A" else "100644",
        "b_mode": "0" if status == "D" else "100644",
        "new_file": status == "A",
        "renamed_file": status == "R",
        "deleted_file": status == "D",
        "generated_file": False,
    }
