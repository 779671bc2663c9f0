"""A small world of jobs, hooks, questions, stops and keys, served by real use cases.

Several warm functions share one table; each has a clock that is a little wrong, and its own memory.
The world keeps what GitLab told whom and when, so that a test can judge the answers by that alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jobgate.adapters.access_tokens import PublishedKeysVerifier
from jobgate.adapters.kms_signer import KMSSigner
from jobgate.cli.signing_keys import es256_jwk, thumbprint
from jobgate.core import keys
from jobgate.core.bounds import Bounds
from jobgate.core.errors import InvalidToken, Unavailable
from jobgate.core.keys import PublicKey
from jobgate.core.liveness import NOTHING_HEARD, JobState, Stop
from jobgate.core.reasons import Reason
from jobgate.core.relay_refusal import Refusal
from jobgate.core.settings import JobEnd, Settings
from jobgate.ports.exchange import ExchangeFacts, ExchangeStore, TokenVerifier
from jobgate.ports.relay import RelayFacts, RelayStore
from jobgate.usecases.admission import Admission
from jobgate.usecases.exchange import Exchanged
from jobgate.usecases.lookups import LazyLookups
from jobgate.usecases.relay_facts import RelayFactsCache

from tests.support import builders as b
from tests.support.exchanges import an_exchange
from tests.support.fakes import FakeClock, FakeJobStates, FakePlaceStore, a_watch
from tests.support.refresh_fakes import FakeGitLab

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import JobIdentity, VerifiedJob
    from jobgate.ports import Deployment

BOUNDS = Bounds(chain_fresh=1e9, chain_max_age=1e9)
ID_TOKEN_LIFE = 4 * 3600
SLOTS = ("slot-a", "slot-b")
ISSUER = "main"


@dataclass
class Truth:
    """What is the case with a job, and what Jobgate was told of it; times by the true clock."""

    began_at: float
    status: str = "running"
    ended_at: float | None = None
    hooks: list[float] = field(default_factory=list)
    questions: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    end_told_at: float | None = None


class World(ExchangeStore, RelayStore):
    """The table, GitLab and KMS, and the true clock."""

    def __init__(self, *, job_end: JobEnd, skews: Sequence[float]) -> None:
        # Instance-wide, so that nothing but jobs is asked about.
        self.settings = Settings(job_end=job_end, instance_wide=True)
        self.clock = FakeClock()
        self.jobs = FakeJobStates(bounds=BOUNDS)
        self.gitlab = _GitLab(self)
        self.truths: dict[int, Truth] = {}
        self.stops: tuple[Stop, ...] = ()
        self.kms = _KMS()
        self.keys: tuple[PublicKey, ...] = (self.kms.public(SLOTS[0], not_before=b.NOW - 1000),)
        self.processes = [Process(self, skew) for skew in skews]

    # --- What happens ---

    def start_job(self) -> int:
        job_id = 9000 + len(self.truths)
        self.truths[job_id] = Truth(began_at=self.clock.now)
        return job_id

    def hook(self, job_id: int, status: str, *, skew: float = 0) -> None:
        """A delivery arrives, of now or of before."""
        now = self.clock.now + skew
        is_end = status in ("success", "failed", "canceled")
        word = JobState(
            status=status, source="hook", seen_at=now, finished_at=now if is_end else None
        )
        self.jobs.put(b.a_job(job_id=job_id).key, word)
        truth = self.truths[job_id]
        truth.hooks.append(self.clock.now)
        if is_end and truth.end_told_at is None:
            truth.end_told_at = self.clock.now

    def finish(self, job_id: int, status: str) -> None:
        truth = self.truths[job_id]
        if truth.ended_at is None:
            truth.status, truth.ended_at = status, self.clock.now

    def rotate(self) -> None:
        """As `jobgate keys rotate` does."""
        now = self.clock.now
        if any(key.not_before > now for key in self.keys):
            return
        current = keys.signing_key(self.keys, now=now)
        (slot,) = (slot for slot in SLOTS if slot != current.slot)
        successor = self.kms.public(slot, not_before=now + keys.usual_wait(BOUNDS))
        replaced = keys.rotation(self.keys, successor, bounds=BOUNDS, now=now)
        after = {key.kid: key for key in self.keys} | {key.kid: key for _, key in replaced}
        self.keys = tuple(after.values())

    # --- What is stored ---

    def exchange_facts(self, job: JobIdentity) -> ExchangeFacts:
        life = self.jobs.states.get(job.key, NOTHING_HEARD)
        return b.some_facts(state=life, stops=self.stops)

    def agents_of_groups(self, issuer: str, group_ids: Sequence[int]) -> frozenset[int]:
        return frozenset()

    def snapshots(
        self, issuer: str, agent_ids: Iterable[int]
    ) -> Mapping[int, AgentSnapshot | None]:
        return {b.PROD: _agent()}

    def relay_facts(self, job: JobIdentity, agent_id: int) -> RelayFacts:
        facts = self.exchange_facts(job)
        return RelayFacts(
            snapshot=_agent(),
            cluster=b.a_cluster(),
            place=facts.place,
            chain=facts.chain,
            state=facts.state,
            stops=facts.stops,
        )


def _agent() -> AgentSnapshot:
    return b.an_agent(projects={b.APP: b.an_entry()})


class Process(TokenVerifier):
    """A warm function that exchanges and relays, with its own clock and copies."""

    def __init__(self, world: World, skew: float) -> None:
        self.world = world
        self.skew = skew
        self._read: tuple[float, Deployment] | None = None
        waits = FakeClock()
        lookups = LazyLookups(
            self.deployment,
            lambda _alias: world.gitlab,
            FakePlaceStore(),
            a_watch(waits, jobs=world.jobs, settings=world.settings, bounds=BOUNDS),
            settings=world.settings,
            bounds=BOUNDS,
            clock=self.now,
        )
        # The watch waits on the true clock and reads this process' own.
        lookups.watch._clock = self.now
        lookups.watch._wait = world.clock.advance
        self.exchange = an_exchange(
            verifier=self,
            store=world,
            lookups=lookups,
            signer=KMSSigner(world.kms, self.deployment, clock=self.now),
            deployment=self.deployment,
            settings=world.settings,
            bounds=BOUNDS,
            clock=self.now,
        )
        self.admission = Admission(
            deployment=self.deployment,
            verifier=PublishedKeysVerifier(self.deployment, bounds=BOUNDS, clock=self.now),
            facts=RelayFactsCache(world, lookups, bounds=BOUNDS, clock=self.now),
            settings=world.settings,
            bounds=BOUNDS,
            clock=self.now,
        )

    def now(self) -> float:
        return self.world.clock.now + self.skew

    def deployment(self) -> Deployment:
        """What was read of the keys, no older than ISSUERS_MAX_AGE."""
        now = self.now()
        if self._read is None or now - self._read[0] > BOUNDS.issuers_max_age:
            self._read = now, b.a_deployment(keys=self.world.keys)
        return self._read[1]

    def verify(self, subject_token: str) -> VerifiedJob:
        """The ID token of a job is its number, and ends with the job's time-out."""
        job_id = int(subject_token)
        expires_at = int(self.world.truths[job_id].began_at + ID_TOKEN_LIFE)
        if expires_at + BOUNDS.leeway <= self.now():
            raise InvalidToken("expired", expired=True)
        return b.a_verified_job(b.a_job(job_id=job_id), expires_at=expires_at)

    def redeem(self, job_id: int) -> str | Reason:
        """An access token, or why there is none."""
        outcome = self.exchange.redeem(str(job_id))
        return outcome.token if isinstance(outcome, Exchanged) else outcome.reason

    def use(self, token: str) -> Reason | None:
        """None where the relay carries a request with this token."""
        try:
            verified = self.admission.verify(token)
            if isinstance(verified, Refusal):
                return verified.reason
            admitted = self.admission.admit(verified, b.PROD)
        except Unavailable:
            return Reason.JOB_UNKNOWN
        return admitted.reason if isinstance(admitted, Refusal) else None


class _GitLab(FakeGitLab):
    """Tells what is true of its jobs, unless it is away or shows none of them."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.is_away = False
        self.shows_nothing = False

    def job_status(self, project_id: int, job_id: int) -> str | None:
        truth, now = self.world.truths[job_id], self.world.clock.now
        truth.questions.append(now)
        if self.is_away:
            raise Unavailable("GitLab answered 502")
        if self.shows_nothing:
            return None
        truth.answers.append(now)
        if truth.ended_at is not None and truth.end_told_at is None:
            truth.end_told_at = now
        return truth.status


class _KMS:
    """KMS with two keys."""

    def __init__(self) -> None:
        # Made from fixed numbers, so that each run is the same.
        self._keys = {
            slot: ec.derive_private_key(number, ec.SECP256R1())
            for number, slot in enumerate(SLOTS, start=1001)
        }

    def __call__(
        self, service: str, operation: str, request: Mapping[str, object]
    ) -> dict[str, bytes]:
        key, message = self._keys[str(request["KeyId"])], request["Message"]
        assert isinstance(message, bytes)
        return {"Signature": key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))}

    def public(self, slot: str, *, not_before: float) -> PublicKey:
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        jwk = es256_jwk(self._keys[slot].public_key().public_bytes(*form))
        return PublicKey(kid=thumbprint(jwk), slot=slot, jwk=jwk, not_before=not_before)
