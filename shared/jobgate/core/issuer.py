"""The GitLab instances that a deployment trusts."""

from __future__ import annotations

import re
from dataclasses import dataclass

ALIAS_FORM = re.compile(r"[a-z0-9-]{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One GitLab instance.

    `url` equals the `iss` claim byte for byte; `base_url` is where its API answers (both without a
    closing slash). `ca` is PEM text, absent for a public CA. Of the default issuer the Kubernetes
    identities keep GitLab's bare names (`gitlab:ci_job:42`), others carry the alias. `single_use`:
    an ID token is redeemed once.
    """

    alias: str
    url: str
    base_url: str
    audience: str
    ca: str | None
    is_default: bool
    single_use: bool = False

    @property
    def identity_prefix(self) -> str:
        """What every Kubernetes user and group of this issuer begins with, without the colon."""
        return "gitlab" if self.is_default else f"gitlab@{self.alias}"
