"""The inputs of `jobgate decide`, written as files, and the command run on them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jobgate.cli.app import app
from typer.testing import CliRunner

from tests.support.id_tokens import ABSENT, gitlab_claims

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Given:
    """The inputs of a run in a folder: files by configuration project's path and agent's name."""

    def __init__(self, folder: Path, instance: Mapping[str, Any]) -> None:
        self.folder = folder
        self.instance: dict[str, Any] = {
            "v": 1,
            "settings": {"instance_wide": False, "entry_limit": 500},
            **instance,
        }

    def settings(self, **settings: Any) -> None:
        self.instance["settings"] = {**self.instance["settings"], **settings}

    def add(self, kind: str, *items: Mapping[str, Any]) -> None:
        self.instance[kind] = [*self.instance.get(kind, ()), *items]

    def push(self, agent: str, config: Any) -> None:
        """Write an agent's config.yaml; a value is written as JSON, which is YAML."""
        path = self.agents_folder(self._holder(agent)) / agent / "config.yaml"
        path.parent.mkdir(parents=True)
        data = config if isinstance(config, bytes) else json.dumps(config).encode()
        path.write_bytes(data)

    def claims(self, project_id: int, /, **changes: Any) -> dict[str, Any]:
        project = next(p for p in self.instance["projects"] if p["id"] == project_id)
        path, namespace = project["path_with_namespace"], str(project["namespace_id"])
        return gitlab_claims(
            **{
                "project_id": str(project_id),
                "project_path": path,
                "namespace_id": namespace,
                "namespace_path": path.rpartition("/")[0],
                "job_project_id": str(project_id),
                "job_project_path": path,
                "job_namespace_id": namespace,
                "job_namespace_path": path.rpartition("/")[0],
                "iss": ABSENT,
                "aud": ABSENT,
                "exp": ABSENT,
                **changes,
            }
        )

    def arguments(self, claims: Any, *more: str) -> list[str]:
        """The command line, once the files are written."""
        (self.folder / "instance.json").write_text(json.dumps(self.instance))
        (self.folder / "claims.json").write_text(json.dumps(claims))
        paths = {p["id"]: p["path_with_namespace"] for p in self.instance["projects"]}
        holders = sorted({agent["project_id"] for agent in self.instance["agents"]})
        folders: list[str] = []
        for holder in holders:
            self.agents_folder(holder).mkdir(parents=True, exist_ok=True)
            folders += ["--agents", f"{paths[holder]}={self.agents_folder(holder)}"]
        files = [f"--{name}={self.folder / name}.json" for name in ("instance", "claims")]
        return ["decide", *folders, *files, *more]

    def run(self, project_id: int, /, **changes: Any) -> dict[str, Any]:
        """The answer, as JSON, for a job of a project."""
        found = run(*self.arguments(self.claims(project_id, **changes), "--json"))
        assert found.exit_code == 0, found.stderr
        answer: dict[str, Any] = json.loads(found.stdout)
        return answer

    def allowed(self, project_id: int, /, **changes: Any) -> dict[int, dict[str, Any]]:
        """The allowed agents by id."""
        agents = self.run(project_id, **changes)["agents"]
        return {agent["id"]: agent for agent in agents if agent["allowed"]}

    def agent(self, agent_id: int, project_id: int, /, **changes: Any) -> dict[str, Any]:
        """One agent's decision."""
        agents: list[dict[str, Any]] = self.run(project_id, **changes)["agents"]
        return next(agent for agent in agents if agent["id"] == agent_id)

    def agents_folder(self, project_id: int) -> Path:
        """A configuration project's .gitlab/agents."""
        return self.folder / f"project-{project_id}" / ".gitlab/agents"

    def _holder(self, agent: str) -> int:
        found: int = next(a["project_id"] for a in self.instance["agents"] if a["name"] == agent)
        return found


def run(*arguments: str) -> Any:
    found = CliRunner().invoke(app, list(arguments))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found
