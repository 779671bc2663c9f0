from __future__ import annotations

import pytest
from jobgate.adapters.http_wire import request_head
from jobgate.core.agent import AsAgent, AsCIJob, AsIdentity
from jobgate.core.impersonation import (
    Identity,
    fault_of_static_identity,
    identity_of,
    impersonation_headers,
)

from tests.support import builders as b


@pytest.mark.parametrize("name", ["josé", "日本", "JosÃ©"])
def test_a_name_beyond_ascii_travels_as_the_bytes_that_kubernetes_reads(name: str) -> None:
    lines = impersonation_headers(Identity(username=name, groups=(name,)))

    head = request_head("GET", "/", lines)

    assert head.count(f": {name}\r\n".encode()) == 2


def test_a_static_identity_is_passed_on_as_it_is_written() -> None:
    written = AsIdentity(
        "deployer", uid="7", groups=("ops", "dev"), extra=(("team", ("a", "b")), ("team", ("c",)))
    )

    identity = identity_of(
        b.a_job(), b.a_grant(access_as=written), issuer=b.an_issuer(), chain=None
    )

    assert identity == Identity(
        username="deployer",
        uid="7",
        groups=("ops", "dev"),
        extra=(("team", ("a", "b")), ("team", ("c",))),
    )


def test_agent_mode_is_no_identity() -> None:
    assert identity_of(b.a_job(), b.a_grant(), issuer=b.an_issuer(), chain=b.a_chain()) is None


def test_a_jobs_identity_without_its_chain_is_never_made() -> None:
    with pytest.raises(ValueError, match="chain"):
        identity_of(b.a_job(), b.a_grant(access_as=AsCIJob()), issuer=b.an_issuer(), chain=None)


def test_another_issuers_names_all_carry_its_alias() -> None:
    issuer = b.an_issuer("saas", is_default=False)
    job = b.a_job(issuer="saas", environment="prod", tier="production")

    identity = identity_of(job, b.a_grant(access_as=AsCIJob()), issuer=issuer, chain=b.a_chain())

    assert identity is not None
    assert identity.username == "gitlab@saas:ci_job:9001"
    assert all(group.startswith("gitlab@saas:") for group in identity.groups)
    assert identity.extra[-1] == ("jobgate/issuer", ("saas",))


def test_the_default_issuer_adds_no_extra_of_its_own() -> None:
    identity = identity_of(
        b.a_job(), b.a_grant(access_as=AsCIJob()), issuer=b.an_issuer(), chain=b.a_chain()
    )

    assert identity is not None
    assert "jobgate/issuer" not in dict(identity.extra)


def test_an_environment_without_a_tier_names_no_tier() -> None:
    job = b.a_job(environment="prod")

    identity = identity_of(
        job, b.a_grant(access_as=AsCIJob()), issuer=b.an_issuer(), chain=b.a_chain()
    )

    assert identity is not None
    assert identity.groups == (
        "gitlab:ci_job",
        "gitlab:group:1",
        "gitlab:group:2",
        "gitlab:project:100",
        "gitlab:project_env:100:prod",
    )
    assert "agent.gitlab.com/environment_tier" not in dict(identity.extra)


@pytest.mark.parametrize(
    "identity",
    [
        AsIdentity("system:admin"),
        AsIdentity("SYSTEM:admin"),
        AsIdentity("deployer", groups=("system:masters",)),
        AsIdentity("deployer", groups=("ok", "System:masters")),
        AsIdentity("deployer", groups=(" system:masters",)),
        AsIdentity("deployer", groups=("system:masters\t",)),
        AsIdentity("\u00a0system:masters"),
        AsIdentity("gitlab:ci_job:1"),
        AsIdentity("gitlab@saas:ci_job:1"),
        AsIdentity("Gitlab:ci_job:1"),
        AsIdentity("deployer", groups=("gitlab:project:7",)),
        AsIdentity(""),
        AsIdentity("deployer", groups=("",)),
        AsIdentity("a\nb"),
        AsIdentity("a\x7fb"),
        AsIdentity("a\x85b"),
        AsIdentity("deployer", uid=" 1"),
        AsIdentity("deployer", extra=(("", ("v",)),)),
        AsIdentity("deployer", extra=(("key\r", ("v",)),)),
        AsIdentity("deployer", extra=(("key", ("v\n",)),)),
    ],
)
def test_a_static_identity_that_is_reserved_or_would_change_on_its_way_has_a_fault(
    identity: AsIdentity,
) -> None:
    assert fault_of_static_identity(identity) is not None


@pytest.mark.parametrize(
    "identity",
    [
        AsIdentity("deployer"),
        AsIdentity("systematic"),
        AsIdentity("gitlab-deployer", groups=("ops",)),
        AsIdentity("alice@example.test", uid="7", extra=(("example.test/team", ("a b",)),)),
    ],
)
def test_an_ordinary_static_identity_has_no_fault(identity: AsIdentity) -> None:
    assert fault_of_static_identity(identity) is None


def test_headers_are_one_line_a_value_in_a_fixed_order() -> None:
    identity = Identity(
        username="deployer",
        uid="7",
        groups=("ops,dev", "second"),
        extra=(("team", ("a", "b")), ("agent.gitlab.com/id", ("501",))),
    )

    assert impersonation_headers(identity) == (
        ("Impersonate-User", "deployer"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "ops,dev"),
        ("Impersonate-Group", "second"),
        ("Impersonate-Extra-team", "a"),
        ("Impersonate-Extra-team", "b"),
        ("Impersonate-Extra-agent.gitlab.com%2fid", "501"),
    )


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a%b", "Impersonate-Extra-a%25b"),
        ("a:b", "Impersonate-Extra-a%3ab"),
        ("Team", "Impersonate-Extra-team"),
        ("a b", "Impersonate-Extra-a%20b"),
        ("a_b~c", "Impersonate-Extra-a_b~c"),
        ("ü", "Impersonate-Extra-%c3%bc"),
    ],
)
def test_an_extras_key_is_escaped_as_client_go_does(key: str, name: str) -> None:
    identity = Identity(username="u", extra=((key, ("v",)),))

    assert impersonation_headers(identity)[-1] == (name, "v")


@pytest.mark.parametrize("value", ["", " a", "a ", "a\n", "a\r\nb", "\x00", "a\x7f", "\ta"])
@pytest.mark.parametrize("place", ["username", "uid", "group", "key", "value"])
def test_no_header_is_written_for_a_value_that_a_server_would_read_differently(
    place: str, value: str
) -> None:
    identity = Identity(
        username=value if place == "username" else "u",
        uid=value if place == "uid" else None,
        groups=(value,) if place == "group" else (),
        extra=((value if place == "key" else "k", (value if place == "value" else "v",)),),
    )

    with pytest.raises(ValueError, match="identity"):
        impersonation_headers(identity)


def test_every_mode_is_told_apart_by_its_type() -> None:
    assert len({AsAgent(), AsCIJob(), AsIdentity("a"), AsIdentity("b")}) == 4


def test_an_allowed_name_is_allowed_exactly_as_it_is_written() -> None:
    allowed = frozenset({"system:masters"})

    assert fault_of_static_identity(
        AsIdentity("a", groups=("system:masters",)), allowed=allowed
    ) is (None)
    for name in ("System:masters", "system:masters2", "system:", " system:masters"):
        assert fault_of_static_identity(AsIdentity("a", groups=(name,)), allowed=allowed)


def test_a_slug_that_gitlab_gave_goes_before_the_computed_one() -> None:
    job = b.a_job(environment="review/1", environment_slug="review-1-a1b2c3")

    identity = identity_of(
        job, b.a_grant(access_as=AsCIJob()), issuer=b.an_issuer(), chain=b.a_chain()
    )

    assert identity is not None
    assert "gitlab:project_env:100:review-1-a1b2c3" in identity.groups
    assert dict(identity.extra)["agent.gitlab.com/environment_slug"] == ("review-1-a1b2c3",)
