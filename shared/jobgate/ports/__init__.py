"""What the flows need from outside. Adapters and fakes inherit their protocol explicitly.

Every method may raise `Unavailable`: the outside system didn't answer. Absent is None or an empty
collection, and never stands for "couldn't be asked".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from jobgate.core.issuer import Issuer
    from jobgate.core.keys import PublicKey


Clock = Callable[[], float]
"""Seconds since the epoch."""


class Recorder(Protocol):
    """Where the records go, one line each."""

    def __call__(self, line: str, /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The deployment's settings.

    `base_url` has no closing slash and is None before the first set-up; `ca` is the PEM text of a
    private authority for it, None where its certificate is publicly trusted. `not_before` (epoch
    seconds): no token that was issued earlier is good, since nobody knows what became of its job;
    None: any may be.
    """

    base_url: str | None
    ca: str | None
    issuers: Mapping[str, Issuer]  # by alias
    keys: tuple[PublicKey, ...]
    not_before: int | None
    roots: frozenset[tuple[str, str]]  # (alias, lower-cased root path) of configuration projects


class DeploymentStore(Protocol):
    """The items that only the operators' command writes, and the known roots."""

    def deployment(self) -> Deployment: ...
