"""Runs a job's lines as GitLab's runner does with a shell executor."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_SECONDS = 120


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """A text with each `$NAME` and `${NAME}` replaced, and what those hold replaced too."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        others = {key: held for key, held in variables.items() if key != name}
        return expanded(variables[name], others) if name in variables else ""

    return _VARIABLE.sub(value, text)


@dataclass(slots=True)
class Runner:
    """One shell for a job's before_script and script, another for its after_script.

    A job's own variables stand above `environment` and below `settings`, which are those of the
    project's page. `files` are variables of type file: written anew for each shell, each into the
    temporary folder beside the project's, readable by all (gitlab-runner, shells/bash.go).
    `checkout` is what a job without `GIT_STRATEGY: none` finds.
    """

    folder: Path
    shell: tuple[str, ...] = ("sh",)
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    checkout: Path | None = None
    name: str = "project"

    @property
    def project(self) -> Path:
        """The job's CI_PROJECT_DIR."""
        return self.folder / "builds" / self.name

    def variables(self, found: Mapping[str, Any]) -> dict[str, str]:
        """All that a job's shell has in its environment."""
        known = {"CI_PROJECT_DIR": str(self.project), "CI_JOB_ID": "42", **self.environment}
        known |= {name: str(self._temporary / name) for name in self.files}
        known |= {name: str(value) for name, value in found.get("variables", {}).items()}
        known |= self.settings
        return {name: expanded(value, known) for name, value in known.items()}

    def run(self, found: Mapping[str, Any], *, part: str = "script") -> tuple[int, str]:
        """Exit code and output of before_script with script, or of after_script."""
        lines = found["before_script"] + found["script"] if part == "script" else found[part]
        variables = self.variables(found)
        if part == "script":
            self._check_out(variables)
        for name, content in self.files.items():
            self._temporary.mkdir(exist_ok=True)
            (self._temporary / name).write_text(content)
        return self.line("\n".join(lines), variables)

    def line(self, text: str, variables: Mapping[str, str]) -> tuple[int, str]:
        """Exit code and output of a line of shell, in the job's place."""
        done = subprocess.run(
            [*self.shell, "-e", "-c", text],
            env=dict(variables),
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def _temporary(self) -> Path:
        return self.project.with_name(f"{self.name}.tmp")

    def _check_out(self, variables: Mapping[str, str]) -> None:
        self.project.mkdir(parents=True, exist_ok=True)
        if self.checkout is not None and variables.get("GIT_STRATEGY") != "none":
            shutil.copytree(self.checkout, self.project, dirs_exist_ok=True)
