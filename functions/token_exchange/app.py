"""/token, /kubeconfig, /credential, /explain, /.well-known/*: from ID tokens to access tokens."""

import os

from jobgate import wiring

handler = wiring.token_exchange(os.environ)
