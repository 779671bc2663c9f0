"""What a warm relay believes about a job and an agent, for RELAY_CACHE and no longer."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobgate.core.bounds import Bounds
    from jobgate.core.issuer import Issuer
    from jobgate.core.job import JobIdentity
    from jobgate.core.namespace import Surroundings
    from jobgate.core.relay_refusal import Refusal
    from jobgate.ports import Clock
    from jobgate.ports.lookups import Lookups
    from jobgate.ports.relay import RelayFacts, RelayStore
    from jobgate.usecases.admission import Admitted

_KEPT_MAX = 256  # jobs and agents that one instance meets within the cache's seconds are few


@dataclass(frozen=True, slots=True)
class Known:
    """What was read about a job and an agent, and when (epoch seconds).

    `decided` is what was decided on it for an issuer; it's believed no longer than what was read.
    """

    facts: RelayFacts
    surroundings: Surroundings
    read_at: float
    decided: dict[Issuer, Admitted | Refusal] = field(default_factory=dict)


class RelayFactsCache:
    """Reads through to the store. The key is the whole verified job and the agent's id.

    A part of the job would do for the reads of today; the whole can't become too little.
    """

    def __init__(
        self, store: RelayStore, lookups: Lookups, *, bounds: Bounds, clock: Clock
    ) -> None:
        self._store = store
        self._lookups = lookups
        self._bounds = bounds
        self._clock = clock
        self._known: OrderedDict[tuple[JobIdentity, int], Known] = OrderedDict()

    def of(self, job: JobIdentity, agent_id: int) -> Known:
        """What is known, at most RELAY_CACHE old; raises Unavailable, and then keeps nothing."""
        key = (job, agent_id)
        known = self._known.get(key)
        now = self._clock()
        # A clock that was set back makes an entry from the future: that isn't young.
        if known is not None and 0 <= now - known.read_at < self._bounds.relay_cache:
            return known
        self._known.pop(key, None)
        facts, surroundings = self._found(job, self._store.relay_facts(job, agent_id))
        # All of it is as old as the oldest of it.
        read_at = now if facts.stops_read_at is None else min(now, facts.stops_read_at)
        known = self._known[key] = Known(facts, surroundings, read_at)
        if len(self._known) > _KEPT_MAX:
            self._known.popitem(last=False)
        return known

    def _found(self, job: JobIdentity, facts: RelayFacts) -> tuple[RelayFacts, Surroundings]:
        """What is stored, with what GitLab had to be asked for."""
        lookup = self._lookups.of(job)
        if facts.snapshot is None:
            return facts, lookup.surroundings(facts.place, facts.chain)
        # First of all: its answer is awaited by others, and LAZY_BUDGET is for all of this.
        life = lookup.life(facts.state)
        surroundings = lookup.surroundings(facts.place, facts.chain)
        places = lookup.config_places([facts.snapshot])
        return (
            dataclasses.replace(facts, state=life),
            dataclasses.replace(surroundings, config_places=places),
        )
