"""What integration tests share: a table in moto, and a certificate authority of one module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from moto import mock_aws

from local.aws.emulator import REGION
from local.certificates import CertificateAuthority
from tests.support.stores import boto_call, create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.adapters.aws_api import AWSCall


@pytest.fixture
def call() -> Iterator[AWSCall]:
    """Calls to AWS that meet an empty table of Jobgate's."""
    with mock_aws():
        made = boto_call({"AWS_DEFAULT_REGION": REGION})
        create_table(made)
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("ca"))
