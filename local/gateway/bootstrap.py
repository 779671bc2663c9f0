"""What /var/runtime/bootstrap.py does on AWS: search path, then the unmodified runtime client.

The local gateway copies this file into the runtime folder; the workers' interpreter runs it there,
without anything else of this project. Its argument is the folder that stands for /opt.
"""

import importlib
import os
import sys


def main() -> None:
    """Run the handler that the environment names, until the process is ended."""
    runtime_folder = sys.path.pop(0)  # Python puts the script's own folder first.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layers = [
        place
        for layer in sys.argv[1:]
        for place in (f"{layer}/python/lib/{version}/site-packages", f"{layer}/python")
    ]
    # The function's own packages win over the runtime's, as on AWS.
    task_root = os.environ["LAMBDA_TASK_ROOT"]  # noqa: TID251  Lambda's own setting
    sys.path[:0] = [task_root, *layers]
    sys.path.append(runtime_folder)

    run = importlib.import_module("awslambdaric.__main__").main

    run(["awslambdaric", os.environ["_HANDLER"]])  # noqa: TID251  Lambda's own setting


if __name__ == "__main__":
    main()
