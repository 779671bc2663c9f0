"""Reads a pipeline's YAML as GitLab does: includes, inputs, defaults, extends, references.

https://docs.gitlab.com/ci/yaml/, as far as components and the examples use it; what isn't known
here raises PipelineError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

_INPUT = re.compile(r"\$\[\[ inputs\.([a-z_]+) \]\]")
_SCRIPTS = ("before_script", "script", "after_script")
# What `default` may hold and a job then takes where it has none of its own.
_DEFAULTS = frozenset({"image", "before_script", "after_script", "id_tokens", "retry", "tags"})
_GLOBAL = frozenset({"include", "default", "variables", "stages", "workflow"})


COMPONENT = "$CI_SERVER_FQDN/acme/jobgate/kubernetes-access"
"""The address of this project's own component, as docs/pipeline.md includes it."""

TEMPLATE = Path(__file__).parents[1] / "templates" / "kubernetes-access" / "template.yml"


class _Loader(yaml.SafeLoader):
    """YAML with GitLab's `!reference`."""


def _reference(loader: _Loader, node: yaml.SequenceNode) -> Reference:
    return Reference(tuple(loader.construct_sequence(node)))


_Loader.add_constructor("!reference", _reference)


@dataclass(frozen=True, slots=True)
class Reference:
    """`!reference [job, key]`."""

    path: tuple[str, ...]


class PipelineError(Exception):
    """A configuration that GitLab refuses, or that isn't known here."""


class InputError(PipelineError):
    """An input that GitLab refuses."""


@dataclass(frozen=True, slots=True)
class Component:
    """A component's template, and the inputs that replace those of whoever includes it."""

    template: Path
    inputs: Mapping[str, Any]


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


def job(below: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The one job of a pipeline's YAML, above what it includes."""
    (found,) = jobs(_merged(dict(below), yaml.load(text, Loader=_Loader))).values()  # noqa: S506  a safe one
    return found


def read(path: Path, known: Mapping[str, Component]) -> dict[str, dict[str, Any]]:
    """The jobs of a pipeline's file; `known` are components by their address without a version."""
    return jobs(_included(path, known))


def jobs(configuration: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each job that isn't hidden, with its defaults and all that it extends and refers to."""
    extended = {name: _extended(configuration, name) for name in configuration.keys() - _GLOBAL}
    whole = {**configuration, **extended}
    return {
        name: _inheriting(configuration, _resolved(whole, extended[name]))
        for name in configuration
        if name in extended and not name.startswith(".")
    }


def _included(path: Path, known: Mapping[str, Component]) -> dict[str, Any]:
    """A file's configuration above those that it includes."""
    own = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  a safe one
    below: dict[str, Any] = {}
    includes = own.pop("include", [])
    for entry in includes if isinstance(includes, list) else [includes]:
        match entry:
            case {"component": str(address)}:
                found = known[address.partition("@")[0]]
                inputs = {**entry.get("inputs", {}), **found.inputs}
                below = _merged(below, component(found.template, inputs))
            case {"local": str(local)}:
                below = _merged(below, _included(path.parent / local.lstrip("/"), known))
            case _:
                raise PipelineError(f"include {entry}")
    return _merged(below, own)


def _filled(value: Any, inputs: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_filled(k, inputs): _filled(v, inputs) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, inputs) for v in value]
    if isinstance(value, str):
        return _INPUT.sub(lambda found: str(inputs[found[1]]), value)
    return value


def _extended(configuration: Mapping[str, Any], name: str) -> Any:
    if not isinstance(configuration[name], dict):
        return configuration[name]
    own = dict(configuration[name])
    bases = own.pop("extends", [])
    below: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        if base not in configuration:
            raise PipelineError(f"{name} extends {base}, which isn't there")
        below = _merged(below, _extended(configuration, base))
    return _merged(below, own)


def _resolved(whole: Mapping[str, Any], value: Any) -> Any:
    """A value without references; a script's nested lists become one."""
    if isinstance(value, Reference):
        found: Any = whole
        for key in value.path:
            if key not in found:
                raise PipelineError(f"!reference {list(value.path)} could not be found")
            found = found[key]
        return _resolved(whole, found)
    if isinstance(value, dict):
        filled = {key: _resolved(whole, inner) for key, inner in value.items()}
        return {k: _flat(v) if k in _SCRIPTS else v for k, v in filled.items()}
    if isinstance(value, list):
        return [_resolved(whole, inner) for inner in value]
    return value


def _flat(lines: Any) -> list[str]:
    if isinstance(lines, list):
        return [line for inner in lines for line in _flat(inner)]
    return [lines]


def _inheriting(configuration: Mapping[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    defaults = configuration.get("default", {})
    if unknown := defaults.keys() - _DEFAULTS:
        raise PipelineError(f"default {sorted(unknown)}")
    inherited = {**_resolved(configuration, defaults), **found}
    variables = {**configuration.get("variables", {}), **found.get("variables", {})}
    empty: dict[str, list[str]] = {key: [] for key in _SCRIPTS}
    return {**empty, **inherited, "variables": variables}


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """GitLab's deep merge: hashes by key, everything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
