"""Plays what GitLab does with a component and a job that extends it, and runs its script lines."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_INPUT = re.compile(r"\$\[\[ inputs\.([a-z_]+) \]\]")
_VARIABLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


class _Loader(yaml.SafeLoader):
    """YAML with GitLab's `!reference`."""


def _reference(loader: _Loader, node: yaml.SequenceNode) -> Reference:
    return Reference(tuple(loader.construct_sequence(node)))


_Loader.add_constructor("!reference", _reference)


@dataclass(frozen=True, slots=True)
class Reference:
    """`!reference [job, key]`."""

    path: tuple[str, ...]


class InputError(Exception):
    """An input that GitLab refuses."""


def component(path: Path, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A component's jobs with its inputs filled in (GitLab, "CI/CD inputs")."""
    header, body = yaml.load_all(path.read_text(), Loader=_Loader)
    values: dict[str, Any] = {}
    for name, spec in header["spec"]["inputs"].items():
        value = inputs.get(name, spec.get("default") if spec else None)
        if value is None:
            raise InputError(f"`{name}` input: required value has not been provided")
        if spec.get("type") == "boolean" and not isinstance(value, bool):
            raise InputError(f"`{name}` input: provided value is not a boolean")
        if "options" in spec and value not in spec["options"]:
            raise InputError(f"`{name}` input: `{value}` cannot be used")
        values[name] = str(value).lower() if isinstance(value, bool) else value
    if unknown := inputs.keys() - values.keys():
        raise InputError(f"unknown inputs {sorted(unknown)}")
    return dict(_filled(body, values))


def job(jobs: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The one job of a pipeline's YAML, with what it extends and refers to."""
    own = yaml.load(text, Loader=_Loader)
    (name,) = own
    return _resolved({**jobs, **own}, name)


def _filled(value: Any, inputs: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_filled(k, inputs): _filled(v, inputs) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, inputs) for v in value]
    if isinstance(value, str):
        return _INPUT.sub(lambda found: str(inputs[found[1]]), value)
    return value


def _resolved(jobs: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = dict(jobs[name])
    base = found.pop("extends", None)
    if base is not None:
        found = _merged(_resolved(jobs, base), found)
    for key in ("before_script", "script", "after_script"):
        lines: list[str] = []
        for line in found.get(key, []):
            if isinstance(line, Reference):
                lines += _resolved(jobs, line.path[0])[line.path[1]]
            else:
                lines.append(line)
        found[key] = lines
    return found


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """GitLab's deep merge: hashes by key, everything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


@dataclass(slots=True)
class Runner:
    """Runs a job's lines as a shell executor does: one shell for both, another for the last."""

    folder: Path
    shell: tuple[str, ...] = ("sh",)
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, found: Mapping[str, Any], *, part: str = "script") -> tuple[int, str]:
        """Exit code and output of before_script with script, or of after_script."""
        lines = found["before_script"] + found["script"] if part == "script" else found[part]
        project = self.folder / "builds" / "project"
        project.mkdir(parents=True, exist_ok=True)
        predefined = {"CI_PROJECT_DIR": str(project), "CI_JOB_ID": "42", **self.environment}
        variables = {
            name: _VARIABLE.sub(lambda m: predefined.get(m[1], ""), str(value))
            for name, value in found.get("variables", {}).items()
        }
        done = subprocess.run(
            [*self.shell, "-e", "-c", "\n".join(lines)],
            env=predefined | variables,
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout
