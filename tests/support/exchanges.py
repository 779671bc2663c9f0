"""An exchange on given parts; what a test doesn't name is a fake or a default."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from jobgate.core.bounds import Bounds
from jobgate.core.settings import Settings
from jobgate.usecases.exchange import Exchange
from jobgate.usecases.explain import Explain
from jobgate.usecases.job_decisions import JobDecisions
from jobgate.usecases.presented_token import PresentedTokens
from jobgate.usecases.throttle import Throttle

from tests.support import builders as b
from tests.support.fakes import (
    FakeClock,
    FakeExchangeCounter,
    FakeLookups,
    FakeRedeemedTokens,
    FakeTokenSigner,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobgate.ports import Clock, Deployment, Recorder
    from jobgate.ports.exchange import (
        ExchangeCounter,
        ExchangeStore,
        RedeemedTokens,
        TokenSigner,
        TokenVerifier,
    )
    from jobgate.ports.lookups import Lookups


def an_exchange(
    *,
    verifier: TokenVerifier,
    store: ExchangeStore,
    lookups: Lookups | None = None,
    signer: TokenSigner | None = None,
    counter: ExchangeCounter | None = None,
    redeemed: RedeemedTokens | None = None,
    deployment: Callable[[], Deployment] | None = None,
    recorder: Recorder = lambda _line: None,
    settings: Settings | None = None,
    bounds: Bounds | None = None,
    clock: Clock | None = None,
    new_id: Callable[[], str] | None = None,
) -> Exchange:
    ids = itertools.count(1)
    given = deployment or b.a_deployment
    bounds = bounds or Bounds()
    clock = clock or FakeClock()
    new_id = new_id or (lambda: f"id-{next(ids)}")
    return Exchange(
        deployment=given,
        tokens=PresentedTokens(verifier=verifier, recorder=recorder, clock=clock, new_id=new_id),
        decisions=JobDecisions(
            deployment=given,
            throttle=Throttle(
                deployment=given,
                counter=counter or FakeExchangeCounter(),
                settings=settings or Settings(),
                clock=clock,
            ),
            store=store,
            lookups=lookups or FakeLookups(),
            settings=settings or Settings(),
            bounds=bounds,
            clock=clock,
        ),
        redeemed=redeemed or FakeRedeemedTokens(),
        signer=signer or FakeTokenSigner(),
        bounds=bounds,
        clock=clock,
        new_id=new_id,
    )


def explain_of(exchange: Exchange) -> Explain:
    """The explanation beside an exchange, of the same parts."""
    return Explain(
        deployment=exchange.deployment, tokens=exchange.tokens, decisions=exchange.decisions
    )
