"""The schedule: one refresh message for each known configuration project."""

import os

from jobgate import wiring

handler = wiring.reconcile(os.environ)
