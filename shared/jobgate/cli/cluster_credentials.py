"""The credentials of an agent as an operator names them: files, or identities of AWS's for EKS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobgate.cli import inputs
from jobgate.core.agent import EKSCredential
from jobgate.core.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

    from jobgate.cli.inputs import CredentialFile

# Amazon EKS, CreateCluster: the name's form. A region's is the endpoints'.
_EKS = re.compile(r"([a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2})/([0-9A-Za-z][A-Za-z0-9_-]{0,99})")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}")


def relay_credential(
    file: Path | None, eks: str | None, role: str | None
) -> CredentialFile | EKSCredential:
    """What may impersonate: a file's, or the relay's own identity or `role` at an EKS cluster."""
    if (file is None) == (eks is None):
        raise InvalidRequest("Give either --credential-file or --eks.")
    if eks is not None:
        return _eks(eks, role, "--eks-role")
    if role is not None:
        raise InvalidRequest("--eks-role needs --eks.")
    return _file(file, "--credential-file")


def agent_credential(
    file: Path | None, eks: str | None, role: str | None
) -> CredentialFile | EKSCredential | None:
    """The agent's own rights, None without any. At EKS they're a role's, never the relay's own."""
    if role is None:
        return None if file is None else _file(file, "--agent-credential-file")
    if file is not None:
        raise InvalidRequest("Give either --agent-credential-file or --agent-eks-role.")
    if eks is None:
        raise InvalidRequest("--agent-eks-role needs --eks.")
    return _eks(eks, role, "--agent-eks-role")


def _eks(eks: str, role: str | None, option: str) -> EKSCredential:
    found = _EKS.fullmatch(eks)
    if found is None:
        raise InvalidRequest("--eks is REGION/CLUSTER, such as eu-central-1/production.")
    if role is not None and not _ROLE.fullmatch(role):
        raise InvalidRequest(f"{option} is a role's ARN, such as arn:aws:iam::123456789012:role/x.")
    return EKSCredential(cluster=found[2], region=found[1], role_arn=role)


def _file(path: Path | None, option: str) -> CredentialFile:
    if path is None:
        raise InvalidRequest(f"{option} is missing.")
    return inputs.credential(inputs.read_file(path, option), option)
