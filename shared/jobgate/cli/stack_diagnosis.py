"""What is wrong with a stack, and what mends it. Pure: facts in, findings out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobgate.cli.finding import SKEW_MAX_SECONDS, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFacts:
    """The deployment itself. Times in epoch seconds, ids of keys by KMS slot.

    `front_error` is why our own key set can't be fetched by the public URL; `served` are the ids of
    the keys in it; `slots` the state that KMS gives of each signing key's slot.
    """

    base_url: str | None
    expected_url: str
    front_error: str | None
    served: frozenset[str]
    published: Mapping[str, str]  # id of the key that signs now: its slot
    slots: Mapping[str, str]
    own_keys: Mapping[str, str]  # slot: the id of KMS's key in it
    dead_letters: int | None
    schedule: str | None
    clock_skew: float | None
    issuers: int


def of_stack(facts: StackFacts) -> Iterator[Finding]:
    """The deployment's own faults."""
    where = "stack"
    if facts.base_url is None:
        yield Finding(
            code="not_set_up", where=where, text="The stack isn't set up.", fix="jobgate setup"
        )
        return
    yield from _of_keys(facts)
    if facts.front_error is not None:
        text = f"Nothing good answers at {facts.base_url}: {facts.front_error}."
        fix = f"jobgate setup --base-url {facts.expected_url} (with --ca for a private CA), or DNS"
        yield Finding(code="front", where=where, text=text, fix=fix)
    elif facts.published and not facts.published.keys() & facts.served:
        text = f"{facts.base_url} serves other keys: it's another deployment's URL."
        fix = f"jobgate setup --base-url {facts.expected_url}"
        yield Finding(code="wrong_base_url", where=where, text=text, fix=fix)
    if facts.dead_letters:
        text = f"{facts.dead_letters} refreshes failed five times and lie in the dead-letter queue."
        fix = "mend what the refresh's log names, then: jobgate queue redrive"
        yield Finding(code="dead_letters", where=where, text=text, fix=fix)
    if facts.schedule not in (None, "ENABLED"):
        text = f"The schedule that heals lost webhooks is {facts.schedule}."
        fix = "switch it on (EventBridge Scheduler), or deploy the stack again"
        yield Finding(code="no_reconcile", where=where, text=text, fix=fix)
    if facts.clock_skew is not None and abs(facts.clock_skew) > SKEW_MAX_SECONDS:
        text = f"This machine's clock is {facts.clock_skew:+.0f} s off the deployment's."
        fix = "set this machine's clock (NTP), and run this again"
        yield Finding(code="clock", where=where, text=text, fix=fix)
    if not facts.issuers:
        text = "No GitLab instance is trusted."
        fix = "jobgate issuer add ALIAS --url URL --audience AUD --token-file FILE"
        yield Finding(code="no_issuer", where=where, text=text, fix=fix)


def _of_keys(facts: StackFacts) -> Iterator[Finding]:
    where = "stack"
    if not facts.published:
        text = "No signing key is published, so no job gets a token."
        yield Finding(code="no_signing_key", where=where, text=text, fix="jobgate setup")
    for kid, slot in facts.published.items():
        state = facts.slots.get(slot, "gone")
        if state != "Enabled":
            text = f"The signing key {kid} is {state} in KMS, so no job gets a token."
            fix = f"aws kms enable-key --key-id {slot} (or cancel-key-deletion first)"
            yield Finding(code="signing_key", where=where, text=text, fix=fix)
        elif facts.own_keys.get(slot, kid) != kid:
            text = f"The published key {kid} isn't the one that KMS signs with."
            yield Finding(
                code="key_mismatch", where=where, text=text, fix="jobgate keys rotate --wait 120"
            )
