"""Jobgate: a GitLab CI job's ID token becomes short-lived access to a Kubernetes cluster.

Three flows, one name each, and each reads from the outside in:

- exchange: `usecases/exchange.py`, decided by `core/authorization.py`;
- relay: `usecases/relay.py`, decided by the same, then `core/impersonation.py` and
  `core/upstream_request.py`;
- refresh: `usecases/receive_webhook.py`, `refresh.py` and `reconcile.py`, decided by
  `core/agent_configuration.py` and `core/snapshot.py`.

`core` is pure: values in, values out. `ports` says what a flow needs from outside, `adapters` are
the outside systems, one a file, and `wiring` puts them together.
"""

__version__ = "0.1.0"
