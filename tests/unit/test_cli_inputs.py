"""What an operator may give, and what is refused before anything is asked or written."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from jobgate.adapters.gitlab_hooks import hook_body
from jobgate.cli import inputs
from jobgate.cli.errors import Refused
from jobgate.cli.gitlab_setup import major_version
from jobgate.cli.hooks import hook_entry, new_secrets
from jobgate.cli.issuers import settled
from jobgate.core.cluster_credential import BearerToken, ClientCertificate, cluster_secret
from jobgate.core.errors import InvalidRequest, Unavailable
from jobgate.core.hook import HookScope
from jobgate.core.issuer import Issuer

if TYPE_CHECKING:
    from pathlib import Path

GITLAB = "https://gitlab.example.test"


def a_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: ec.EllipticCurvePrivateKey, *, password: bytes | None = None) -> str:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


def a_certificate(key: ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM).decode()


# --- Names ---


@pytest.mark.parametrize("name", ["a", "0", "prod-eu-1", "a" * 63])
def test_rfc_1123_label_is_an_agents_name(name: str) -> None:
    assert inputs.agent_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a" * 64, "a\n", "ä", "٣", "a b"]
)
def test_other_text_is_no_agents_name(name: str) -> None:
    with pytest.raises(InvalidRequest):
        inputs.agent_name(name)


@pytest.mark.parametrize("alias", ["", "A", "a" * 21, "a_b", "a.b", "a\n", "a#b", "ü"])
def test_alias_of_another_form_is_refused(alias: str) -> None:
    with pytest.raises(InvalidRequest):
        inputs.alias(alias)


@pytest.mark.parametrize("number", [0, -1, 1_000_000_001, 2**63])
def test_only_ids_below_our_own_are_taken_over(number: int) -> None:
    with pytest.raises(InvalidRequest):
        inputs.taken_over_id(number)


# --- URLs and audiences ---


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (GITLAB, GITLAB),
        (GITLAB + "/", GITLAB),
        ("https://x.test/gitlab/", "https://x.test/gitlab"),
        ("https://[::1]:6443", "https://[::1]:6443"),
    ],
)
def test_https_url_loses_its_closing_slash(given: str, kept: str) -> None:
    assert inputs.https_url(given, "--url") == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://x.test",
        "HTTPS://x.test",
        "x.test",
        "https://",
        "https:///path",
        "https://u@x.test",
        "https://u:p@x.test",
        "https://x.test?a=b",
        "https://x.test?",
        "https://x.test#a",
        "https://x.test:0",
        "https://x.test:99999",
        "https://[::1",
        "https://x.test/a b",
        "https://x.test\n",
        "https://exämple.test",
    ],
)
def test_other_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        inputs.https_url(url, "--url")


@pytest.mark.parametrize(
    "audience", [GITLAB, GITLAB + "/", "gitlab.example.test", "HTTPS://GitLab.example.test"]
)
def test_instances_own_url_is_no_audience(audience: str) -> None:
    with pytest.raises(InvalidRequest):
        inputs.audience(audience, instance_urls=(GITLAB, "https://internal.test"))


@pytest.mark.parametrize("audience", ["", "a b", "a\n", "a" * 256])
def test_audience_of_another_form_is_refused(audience: str) -> None:
    with pytest.raises(InvalidRequest):
        inputs.audience(audience, instance_urls=(GITLAB,))


# --- Files ---


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * 60_001])
def test_file_that_is_no_small_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InvalidRequest, match="--ca"):
        inputs.read_file(tmp_path / "file", "--ca")


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        inputs.read_file(tmp_path / "none", "--ca")


def test_ca_file_with_a_private_key_is_refused() -> None:
    key = a_key()
    with pytest.raises(InvalidRequest, match="private key"):
        inputs.certificate_authority(a_certificate(key) + pem_of(key), "--ca")


@pytest.mark.parametrize("pem", ["", "x", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_ca_file_without_a_certificate_is_refused(pem: str) -> None:
    with pytest.raises(InvalidRequest):
        inputs.certificate_authority(pem, "--ca")


# --- Credentials ---


@pytest.mark.parametrize(
    "text",
    [
        "abc.def_-~+/==\n",
        '{"token": "abc.def_-~+/=="}',
        '{"kind": "TokenRequest", "status": {"token": "abc.def_-~+/=="}}',
    ],
)
def test_token_is_taken_from_text_or_json(text: str) -> None:
    found = inputs.credential(text, "--credential-file")
    assert cluster_secret(found.kind, found.value) == BearerToken("abc.def_-~+/==")


@pytest.mark.parametrize("as_json", [False, True])
def test_certificate_is_taken_with_its_key(*, as_json: bool) -> None:
    key = a_key()
    certificate, private = a_certificate(key), pem_of(key)
    text = json.dumps({"certificate": certificate, "key": private})
    found = inputs.credential(text if as_json else private + certificate, "--credential-file")
    assert cluster_secret(found.kind, found.value) == ClientCertificate(certificate, private)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "canary two",
        "canary\nother",
        "canary\x00",
        "canäry",
        "{canary",
        "{}",
        '{"token": ["canary"]}',
        '{"token": ""}',
        '{"token": "a canary"}',
        '{"certificate": "canary", "key": "canary"}',
        "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----",
    ],
)
def test_other_credential_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        inputs.credential(text, "--credential-file")
    assert str(refusal.value).startswith("--credential-file: ")
    assert "canary" not in str(refusal.value)


def test_certificate_with_anothers_key_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="isn't the first certificate's"):
        inputs.credential(a_certificate(a_key()) + pem_of(a_key()), "--credential-file")


@pytest.mark.parametrize("password", [None, b"p"])
def test_certificate_without_a_readable_key_is_refused(password: bytes | None) -> None:
    key = a_key()
    private = "" if password is None else pem_of(key, password=password)
    with pytest.raises(InvalidRequest, match="private key"):
        inputs.credential(a_certificate(key) + private, "--credential-file")


def test_credential_is_not_in_its_own_representation() -> None:
    assert "canary" not in repr(inputs.credential("canary", "--credential-file"))


# --- Which issuer is the default ---


def an_issuer(alias: str, *, url: str = GITLAB, is_default: bool = False) -> Issuer:
    return Issuer(
        alias=alias, url=url, base_url=url, audience="jobs", ca=None, is_default=is_default
    )


MAIN = an_issuer("main", is_default=True)
OTHER = an_issuer("other", url="https://other.test")


@pytest.mark.parametrize(("default", "is_default"), [(None, True), (True, True), (False, False)])
def test_first_issuer_is_the_default_unless_told_otherwise(
    *, default: bool | None, is_default: bool
) -> None:
    found = settled(an_issuer("main"), known=(), default=default)
    assert found == an_issuer("main", is_default=is_default)


@pytest.mark.parametrize("default", [None, False])
def test_second_issuer_is_not_the_default(*, default: bool | None) -> None:
    assert settled(OTHER, known=(MAIN,), default=default) == OTHER


def test_there_is_only_one_default_issuer() -> None:
    with pytest.raises(Refused, match="only one"):
        settled(OTHER, known=(MAIN,), default=True)


def test_issuer_that_is_added_again_stays_what_it_was() -> None:
    assert settled(an_issuer("main"), known=(MAIN, OTHER), default=None) == MAIN


@pytest.mark.parametrize(("alias", "default"), [("main", False), ("other", True)])
def test_default_issuer_never_changes(alias: str, *, default: bool) -> None:
    again = next(issuer for issuer in (MAIN, OTHER) if issuer.alias == alias)
    with pytest.raises(Refused, match="once"):
        settled(again, known=(MAIN, OTHER), default=default)


def test_alias_keeps_its_instance() -> None:
    with pytest.raises(Refused, match="for ever"):
        settled(an_issuer("main", url="https://other.test"), known=(MAIN,), default=None)


def test_instance_keeps_its_alias() -> None:
    with pytest.raises(Refused, match="'main'"):
        settled(an_issuer("second"), known=(MAIN,), default=None)


# --- Webhooks ---

GROUP = HookScope("group", 7)


def test_signing_token_is_a_standard_webhooks_secret_of_32_bytes() -> None:
    token = new_secrets(signing=True).signing_token
    assert token is not None
    assert token.startswith("whsec_")
    assert len(base64.b64decode(token.removeprefix("whsec_"), validate=True)) == 32


def test_no_two_hooks_share_a_secret() -> None:
    made = [new_secrets(signing=True) for _ in range(8)]
    assert len({hook.secret_token for hook in made} | {hook.signing_token for hook in made}) == 16


def test_stored_secrets_are_those_that_gitlab_is_given() -> None:
    made = new_secrets(signing=True)
    entry = hook_entry(GROUP, made)
    body = hook_body(GROUP, "https://api.test/webhooks/gitlab/main", made)
    assert entry["scope"] == {"kind": "group", "id": 7}
    assert (entry["secret_token"], entry["signing_token"]) == (
        body["token"],
        body["signing_token"],
    )
    assert body["enable_ssl_verification"] is True


def test_a_system_hook_is_told_of_pushes_of_many_branches_and_others_of_jobs() -> None:
    made = new_secrets(signing=True)
    asked = {
        scope.kind: {name for name, on in hook_body(scope, "u", made).items() if on is True}
        for scope in (GROUP, HookScope("instance", 0))
    }

    always = {"push_events", "tag_push_events", "enable_ssl_verification"}
    assert asked == {
        "group": always | {"job_events"},
        "instance": always | {"repository_update_events"},
    }


@pytest.mark.parametrize("answer", [None, [], {}, {"version": "x"}, {"version": None}])
def test_unknown_version_of_gitlab_is_unknown(answer: object) -> None:
    with pytest.raises(Unavailable):
        major_version(answer)


@pytest.mark.parametrize("name", ["a", "k8s.example.test", "API-1.example", "a." * 3 + "b"])
def test_host_name_is_a_dns_name(name: str) -> None:
    assert inputs.host_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "a\n", "*.a", "a_b", "a" * 64, "a." * 127],
)
def test_what_is_no_dns_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="DNS name"):
        inputs.host_name(name)
