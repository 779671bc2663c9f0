"""A stack to be connected to a GitLab stand-in, which delivers to its webhook over HTTPS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.connected_stack import a_gitlab, a_stack, as_it_was
from tests.support.webhook_receiver import Receiver, webhook_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.certificates import CertificateAuthority
    from local.gitlab.control import Control
    from local.gitlab.server import GitLab
    from tests.support.operators_stack import OperatorsStack


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority
) -> Iterator[GitLab]:
    with a_gitlab(tmp_path_factory.mktemp("gitlab"), authority) as started:
        yield started


@pytest.fixture
def gitlab(server: GitLab) -> Iterator[Control]:
    with as_it_was(server) as control:
        yield control


@pytest.fixture
def receiver(authority: CertificateAuthority, tmp_path: Path) -> Iterator[Receiver]:
    with webhook_receiver(authority, tmp_path) as running:
        yield running


@pytest.fixture
def stack(
    server: GitLab, gitlab: Control, receiver: Receiver, tmp_path: Path
) -> Iterator[OperatorsStack]:
    with a_stack(server, receiver, tmp_path) as made:
        yield made
