"""`python -m jobgate.cli`."""

from jobgate.cli.app import main

main()
