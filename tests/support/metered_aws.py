"""AWS in memory that counts what AWS would charge and limit: DynamoDB's units, and calls.

Units are those of on-demand tables (AWS, "DynamoDB read and write operations"): a read for each
started 4 KB of an item, half of it where the read isn't consistent, a write for each started 1 KB,
twice as much in a transaction. A condition that fails costs what the write would have.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jobgate.adapters.aws_api import AWSError
from moto.dynamodb.comparisons import create_condition_expression_parser
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.dynamo_type import Item as MotoItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jobgate.adapters.items import Item

_READ_BYTES, _WRITE_BYTES = 4096, 1024
_SIGNATURE = encode_dss_signature(2**255 - 1, 2**255 - 3)
_CLAUSE = re.compile(r"\b(SET|REMOVE|ADD|DELETE)\b")


@dataclass
class Usage:
    """What was used; `calls` by service and operation, `of` by the partition's kind."""

    reads: float = 0
    writes: float = 0
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)

    def named(self, operation: str) -> int:
        """How often this operation was called."""
        return sum(count for (_, name), count in self.calls.items() if name == operation)


class MeteredAWS:
    """An AWSCall. `used` is what was used since it was last replaced.

    `by_partition` holds the read and write units of each partition key and second of `clock`.
    """

    def __init__(self, table: str, *, clock: Callable[[], float]) -> None:
        self.table = table
        self.used = Usage()
        self.by_partition: dict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.secrets: dict[str, object] = {}
        self._clock = clock
        self._partitions: dict[str, dict[str, Item]] = defaultdict(dict)

    def start(self) -> Usage:
        """Count from nought; the usage that counts from now on."""
        self.used = Usage()
        return self.used

    def store(self, stored: Iterable[Item]) -> None:
        """Put items in without counting."""
        for item in stored:
            self._partitions[item["pk"]["S"]][item["sk"]["S"]] = item

    def item(self, key: Item) -> Item | None:
        """What is there, without counting."""
        return self._partitions.get(key["pk"]["S"], {}).get(key["sk"]["S"])

    def __call__(self, service: str, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.used.calls[service, operation] += 1
        answer: dict[str, Any] = getattr(self, f"_{operation}")(request)
        return answer

    # --- DynamoDB ---

    def _GetItem(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        item = self.item(request["Key"])
        self._read(request["Key"], size(item or {}), consistent=request.get("ConsistentRead"))
        return {} if item is None else {"Item": item}

    def _BatchGetItem(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        asked = request["RequestItems"][self.table]
        found = []
        for key in asked["Keys"]:
            item = self.item(key)
            self._read(key, size(item or {}), consistent=asked.get("ConsistentRead"))
            found += [] if item is None else [item]
        return {"Responses": {self.table: found}}

    def _Query(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        pk = request["ExpressionAttributeValues"][":pk"]
        found = list(self._partitions.get(pk["S"], {}).values())
        # One page: what a page holds doesn't change the units.
        self._read({"pk": pk}, sum(map(size, found)), consistent=request.get("ConsistentRead"))
        return {"Items": found}

    def _PutItem(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        before = self.item(request["Item"])
        self._write(before, request["Item"])
        self._check(before, request)
        self.store([request["Item"]])
        return {}

    def _UpdateItem(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        before = self.item(request["Key"])
        after = _updated(before or dict(request["Key"]), request)
        self._write(before, after)
        self._check(before, request)
        self.store([after])
        return {}

    def _TransactWriteItems(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        actions = [next(iter(each.items())) for each in request["TransactItems"]]
        for kind, action in actions:
            key = action.get("Key") or action["Item"]
            before = self.item(key)
            self._write(before, action.get("Item", before or {}), times=2, key=key)
            self._check(before, action)
            assert kind in ("Put", "ConditionCheck")
        self.store(action["Item"] for kind, action in actions if kind == "Put")
        return {}

    def _DescribeTable(self, _request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        return {"Table": {"TableId": "live"}}

    def _check(self, item: Item | None, request: Mapping[str, Any]) -> None:
        expression = request.get("ConditionExpression")
        if expression is None:
            return
        parser = create_condition_expression_parser(
            expression,
            request.get("ExpressionAttributeNames"),
            request.get("ExpressionAttributeValues"),
        )
        if not parser.parse().expr(_moto(item or {})):
            raise AWSError("ConditionalCheckFailedException")

    def _read(self, key: Item, size_bytes: int, *, consistent: object) -> None:
        units = max(1, math.ceil(size_bytes / _READ_BYTES)) * (1.0 if consistent else 0.5)
        self.used.reads += units
        self.by_partition[key["pk"]["S"], int(self._clock())][0] += units

    def _write(
        self, before: Item | None, after: Item, *, times: int = 1, key: Item | None = None
    ) -> None:
        largest = max(size(before or {}), size(after))
        units = max(1, math.ceil(largest / _WRITE_BYTES)) * times
        self.used.writes += units
        self.by_partition[(key or after)["pk"]["S"], int(self._clock())][1] += units

    # --- The others ---

    def _Sign(self, _request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        return {"Signature": _SIGNATURE}

    def _GetSecretValue(self, request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        return {"SecretString": json.dumps(self.secrets[request["SecretId"]])}

    def _SendMessage(self, _request: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N802  AWS's name
        return {}


def size(item: Item) -> int:
    """An item's bytes (AWS, "DynamoDB item sizes and formats")."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    sizes: dict[str, Callable[[Any], int]] = {
        "S": lambda text: len(text.encode()),
        "B": len,
        "N": lambda number: len(number.lstrip("-")) // 2 + 2,
        "M": lambda map_: 3 + sum(len(n.encode()) + 1 + _size(v) for n, v in map_.items()),
        "L": lambda list_: 3 + sum(1 + _size(v) for v in list_),
        "SS": lambda texts: sum(len(each.encode()) for each in texts),
        "NS": lambda numbers: sum(len(each) for each in numbers),
    }
    return sizes[kind](content) if kind in sizes else 1


def _moto(item: Item) -> MotoItem:
    key = DynamoType(item.get("pk", {"S": ""}))
    return MotoItem(key, None, dict(item))


def _updated(item: Item, request: Mapping[str, Any]) -> Item:
    """What an update leaves; of its language what Jobgate uses."""
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    after = dict(item)
    parts = _CLAUSE.split(request["UpdateExpression"])[1:]
    for verb, clause in zip(parts[::2], parts[1::2], strict=True):
        for change in re.split(r",\s*(?![^(]*\))", clause.strip()):
            name, _, rest = change.strip().partition(" ")
            target = names.get(name, name)
            if verb == "REMOVE":
                after.pop(target, None)
            elif verb == "ADD":
                after[target] = _added(after.get(target), values[rest.strip()])
            elif verb == "DELETE":
                after[target] = _taken(after[target], values[rest.strip()])
            elif rest.startswith("= if_not_exists("):
                value = rest.rstrip(")").rpartition(",")[2].strip()
                after.setdefault(target, values[value])
            else:
                after[target] = values[rest.removeprefix("=").strip()]
    return after


def _added(before: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    ((kind, content),) = more.items()
    if kind == "N":
        return {"N": str(int((before or {"N": "0"})["N"]) + int(content))}
    return {kind: sorted({*(before or {kind: []})[kind], *content})}


def _taken(before: Mapping[str, Any], less: Mapping[str, Any]) -> dict[str, Any]:
    ((kind, content),) = before.items()
    return {kind: sorted({*content} - {*less[kind]})}
