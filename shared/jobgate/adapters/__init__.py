"""The outside systems, one a file, behind the protocols of `jobgate.ports`."""
