"""Prepares everything that a local cluster needs, so that a later start takes seconds."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

from local.kubernetes.binaries import BinariesUnavailableError, binaries
from local.kubernetes.clients import ClientsUnavailableError, clients
from local.kubernetes.progress import TerminalProgress


def main() -> int:
    """Fetch the clients, find or build the binaries, print where each is."""
    environ = os.environ  # noqa: TID251  the entry point
    progress = TerminalProgress(sys.stderr)
    try:
        places = asdict(clients(environ=environ, progress=progress))
        places |= asdict(binaries(environ, progress=progress))
    except (BinariesUnavailableError, ClientsUnavailableError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for name, path in places.items():
        print(f"{name}\t{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
