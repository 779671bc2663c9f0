"""What end-to-end tests share beside the stack: a cluster that keeps what it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.recorded_cluster import RecordedCluster, identity_of, recorded_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.installation import Installation
    from local.stack import Stack


@pytest.fixture(scope="session")
def recorded(stack: Stack, installation: Installation) -> Iterator[RecordedCluster]:
    """An agent whose cluster keeps every byte."""
    with recorded_cluster(stack, installation) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def identity(recorded: RecordedCluster, installation: Installation) -> list[bytes]:
    """The lines that say who the recorded cluster's job is."""
    return identity_of(recorded, installation)
