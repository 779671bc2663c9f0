"""What CloudFormation makes of a translated template: its conditions, choices and parameters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.sam_template import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NO_VALUE = {"Ref": "AWS::NoValue"}


def resources(template: Mapping[str, Any]) -> dict[str, Any]:
    """The resources whose condition holds, with every choice made and every parameter put in.

    Parameters have the values that they have as defaults, as `sam_template.translate` leaves them.
    What only a deployment knows, such as another resource's ARN, stays as it is written.
    """
    return {
        name: evaluated(resource, template)
        for name, resource in template["Resources"].items()
        if holds(resource.get("Condition"), template)
    }


def holds(name: str | None, template: Mapping[str, Any]) -> bool:
    """Whether the condition `name` is true; no name is no condition."""
    return name is None or bool(evaluated(template["Conditions"][name], template))


def evaluated(value: Any, template: Mapping[str, Any]) -> Any:
    """`value` with its functions done; properties that come to nothing are left out."""
    if isinstance(value, list):
        items = (evaluated(item, template) for item in value)
        return [item for item in items if item != NO_VALUE]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, argument),) = value.items()
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](argument, template)
    done = {key: evaluated(item, template) for key, item in value.items()}
    return {key: item for key, item in done.items() if item != NO_VALUE}


def _ref(name: str, template: Mapping[str, Any]) -> Any:
    parameter = template.get("Parameters", {}).get(name)
    if parameter is None:
        return {"Ref": name}
    default = parameter["Default"]
    if parameter["Type"] == "CommaDelimitedList":
        return str(default).split(",")
    return default


def _if(argument: list[Any], template: Mapping[str, Any]) -> Any:
    condition, yes, no = argument
    return evaluated(yes if holds(condition, template) else no, template)


def _equals(argument: list[Any], template: Mapping[str, Any]) -> bool:
    left, right = (str(evaluated(item, template)) for item in argument)
    return left == right


def _join(argument: list[Any], template: Mapping[str, Any]) -> Any:
    separator, items = argument[0], evaluated(argument[1], template)
    known = isinstance(items, list) and all(isinstance(item, str) for item in items)
    return separator.join(items) if known else {"Fn::Join": [separator, items]}


def _split(argument: list[Any], template: Mapping[str, Any]) -> Any:
    text = evaluated(argument[1], template)
    return text.split(argument[0]) if isinstance(text, str) else {"Fn::Split": argument}


def _find_in_map(argument: list[Any], template: Mapping[str, Any]) -> Any:
    name, first, second = evaluated(argument, template)
    return template["Mappings"][name][first][second]


_FUNCTIONS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "Ref": _ref,
    "Fn::FindInMap": _find_in_map,
    "Fn::If": _if,
    "Fn::Equals": _equals,
    "Fn::Not": lambda argument, template: not evaluated(argument[0], template),
    "Fn::And": lambda argument, template: all(evaluated(argument, template)),
    "Fn::Or": lambda argument, template: any(evaluated(argument, template)),
    "Fn::Join": _join,
    "Fn::Split": _split,
}


if __name__ == "__main__":
    translated = translate(Path(sys.argv[1]), {})
    deployed = {**translated, "Resources": resources(translated)}
    # Everything is decided by now, and a name without a use would be a finding.
    print(json.dumps({key: deployed[key] for key in ("AWSTemplateFormatVersion", "Resources")}))
