"""Every flow of every function, each by an event in a fresh process of the built function.

A flow asserts what it is there for in the table, in GitLab or in the cluster, not only its answer:
what can't be read or kept is often done without.
"""

from __future__ import annotations

from tests import role_flows_of_configuration, role_flows_of_jobs, role_flows_of_webhooks

FLOWS = (
    *role_flows_of_webhooks.FLOWS,
    *role_flows_of_configuration.FLOWS,
    *role_flows_of_jobs.FLOWS,
)
