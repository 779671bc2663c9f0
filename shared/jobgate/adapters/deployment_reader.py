"""What the deployment says of itself: issuers, public keys, base URL, known roots.

A table that was made from a backup holds ended jobs as running, lifted stops, and agents that were
removed. DynamoDB gives it an id of its own, so that it isn't the one that its settings name; then
nothing is decided on it until an operator has reconciled it (ADR 21).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobgate.adapters import agent_items, items, operator_items
from jobgate.adapters.aws_api import AWSError
from jobgate.adapters.partition import items_of_partition
from jobgate.core.errors import Unavailable
from jobgate.ports import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall
    from jobgate.core.bounds import Bounds
    from jobgate.core.public_settings import PublicSettings
    from jobgate.ports import Clock


class DeploymentReader:
    """Reads the deployment's items, and again every ISSUERS_MAX_AGE. Call it to have them.

    Raises Unavailable where they can't be read again in time: an issuer that was removed meanwhile
    must not go on being trusted; read consistently, so that ISSUERS_MAX_AGE is all of the delay.
    The same for a table that was restored and isn't reconciled; a function that decides nothing
    goes on with it (`decides`), for it is what reconciles it.
    """

    def __init__(
        self, call: AWSCall, table: str, *, bounds: Bounds, clock: Clock, decides: bool = True
    ) -> None:
        self._call = call
        self._table = table
        self._bounds = bounds
        self._clock = clock
        self._decides = decides
        self._read: tuple[float, Deployment] | None = None

    def __call__(self) -> Deployment:
        """The deployment, no older than ISSUERS_MAX_AGE."""
        now = self._clock()
        # Read in the future means that the clock was set back: that isn't young.
        if self._read is None or not 0 <= now - self._read[0] <= self._bounds.issuers_max_age:
            self._read = now, self._deployment()
        return self._read[1]

    def _deployment(self) -> Deployment:
        try:
            settings = self._settings()
            issuers = [operator_items.issuer_of(item) for item in self._query("ISSUERS")]
            # The one long list, and no harm where a root is known, or still known, a moment late.
            found = self._query("CONFIG_PROJECTS", consistent=False)
            projects = [agent_items.config_project_of(item) for item in found]
            return Deployment(
                base_url=None if settings is None else settings.base_url,
                ca=None if settings is None else settings.ca,
                not_before=None if settings is None else settings.not_before,
                issuers={issuer.alias: issuer for issuer in issuers},
                keys=tuple(operator_items.public_key_of(item) for item in self._query("KEYS")),
                roots=frozenset(
                    (project.issuer, project.root_path)
                    for project in projects
                    if project is not None and project.root_path is not None
                ),
            )
        except AWSError as exc:
            raise Unavailable(f"the deployment's items can't be read: {exc.code}") from exc

    def _settings(self) -> PublicSettings | None:
        request = {
            "TableName": self._table,
            "Key": operator_items.SETTINGS_KEY,
            "ConsistentRead": True,
        }
        found = self._call("dynamodb", "GetItem", request)
        settings = operator_items.settings_of(found.get("Item"))
        if self._decides and settings is not None and settings.table_id is not None:
            self._check_is_live(settings.table_id)
        return settings

    def _check_is_live(self, table_id: str) -> None:
        table = self._call("dynamodb", "DescribeTable", {"TableName": self._table})["Table"]
        if table.get("TableId") != table_id:
            raise Unavailable("the table was restored: it denies all until `jobgate reconcile`")

    def _query(self, partition: str, *, consistent: bool = True) -> Iterator[items.Item]:
        def query(request: dict[str, Any]) -> dict[str, Any]:
            return self._call("dynamodb", "Query", {"TableName": self._table, **request})

        return items_of_partition(query, partition, consistent=consistent)
