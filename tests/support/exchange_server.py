"""The real exchange behind a real HTTP server: routes of the template, events as API Gateway's.

Verification is the real one, with a real issuer's HTTPS server; behind the decisions are fakes that
show whether anything was left.
"""

from __future__ import annotations

import datetime as dt
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobgate.adapters.exchange_http import ExchangeHTTP
from jobgate.adapters.id_tokens import IDTokenVerifier
from jobgate.core.bounds import Bounds
from jobgate.core.liveness import NOTHING_HEARD

from local.gateway.api import read_api
from local.gateway.event import Identifiers, build_event
from local.gateway.request import Request, RequestRefusedError, parse_target
from local.gateway.routing import match
from local.sam_template import translate
from tests.support import builders as b
from tests.support.exchanges import an_exchange, explain_of
from tests.support.fakes import (
    FakeClock,
    FakeExchangeCounter,
    FakeExchangeStore,
    FakeLookups,
    FakeRedeemedTokens,
    FakeTokenSigner,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.issuer import Issuer

_TEMPLATE = Path(__file__).parents[2] / "template.yaml"


@dataclass
class ExchangeServer:
    """What is behind `url` (with the stage), and what it has left behind."""

    issuers: tuple[Issuer, ...]
    agents: tuple[AgentSnapshot, ...]
    clock: FakeClock = field(default_factory=FakeClock)
    records: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.signer = FakeTokenSigner()
        self.counter = FakeExchangeCounter()
        self.redeemed = FakeRedeemedTokens()
        facts = b.some_facts(project_agents=[agent.agent_id for agent in self.agents])
        self.store = FakeExchangeStore(facts, self.agents)
        deployment = b.a_deployment(
            *self.issuers,
            keys=[b.a_public_key()],
            roots=[(issuer.alias, "top") for issuer in self.issuers],
        )
        bounds = Bounds()
        exchange = an_exchange(
            deployment=lambda: deployment,
            verifier=IDTokenVerifier(lambda: deployment, bounds=bounds, clock=self.clock),
            store=self.store,
            # Of a known root: GitLab was asked, and hasn't answered.
            lookups=FakeLookups(life=NOTHING_HEARD.asked(self.clock())),
            signer=self.signer,
            counter=self.counter,
            redeemed=self.redeemed,
            recorder=self.records.append,
            bounds=bounds,
            clock=self.clock,
        )
        self.handler = ExchangeHTTP(
            exchange,
            explain_of(exchange),
            lambda: deployment,
            clock=self.clock,
            log=self.logged.append,
        )

    @property
    def left(self) -> list[Any]:
        """What anybody but the log would find of the requests so far."""
        return [
            *self.signer.signed,
            *self.counter.counts,
            *self.redeemed.claimed,
            *self.store.reads,
        ]


@contextmanager
def exchange_server(
    *issuers: Issuer, agents: tuple[AgentSnapshot, ...]
) -> Iterator[ExchangeServer]:
    """Serve until the block ends."""
    api = read_api(translate(_TEMPLATE, {}))
    behind = ExchangeServer(issuers, agents)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            try:
                target = parse_target(self.path)
            except RequestRefusedError:
                self._send(400, {}, b"")
                return
            headers = tuple(self.headers.items())
            request = Request(self.command, target, headers, "127.0.0.1", "HTTP/1.1")
            found = match(api, self.command, target.path)
            if found is None or target.stage != "live":
                # What API Gateway says of a route that there isn't.
                self._send(403, {}, b"")
                return
            event = build_event(
                request,
                found,
                body=body,
                binary_media_types=api.binary_media_types,
                identifiers=Identifiers("request-1", "extended-1", "Root=1-0-0"),
                now=dt.datetime.fromtimestamp(behind.clock(), dt.UTC),
            )
            answer = behind.handler(event, None)
            self._send(answer["statusCode"], answer["headers"], answer["body"].encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def __getattr__(self, name: str) -> Any:
            # Every method there is, also those that nobody has a route for.
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    behind.url = f"http://127.0.0.1:{server.server_address[1]}/live"
    try:
        yield behind
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
