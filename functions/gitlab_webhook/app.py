"""POST /webhooks/gitlab/{alias}: a refresh is queued, or a job's end is noted."""

import os

from jobgate import wiring

handler = wiring.gitlab_webhook(os.environ)
