"""Whether a role allows a request: IAM's rules as far as the template's policies use them.

ministack judges actions and resources; this judges conditions too, `dynamodb:LeadingKeys` above
all. A part of a policy that it doesn't know raises ValueError, so that no new one passes unjudged.
IAM, "Policy evaluation logic" and "Condition operators".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LEADING_KEYS = "dynamodb:LeadingKeys"
_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}


@dataclass(frozen=True, slots=True)
class Request:
    """One call as IAM sees it; `context` holds the condition keys that it has, each with values."""

    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statement:
    """A policy's statement. `conditions` are (operator, key, values)."""

    sid: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    @classmethod
    def parse(cls, element: Mapping[str, Any]) -> Statement:
        """The statement of a policy document; raises ValueError for an element of another kind."""
        if unknown := element.keys() - _ELEMENTS:
            raise ValueError(f"a statement with {sorted(unknown)}")
        conditions = tuple(
            (operator, key, tuple(map(text, listed(values))))
            for operator, keys in element.get("Condition", {}).items()
            for key, values in keys.items()
        )
        return cls(
            element["Sid"],
            element["Effect"],
            tuple(listed(element["Action"])),
            tuple(text(resource) for resource in listed(element["Resource"])),
            conditions,
        )

    def matches(self, request: Request) -> bool:
        """Whether it is about this request."""
        return (
            any(_like(request.action.lower(), action.lower()) for action in self.actions)
            and any(_like(request.resource, resource) for resource in self.resources)
            and all(_holds(*condition, request) for condition in self.conditions)
        )

    def unconditional(self) -> Statement:
        """The same without conditions, as ministack judges it."""
        return replace(self, conditions=())

    def parts(self) -> Iterator[tuple[str, Statement]]:
        """Each action, resource and condition's value that it could do without, by its own text."""
        for action in self.actions:
            yield action, replace(self, actions=_without(self.actions, action))
        for resource in self.resources:
            yield resource, replace(self, resources=_without(self.resources, resource))
        for place, (operator, key, values) in enumerate(self.conditions):
            for value in values:
                changed = list(self.conditions)
                changed[place] = operator, key, _without(values, value)
                yield value, replace(self, conditions=tuple(changed))


def allows(statements: Sequence[Statement], request: Request) -> bool:
    """Whether a role with these statements may: one allows, and none denies."""
    effects = {statement.effect for statement in statements if statement.matches(request)}
    if unknown := effects - {"Allow", "Deny"}:
        raise ValueError(f"an effect {sorted(unknown)}")
    return effects == {"Allow"}


def statements_of(resources: Mapping[str, Any], role: str) -> tuple[Statement, ...]:
    """All that a role of the template says, by policies of its own or attached to it."""
    documents = [
        policy["PolicyDocument"] for policy in resources[role]["Properties"].get("Policies", [])
    ]
    documents += [
        resource["Properties"]["PolicyDocument"]
        for resource in resources.values()
        if resource["Type"] == "AWS::IAM::Policy"
        and {"Ref": role} in resource["Properties"]["Roles"]
    ]
    return tuple(
        Statement.parse(element)
        for document in documents
        for element in listed(document["Statement"])
    )


def text(value: Any) -> str:
    """A resource as it is written: `${Table.Arn}` for what only a deployment knows."""
    match value:
        case str():
            return value
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Sub": str(template)}:
            return template
        case {"Ref": str(name)}:
            return f"${{{name}}}"
    raise ValueError(f"a value that can't be judged: {value}")


def listed(value: Any) -> list[Any]:
    """IAM takes one value for a list of one."""
    return value if isinstance(value, list) else [value]


def _without(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    return tuple(each for each in values if each != value)


def _holds(operator: str, key: str, expected: tuple[str, ...], request: Request) -> bool:
    actual = request.context.get(key)
    match operator:
        case "ForAllValues:StringLike":
            # As IAM has it, a request without the key meets this.
            return all(any(_like(value, each) for each in expected) for value in actual or ())
        case "StringEquals":
            return actual is not None and actual[0] in expected
        case "ArnLike":
            return actual is not None and any(_like(actual[0], each) for each in expected)
    raise ValueError(f"an operator that isn't judged here: {operator}")


def _like(value: str, pattern: str) -> bool:
    """IAM's wildcards are `*` and `?` alone."""
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(escaped, value, re.DOTALL) is not None
