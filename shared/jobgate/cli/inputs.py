"""What an operator may give: the forms of names, URLs, certificates and credential files.

Pure, apart from `read_file`. A bad input raises InvalidRequest with a sentence that names the
option and the fault, and never repeats the content of a file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from jobgate.core.errors import InvalidRequest
from jobgate.core.issuer import ALIAS_FORM

if TYPE_CHECKING:
    from pathlib import Path

# GitLab, agent names, and Kubernetes, namespaces: an RFC 1123 label.
_AGENT_NAME_FORM = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_AGENT_NAME_MAX = 63
_HOST_NAME_MAX = 253
_HOST_NAME_FORM = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.(?!$)|$))+")
# RFC 6750, 2.1.
_BEARER_FORM = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# A value in Secrets Manager holds 65,536 bytes.
_FILE_MAX_BYTES = 60_000
_AUDIENCE_MAX = 255

FIRST_OWN_ID = 1_000_000_001
"""Agent ids from here on are Jobgate's own; those below are GitLab's."""


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """A cluster credential as given: its kind, and the JSON object that is stored as its secret."""

    kind: Literal["token", "cert"]
    value: dict[str, str] = field(repr=False)


def read_file(path: Path, option: str, *, max_bytes: int = _FILE_MAX_BYTES) -> str:
    """A UTF-8 text file of `max_bytes` at most."""
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as exc:
        raise InvalidRequest(f"{option}: {path} can't be read: {exc.strerror}.") from exc
    if len(content) > max_bytes:
        raise InvalidRequest(f"{option}: {path} is larger than {max_bytes} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{option}: {path} isn't UTF-8 text.") from exc


def alias(text: str) -> str:
    """An issuer's alias."""
    if not ALIAS_FORM.fullmatch(text):
        raise InvalidRequest("An alias is 1 to 20 of a-z, 0-9 and '-'.")
    return text


def agent_name(text: str) -> str:
    """An agent's name, which is its folder's name below .gitlab/agents."""
    if len(text) > _AGENT_NAME_MAX or not _AGENT_NAME_FORM.fullmatch(text):
        raise InvalidRequest(
            "An agent's name is 1 to 63 of a-z, 0-9 and '-', and neither begins nor ends with '-'."
        )
    return text


def namespace(text: str, option: str) -> str:
    """A Kubernetes namespace's name."""
    if not _AGENT_NAME_FORM.fullmatch(text):
        raise InvalidRequest(f"{option} is 1 to 63 of a-z, 0-9 and '-', as a namespace's name is.")
    return text


def taken_over_id(number: int) -> int:
    """The id of one of GitLab's own agents."""
    if not 0 < number < FIRST_OWN_ID:
        raise InvalidRequest(f"--id takes over an id of GitLab's: from 1, below {FIRST_OWN_ID}.")
    return number


def https_url(text: str, option: str) -> str:
    """An https URL without a closing slash."""
    try:
        parts = urlsplit(text)
        port_is_good = parts.port != 0
    except ValueError as exc:
        raise InvalidRequest(f"{option} isn't a URL.") from exc
    extra = (parts.username, parts.password, parts.query, parts.fragment)
    is_clean = text.isascii() and text.isprintable() and " " not in text and "?" not in text
    if not (text.startswith("https://") and parts.hostname and port_is_good and is_clean):
        raise InvalidRequest(f"{option} must be an https:// URL with a host.")
    if any(part is not None and part != "" for part in extra):
        raise InvalidRequest(f"{option} may hold no user, query or fragment.")
    return text.rstrip("/")


def host_name(text: str) -> str:
    """A DNS name, as a certificate holds it (RFC 1123, 2.1)."""
    if len(text) > _HOST_NAME_MAX or not _HOST_NAME_FORM.fullmatch(text):
        raise InvalidRequest("--tls-server-name must be a DNS name.")
    return text


def audience(text: str, *, instance_urls: tuple[str, ...]) -> str:
    """What a job's ID token must be made for.

    Never the instance's own URL: GitLab's older default tokens carry that, and every other service
    that trusts the instance may ask for it.
    """
    if not text or len(text) > _AUDIENCE_MAX or not text.isprintable() or " " in text:
        raise InvalidRequest("--audience is 1 to 255 printable characters without a space.")
    if _comparable(text) in {_comparable(url) for url in instance_urls}:
        raise InvalidRequest("--audience may not be the GitLab instance's own URL.")
    return text


def certificate_authority(pem: str, option: str) -> str:
    """One or more CA certificates as PEM, without anything else that is secret."""
    if "PRIVATE KEY" in pem:
        raise InvalidRequest(f"{option}: the file holds a private key; give the certificate alone.")
    _certificates(pem, option)
    return pem.strip() + "\n"


def bearer_token(text: str, option: str) -> str:
    """A token on one line, in the form that an Authorization header can carry."""
    token = text.strip()
    if not _BEARER_FORM.fullmatch(token):
        raise InvalidRequest(f"{option}: the file doesn't hold one bearer token.")
    return token


def credential(text: str, option: str) -> CredentialFile:
    """A cluster credential: a bearer token, a certificate with its key as PEM, or JSON.

    JSON is `{"token": …}`, `{"certificate": …, "key": …}`, or what `kubectl create token -o json`
    prints (`status.token`).
    """
    stripped = text.strip()
    if stripped.startswith("{"):
        return _credential_of_json(stripped, option)
    if "-----BEGIN" in stripped:
        return _certificate_and_key(stripped, stripped, option)
    return CredentialFile("token", {"token": bearer_token(stripped, option)})


def _credential_of_json(text: str, option: str) -> CredentialFile:
    try:
        value: Any = json.loads(text)
    except ValueError as exc:
        raise InvalidRequest(f"{option}: the file isn't good JSON.") from exc
    match value:
        case {"token": str(token)} | {"status": {"token": str(token)}}:
            return CredentialFile("token", {"token": bearer_token(token, option)})
        case {"certificate": str(certificate), "key": str(key)}:
            return _certificate_and_key(certificate, key, option)
        case _:
            raise InvalidRequest(f"{option}: the JSON holds neither a token nor a certificate.")


def _certificate_and_key(certificate: str, key: str, option: str) -> CredentialFile:
    certificates = _certificates(certificate, option)
    try:
        private = serialization.load_pem_private_key(_private_key(key).encode(), password=None)
    except (ValueError, TypeError) as exc:
        raise InvalidRequest(f"{option}: no unencrypted private key as PEM is in it.") from exc
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*spki) != certificates[0].public_key().public_bytes(*spki):
        raise InvalidRequest(f"{option}: the private key isn't the first certificate's.")
    chain = "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in certificates)
    return CredentialFile("cert", {"certificate": chain, "key": _private_key(key)})


def _certificates(pem: str, option: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as exc:
        raise InvalidRequest(f"{option}: the file holds no certificate as PEM.") from exc


def _private_key(pem: str) -> str:
    found = re.search(
        r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", pem, flags=re.DOTALL
    )
    if found is None:
        raise ValueError("no private key")
    return found.group(0) + "\n"


def _comparable(url: str) -> str:
    return url.rstrip("/").lower().removeprefix("https://").removeprefix("http://")
