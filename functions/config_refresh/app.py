"""Messages of the refresh queue: one configuration project each, read and published."""

import os

from jobgate import wiring

handler = wiring.config_refresh(os.environ)
