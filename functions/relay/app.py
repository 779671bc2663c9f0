"""ANY /agents/{agent_id}/{proxy+}: one Kubernetes API request, decided and streamed back."""

import os

from jobgate import wiring

handler = wiring.relay(os.environ)
