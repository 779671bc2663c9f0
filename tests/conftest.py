"""What every test shares: how Hypothesis looks for counterexamples, and one running stack."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from local.installation import (
    Installation,
)
from local.kubernetes.progress import TerminalProgress
from local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

# Derandomized, so that a failure on one machine is a failure on every machine.
settings.register_profile(
    "gate",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gate")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack, started with the first test that asks for it."""
    folder = tmp_path_factory.mktemp("stack")
    progress = TerminalProgress(sys.stderr)
    # So often that every watch of a test gets some white space.
    parameters = {"StreamKeepaliveSeconds": "2"}
    with Stack.start(folder, progress=progress, parameters=parameters) as running:
        yield running


@pytest.fixture(scope="session")
def installation(stack: Stack) -> Installation:
    """The product installed on it as `make local` does, once its configuration counts."""
    installed = Installation.create(stack, namespace="shop", tell=lambda _command, _output: None)
    installed.grant()
    installed.configure()
    return installed
