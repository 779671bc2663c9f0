"""One flow a file: read ports, ask core, write ports."""
