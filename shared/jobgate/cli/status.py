"""`jobgate status`: what became of the last push to each configuration project."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobgate.adapters import items
from jobgate.cli import gitlab_calls
from jobgate.cli.gitlab_status import hook_health
from jobgate.cli.job_hooks import projects_with_job_hooks
from jobgate.cli.output import age
from jobgate.cli.snapshots import config_projects, read_snapshots
from jobgate.core.agent import authorised_by
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.gitlab_token import days_left, ends_soon
from jobgate.usecases.namespaces import NamespaceTree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from jobgate.cli.connect import Connected
    from jobgate.cli.gitlab_status import HookHealth
    from jobgate.core.agent import AgentSnapshot
    from jobgate.ports.gitlab import GitLab
    from jobgate.ports.refresh import ConfigProjectItem

_COMMIT_SHOWN = 11


@dataclass(frozen=True, slots=True)
class _Now:
    """A configuration project as GitLab has it now; the error says why that isn't known."""

    head: str | None = None
    namespaces: frozenset[int] = frozenset()
    error: str | None = None


class _Instances:
    """The GitLab instances, each asked with its run-time token, and its webhooks."""

    def __init__(self, connected: Connected, exits: contextlib.ExitStack) -> None:
        self._connected = connected
        self._exits = exits
        self._known: dict[str, tuple[NamespaceTree, GitLab] | str] = {}
        self._hooks: dict[str, list[HookHealth]] = {}
        self._job_hooks: dict[str, frozenset[int] | None] = {}

    def now(self, project: ConfigProjectItem) -> _Now:
        asked = self._asked(project.issuer)
        if isinstance(asked, str):
            return _Now(error=asked)
        tree, gitlab = asked
        try:
            found = gitlab.project(project.project_id)
            if found is None or found.default_branch is None:
                return _Now(error="GitLab shows the run-time token no branch of this project.")
            _, chain = tree.place(found)
            head = gitlab.head(project.project_id, found.default_branch)
        except Unavailable as exc:
            return _Now(error=f"GitLab can't be asked: {exc}.")
        return _Now(head=head, namespaces=frozenset(g.namespace_id for g in chain.groups))

    def hooks(self, alias: str) -> list[HookHealth]:
        """The webhooks of an instance."""
        if alias not in self._hooks:
            self._hooks[alias] = hook_health(self._connected, alias)
        return self._hooks[alias]

    def job_hooks(self, alias: str) -> frozenset[int] | None:
        """The projects that have a webhook, None where nobody wanted one for each."""
        if alias not in self._job_hooks:
            own = {hook.id for hook in self.hooks(alias) if hook.kind == "project"}
            found = projects_with_job_hooks(self._connected, alias)
            self._job_hooks[alias] = None if found is None else found | own
        return self._job_hooks[alias]

    def webhook(self, project: ConfigProjectItem, now: _Now) -> HookHealth | None:
        """The webhook that tells of this project's pushes; of several the one heard last."""
        mine = [
            hook
            for hook in self.hooks(project.issuer)
            if hook.kind == "instance"
            or (hook.kind == "project" and hook.id == project.project_id)
            or (hook.kind == "group" and hook.id in now.namespaces)
        ]
        return max(mine, key=lambda hook: hook.seen_at or 0, default=None)

    def _asked(self, alias: str) -> tuple[NamespaceTree, GitLab] | str:
        if alias not in self._known:
            try:
                issuer = self._connected.registry.issuer(alias)
                gitlab = self._exits.enter_context(
                    gitlab_calls.run_time_api(self._connected, issuer)
                )
                tree = NamespaceTree(gitlab, now=self._connected.outside.clock())
                self._known[alias] = tree, gitlab
            except (InvalidRequest, Unavailable) as exc:
                self._known[alias] = str(exc)
        return self._known[alias]


def show_status(connected: Connected) -> tuple[bool, bool]:
    """Print the table; whether there are findings, and whether something isn't known."""
    found = config_projects(connected)
    homes: dict[str, set[int]] = {}
    for project in found:
        homes.setdefault(project.issuer, set()).add(project.project_id)
    with contextlib.ExitStack() as exits:
        instances = _Instances(connected, exits)
        rows = [_row(connected, instances, project, homes) for project in found]
    _print(connected, rows)
    connected.output.result(rows)
    return any(row["findings"] for row in rows), any(row["unknown"] for row in rows)


def _row(
    connected: Connected,
    instances: _Instances,
    project: ConfigProjectItem,
    homes: Mapping[str, Collection[int]],
) -> dict[str, Any]:
    snapshots = read_snapshots(connected, project.issuer, project.agents).values()
    now = instances.now(project)
    hook = instances.webhook(project, now)
    problems = sum(len(snapshot.problems) for snapshot in snapshots)
    findings = [
        *_token_findings(connected, project.issuer),
        *([f"{problems} problems: jobgate agent show"] if problems else []),
        *([project.last_error] if project.last_error else []),
        *(["the head isn't processed"] if now.head not in (None, project.last_commit) else []),
        *_hook_findings(hook, now),
        *_job_hook_findings(snapshots, instances.job_hooks(project.issuer), homes[project.issuer]),
    ]
    return {
        "issuer": project.issuer,
        "project_id": project.project_id,
        "path": next((snapshot.config_project.path for snapshot in snapshots), None),
        "agents": len(project.agents),
        "head": now.head,
        "commit": project.last_commit,
        "refreshed_at": project.last_at,
        "problems": problems,
        "error": project.last_error,
        "note": project.last_note,
        "webhook": None
        if hook is None
        else {"kind": hook.kind, "id": hook.id, "seen_at": hook.seen_at},
        "findings": findings,
        "unknown": now.error,
    }


def _token_findings(connected: Connected, alias: str) -> list[str]:
    """What the schedule last read of the run-time token's end."""
    end = items.token_end_of(connected.table.get(items.token_end_key(alias)))
    if end is None:
        return []
    left = days_left(end.expires_at, now=connected.outside.clock())
    if end.good and not ends_soon(left):
        return []
    lack = f"ends within {left} days" if end.good else "isn't accepted by GitLab"
    return [f"the run-time token {lack}: jobgate gitlab rotate-token"]


def _hook_findings(hook: HookHealth | None, now: _Now) -> list[str]:
    if hook is None:
        # Which groups the project is in isn't known while GitLab is away.
        return [] if now.error else ["no webhook: jobgate gitlab connect"]
    return [] if hook.seen_at is not None else ["the webhook has delivered nothing yet"]


def _job_hook_findings(
    snapshots: Iterable[AgentSnapshot], hooked: frozenset[int] | None, homes: Collection[int]
) -> list[str]:
    """Authorised projects without a webhook, where `connect --job-hooks projects` made some."""
    named = {i for snapshot in snapshots for i in authorised_by(snapshot.projects)}
    lacking = set() if hooked is None else named - hooked - set(homes)
    if not lacking:
        return []
    remedy = "jobgate gitlab connect GROUP --job-hooks projects"
    return [f"{len(lacking)} authorised projects have no webhook for their jobs' ends: {remedy}"]


def _print(connected: Connected, rows: list[dict[str, Any]]) -> None:
    clock = connected.outside.clock()

    def ago(moment: float | None) -> str | None:
        return None if moment is None else age(clock - moment)

    def short(commit: str | None) -> str | None:
        return commit and commit[:_COMMIT_SHOWN]

    connected.output.table(
        ("issuer", "project", "agents", "head", "commit", "age", "problems", "webhook", "remarks"),
        [
            (
                row["issuer"],
                row["path"] or f"project {row['project_id']}",
                row["agents"],
                short(row["head"]),
                short(row["commit"]),
                ago(row["refreshed_at"]),
                row["problems"],
                None if row["webhook"] is None else ago(row["webhook"]["seen_at"]) or "silent",
                "; ".join([*row["findings"], *_others(row)]) or None,
            )
            for row in rows
        ],
    )


def _others(row: dict[str, Any]) -> list[str]:
    return [row[name] for name in ("unknown", "note") if row[name]]
