"""`jobgate status`: what became of the last push to each configuration project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items
from jobgate.cli.output import age
from jobgate.cli.snapshots import read_snapshots

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected
    from jobgate.ports import ConfigProjectItem

_COMMIT_SHOWN = 11


def show_status(connected: Connected) -> bool:
    """Print the table; true where a project has a problem or its last refresh failed."""
    found = (agent_items.config_project_of(i) for i in connected.table.query("CONFIG_PROJECTS"))
    rows = [_row(connected, project) for project in found if project is not None]
    now = connected.outside.clock()
    connected.output.table(
        ("issuer", "project", "agents", "commit", "age", "problems", "last error or note"),
        [
            (
                row["issuer"],
                row["path"] or f"project {row['project_id']}",
                row["agents"],
                row["commit"] and row["commit"][:_COMMIT_SHOWN],
                None if row["refreshed_at"] is None else age(now - row["refreshed_at"]),
                row["problems"],
                row["error"] or row["note"],
            )
            for row in rows
        ],
    )
    connected.output.result(rows)
    return any(row["problems"] or row["error"] for row in rows)


def _row(connected: Connected, project: ConfigProjectItem) -> dict[str, Any]:
    snapshots = read_snapshots(connected, project.issuer, project.agents).values()
    return {
        "issuer": project.issuer,
        "project_id": project.project_id,
        "path": next((snapshot.config_project.path for snapshot in snapshots), None),
        "agents": len(project.agents),
        "commit": project.last_commit,
        "refreshed_at": project.last_at,
        "problems": sum(len(snapshot.problems) for snapshot in snapshots),
        "error": project.last_error,
        "note": project.last_note,
    }
