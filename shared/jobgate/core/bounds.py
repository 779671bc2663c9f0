"""How long anything is believed, in seconds: each a parameter of the deployment.

Every bound is a field of `Bounds`; the environment gives it as `JOBGATE_<NAME>`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """All values in seconds."""

    relay_cache: float = 3  # how long a warm relay believes what it read
    probe_floor: float = 60  # how often GitLab is asked about one job
    probe_grace: float = 300  # how long the last answer counts while GitLab is away
    unobserved_life: float = 900  # a token's life where the job's end can't be seen
    hook_silence: float = 900  # a job whose hook was seen is probed only after this
    token_max: float = 3600  # longest life of an access token
    issuers_max_age: float = 60  # issuers, keys and settings are read again from the table
    jwks_max_age: float = 300  # an issuer's keys are fetched again
    jwks_stale: float = 86_400  # and used for so long while GitLab is away
    chain_fresh: float = 300  # a namespace chain is fetched again on use
    chain_max_age: float = 3600  # beyond this age it grants nothing to groups
    config_doubt: float = 86_400  # last good configuration while GitLab's answers are in doubt
    leeway: float = 30  # clock skew, everywhere
    job_kept: float = 35 * 86_400  # job states are kept; an older ID token is refused
    stream_keepalive: float = 60  # a silent JSON watch gets a byte; fronts cut after 300 s
    lazy_budget: float = 3  # all calls to GitLab that one request may wait for

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Bounds:
        """Read `JOBGATE_RELAY_CACHE` and the others; an absent one keeps its default.

        Raises ValueError naming the variable, never its value.
        """
        given = {}
        for field in fields(cls):
            variable = f"JOBGATE_{field.name.upper()}"
            if variable in environment:
                try:
                    given[field.name] = float(environment[variable])
                except ValueError as exc:
                    raise ValueError(f"{variable} isn't a number of seconds") from exc
        return cls(**given)
