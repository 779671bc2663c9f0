"""`jobgate setup`: what a stack needs after its deployment, before it can serve."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jobgate.cli import inputs
from jobgate.cli.errors import Refused
from jobgate.cli.signing_keys import read_public_key
from jobgate.core.public_settings import PublicSettings

if TYPE_CHECKING:
    from jobgate.cli.connect import Connected


def set_up(connected: Connected, base_url: str | None, ca: str | None) -> None:
    """Write the settings and publish the first signing key; a second run changes nothing.

    What isn't given stays as it was set before, a custom domain for instance. A key that is
    published already keeps its times, and a rotated set of keys is left alone. Raises Refused on a
    table that was restored: its settings are what keeps it from deciding.
    """
    output = connected.output
    known, table_id = connected.registry.settings(), connected.table.id()
    if known is not None and known.table_id not in (None, table_id):
        raise Refused("This table was restored from a backup: run `jobgate reconcile` first.")
    chosen = _base_url(connected, base_url, None if known is None else known.base_url)
    key_id, is_new = _first_key(connected)
    if known is not None and known.base_url != chosen:
        connected.registry.keep_former_url(known.base_url)
    settings = dataclasses.replace(
        known or PublicSettings(base_url=chosen), base_url=chosen, table_id=table_id
    )
    connected.registry.save_settings(
        settings if ca is None else dataclasses.replace(settings, ca=ca)
    )
    output.say(f"The base URL is {chosen}.")
    output.say(f"{'Published' if is_new else 'Already published:'} the signing key {key_id}.")
    if connected.registry.issuers():
        output.say("Next: `jobgate agent register GROUP/PROJECT NAME …`.")
    else:
        output.say("Next: `jobgate issuer add ALIAS --url URL --audience AUD --token-file FILE`.")
    output.result({"base_url": chosen, "kid": key_id, "published_now": is_new})


def _base_url(connected: Connected, wanted: str | None, known: str | None) -> str:
    """The option, else what was set before, else the stack's own."""
    if wanted is not None:
        return inputs.https_url(wanted, "--base-url")
    if known is not None and known != connected.stack.base_url:
        connected.output.say(
            f"The stack's own URL is {connected.stack.base_url}; --base-url would change to it."
        )
    return known or inputs.https_url(connected.stack.base_url, "The stack's output BaseUrl")


def _first_key(connected: Connected) -> tuple[str, bool]:
    """The `kid` of the key that stands for slot A, or the newest one, and whether it's new."""
    published = connected.registry.public_keys()
    if published:
        newest = max(published, key=lambda key: key.not_before)
        return newest.kid, False
    # Nobody can have cached a set of keys yet, so the very first one may sign at once.
    key = read_public_key(
        connected.aws, connected.stack.signing_key_a, not_before=connected.outside.clock()
    )
    return key.kid, connected.registry.publish(key)
