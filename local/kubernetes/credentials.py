"""Keys and tokens of one local cluster, made anew for each start and readable by its owner only."""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

# Each part has a user of its own, so that the audit log tells them apart.
USERS = ("admin", "kube-controller-manager", "fakelet")
_LIFE = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files that the cluster's programs are started with."""

    tokens: Path
    admin_token: str
    kubeconfigs: dict[str, Path]
    service_account_key: Path
    kubelet_client_certificate: Path
    kubelet_client_key: Path


def make_credentials(folder: Path, *, url: str, ca: Path) -> Credentials:
    """Write everything to `folder`; each user is an administrator (`system:masters`)."""
    tokens = {user: secrets.token_urlsafe(32) for user in USERS}
    rows = [f'{token},{user},{user},"system:masters"\n' for user, token in tokens.items()]
    made = Credentials(
        tokens=folder / "tokens.csv",
        admin_token=tokens["admin"],
        kubeconfigs={user: folder / f"{user}.kubeconfig" for user in USERS},
        service_account_key=folder / "service-account.key",
        kubelet_client_certificate=folder / "kubelet-client.crt",
        kubelet_client_key=folder / "kubelet-client.key",
    )
    _write_private(made.tokens, "".join(rows).encode())
    for user, path in made.kubeconfigs.items():
        content = kubeconfig(url=url, ca=ca, token=tokens[user])
        _write_private(path, json.dumps(content, indent=2).encode())
    _write_private(made.service_account_key, _pem(ec.generate_private_key(ec.SECP256R1())))
    _make_kubelet_client(made)
    return made


def kubeconfig(*, url: str, ca: Path, token: str) -> dict[str, object]:
    """A kubeconfig with one context, `local`; JSON is YAML."""
    authority = base64.b64encode(ca.read_bytes()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [
            {"name": "local", "cluster": {"server": url, "certificate-authority-data": authority}}
        ],
        "users": [{"name": "local", "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
    }


def _make_kubelet_client(made: Credentials) -> None:
    """What the API server shows to fakelet: self-signed, as fakelet trusts this one alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    now = dt.datetime.now(dt.UTC)  # noqa: TID251  certificates need the wall clock
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_private(
        made.kubelet_client_certificate, certificate.public_bytes(serialization.Encoding.PEM)
    )
    _write_private(made.kubelet_client_key, _pem(key))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,  # the API server reads no EC key in PKCS 8
        serialization.NoEncryption(),
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
