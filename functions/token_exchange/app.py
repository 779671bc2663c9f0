"""/token, /kubeconfig, /credential and /.well-known/*: a job's ID token becomes an access token."""

import os

from jobgate import wiring

handler = wiring.token_exchange(os.environ)
