from __future__ import annotations

import pytest
from jobgate.core.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings(
        instance_wide=False,
        entry_limit=500,
        fork_jobs="allow",
        legacy_slugs=False,
        allowed_identities=frozenset(),
        commit_status=False,
        job_end="both",
    )


def test_every_setting_is_read_from_its_variable() -> None:
    environment = {
        "JOBGATE_INSTANCE_WIDE": "true",
        "JOBGATE_ENTRY_LIMIT": "1000",
        "JOBGATE_FORK_JOBS": "deny",
        "JOBGATE_LEGACY_SLUGS": "true",
        "JOBGATE_ALLOWED_IDENTITIES": "system:serviceaccount:a:b, system:basic-user,",
        "JOBGATE_COMMIT_STATUS": "true",
        "JOBGATE_JOB_END": "probe",
    }

    assert Settings.from_environment(environment) == Settings(
        instance_wide=True,
        entry_limit=1000,
        fork_jobs="deny",
        legacy_slugs=True,
        allowed_identities=frozenset({"system:serviceaccount:a:b", "system:basic-user"}),
        commit_status=True,
        job_end="probe",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOBGATE_INSTANCE_WIDE", "yes"),
        ("JOBGATE_INSTANCE_WIDE", ""),
        ("JOBGATE_LEGACY_SLUGS", "True"),
        ("JOBGATE_COMMIT_STATUS", "1"),
        ("JOBGATE_ENTRY_LIMIT", "0"),
        ("JOBGATE_ENTRY_LIMIT", "-1"),
        ("JOBGATE_ENTRY_LIMIT", "1e3"),
        ("JOBGATE_FORK_JOBS", "canary-value"),
        ("JOBGATE_JOB_END", "canary-value"),
        ("JOBGATE_JOB_END", ""),
    ],
)
def test_a_setting_that_is_not_understood_stops_the_start_by_its_name(
    name: str, value: str
) -> None:
    with pytest.raises(ValueError, match=name) as raised:
        Settings.from_environment({name: value})

    assert "canary-value" not in str(raised.value)
