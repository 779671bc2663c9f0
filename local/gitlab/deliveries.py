"""Delivers events to hooks, in the background, and keeps a log of it.

GitLab itself never retries, and promises no order. Here the deliveries of one job or project keep
their order, so that a failing test fails again, while different ones run side by side.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import uuid
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import aiohttp

from local.gitlab.hook_headers import SECRET_HEADERS, hook_headers
from local.gitlab.records import Hook, MissingError

if TYPE_CHECKING:
    import ssl

    from local.gitlab.events import Event
    from local.gitlab.instance import Instance

_TIMEOUT_SECONDS = 10  # GitLab's webhook_timeout
_AT_ONCE = 32
_KEPT = 20_000
_BODY_KEPT = 8_192
_FAILURES_UNTIL_DISABLED = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 60, 86_400


@dataclass(slots=True)
class Delivery:
    """One delivery: `state` is pending, delivered, failed, lost or suppressed."""

    id: int
    hook_id: int
    url: str
    event: str
    body: dict[str, Any]
    idempotency_key: str
    order: str
    state: str = "pending"
    request_headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    response_headers: dict[str, str] = field(default_factory=dict)
    response_body: str = ""
    error: str | None = None
    seconds: float | None = None
    at: float = 0.0


class Deliveries:
    """The delivery side of one instance."""

    def __init__(self, instance: Instance, trust: ssl.SSLContext) -> None:
        self._instance = instance
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._last: dict[str, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._to_lose = 0
        self.log: deque[Delivery] = deque(maxlen=_KEPT)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def lose(self, times: int) -> None:
        """Let the next deliveries vanish on their way, as if GitLab had crashed."""
        self._to_lose = times

    def announce(self, event: Event) -> None:
        """Queue an event for every hook that wants it."""
        now = self._instance.clock()
        for hook in list(self._instance.hooks.values()):
            if not wants(hook, event):
                continue
            delivery = self._new(hook, event.name, event.payload, order=event.order)
            if hook.disabled_until is not None and hook.disabled_until > now:
                delivery.state = "suppressed"
            elif self._to_lose > 0:
                self._to_lose -= 1
                delivery.state = "lost"
            else:
                self._start(delivery)

    def resend(self, delivery_id: int) -> Delivery:
        """Deliver once more, under the same Idempotency-Key; raises MissingError."""
        for former in self.log:
            if former.id == delivery_id:
                hook = self._instance.hook(former.hook_id)
                key = former.idempotency_key
                again = self._new(hook, former.event, former.body, order=former.order, key=key)
                self._start(again)
                return again
        raise MissingError(f"no delivery {delivery_id}")

    async def test(self, hook: Hook, event: Event) -> Delivery:
        """Deliver an event to one hook at once and wait for the answer."""
        delivery = self._new(hook, event.name, event.payload, order=f"test {hook.id}")
        await self._send(delivery)
        return delivery

    async def settle(self, seconds: float) -> bool:
        """Wait until nothing is under way; false if that takes longer than `seconds`."""
        if not self._running:
            return True
        _, pending = await asyncio.wait(self._running, timeout=seconds)
        return not pending

    def entries(self) -> list[dict[str, Any]]:
        """The log, oldest first."""
        return [asdict(delivery) for delivery in self.log]

    def _new(
        self, hook: Hook, event: str, body: dict[str, Any], *, order: str, key: str | None = None
    ) -> Delivery:
        delivery = Delivery(
            id=self._instance.ids.take("delivery"),
            hook_id=hook.id,
            url=hook.url,
            event=event,
            body=body,
            idempotency_key=key or str(uuid.uuid4()),
            order=f"{hook.id} {order}",
            at=self._instance.clock(),
        )
        self.log.append(delivery)
        return delivery

    def _start(self, delivery: Delivery) -> None:
        former = self._last.get(delivery.order)
        task = asyncio.create_task(self._in_turn(delivery, former))
        self._last[delivery.order] = task
        self._running.add(task)
        task.add_done_callback(lambda done: self._forget(delivery.order, done))

    def _forget(self, order: str, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._last.get(order) is task:
            del self._last[order]

    async def _in_turn(self, delivery: Delivery, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])
        async with self._places:
            await self._send(delivery)

    async def _send(self, delivery: Delivery) -> None:
        hook = self._instance.hooks.get(delivery.hook_id)
        if hook is None:
            delivery.state = "suppressed"
            return
        body = json.dumps(delivery.body, separators=(",", ":")).encode()
        headers = hook_headers(
            hook,
            body,
            event=delivery.event,
            idempotency_key=delivery.idempotency_key,
            url=self._instance.url,
            version=self._instance.version,
            now=int(self._instance.clock()),
        )
        secret = SECRET_HEADERS | {name for name, _ in hook.custom_headers}
        delivery.request_headers = {
            name: "[REDACTED]" if name in secret else value for name, value in headers.items()
        }
        await self._post(delivery, body, headers)
        self._count(hook, succeeded=delivery.state == "delivered")

    async def _post(self, delivery: Delivery, body: bytes, headers: dict[str, str]) -> None:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout)
        started = asyncio.get_running_loop().time()
        try:
            async with self._session.post(
                delivery.url, data=body, headers=headers, ssl=self._trust, allow_redirects=False
            ) as answer:
                delivery.status = answer.status
                delivery.response_headers = dict(answer.headers)
                delivery.response_body = (await answer.text(errors="replace"))[:_BODY_KEPT]
                # GitLab counts a redirect as a success and doesn't follow it.
                delivery.state = "delivered" if answer.status < 400 else "failed"
        except (aiohttp.ClientError, TimeoutError) as error:
            delivery.state = "failed"
            delivery.error = f"{type(error).__name__}: {error}"
        delivery.seconds = round(asyncio.get_running_loop().time() - started, 6)

    def _count(self, hook: Hook, *, succeeded: bool) -> None:
        """Disable a hook for a while that keeps failing, where the instance does so."""
        current = self._instance.hooks.get(hook.id)
        if current is None or current.kind == "system":
            return
        if succeeded:
            changed = replace(current, failures=0, disabled_until=None)
        else:
            changed = replace(current, failures=current.failures + 1)
            excess = changed.failures - _FAILURES_UNTIL_DISABLED
            if excess >= 0 and self._instance.disables_failing_hooks:
                pause = min(_FIRST_PAUSE * 2**excess, _LONGEST_PAUSE)
                changed = replace(changed, disabled_until=self._instance.clock() + pause)
        self._instance.hooks[hook.id] = changed


def wants(hook: Hook, event: Event) -> bool:
    """Whether an event concerns a hook and the hook has subscribed to it."""
    if event.system or hook.kind == "system":
        always = event.switch == "lifecycle_events"
        return event.system and hook.kind == "system" and (always or event.switch in hook.events)
    concerned = (hook.kind == "project" and hook.owner_id == event.project_id) or (
        hook.kind == "group" and hook.owner_id in event.group_ids
    )
    if not concerned or event.switch not in hook.events:
        return False
    if event.branch is None or not hook.branch_filter:
        return True
    return fnmatch.fnmatchcase(event.branch, hook.branch_filter)
