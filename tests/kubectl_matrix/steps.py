"""The matrix's commands, in the order in which they run."""

from __future__ import annotations

from tests.kubectl_matrix.changes import (
    CHANGE,
    CUSTOM,
    DELETE,
    HELM,
    LISTS,
    LOGS,
    NOT_CARRIED,
    ROLLOUT,
    WATCH,
)
from tests.kubectl_matrix.looks import APPLY, DISCOVERY, IDENTITY, READ

STEPS = (
    *DISCOVERY,
    *IDENTITY,
    *APPLY,
    *READ,
    *CHANGE,
    *ROLLOUT,
    *LOGS,
    *NOT_CARRIED,
    *WATCH,
    *LISTS,
    *CUSTOM,
    *DELETE,
    *HELM,
)
