"""What the operators' command has written of the deployment as a whole, and for which table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSettings:
    """The settings; `base_url` has no closing slash, `ca` is the PEM text of a private authority.

    `table_id` is DynamoDB's own id of the table that they were written for. A table that is made
    from a backup has another one, though it holds the same items. None: written before an id was.
    `not_before` (epoch seconds): no token that was issued earlier is good; None: any may be.
    `ids_above`: no new agent's id is this one or smaller.
    """

    base_url: str
    ca: str | None = None
    table_id: str | None = None
    not_before: int | None = None
    ids_above: int | None = None
