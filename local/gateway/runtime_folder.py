"""What stands for AWS's Python image: an interpreter, the runtime client, boto3.

`lang` is /var/lang: an interpreter that sees no installed package, so that one that the layer lacks
is missing here too. `runtime` is /var/runtime: the client, boto3 and the bootstrap.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent
_REQUIREMENTS = _ROOT / "requirements" / "runtime.txt"
_BOOTSTRAP = Path(__file__).parent / "bootstrap.py"
_INSTALL_SECONDS = 300


def prepare_runtime(folder: Path, python: Path) -> Path:
    """Return the folder of a runtime on `python`'s version, made below `folder` unless it's there.

    Its name is a hash of what went into it, so a cache may hold several. The only step of the
    gateway that asks the package registry. Raises subprocess.CalledProcessError.
    """
    interpreter = python.resolve()
    content = hashlib.sha256(str(interpreter).encode())
    content.update(_REQUIREMENTS.read_bytes())
    content.update(_BOOTSTRAP.read_bytes())
    finished = folder / f"lambda-{content.hexdigest()[:16]}"
    if finished.is_dir():
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        unfinished = Path(work) / "unfinished"
        python_itself = [str(interpreter), "-m", "venv", "--without-pip", str(unfinished / "lang")]
        subprocess.run(python_itself, check=True, timeout=_INSTALL_SECONDS)
        _install(unfinished / "runtime", interpreter)
        shutil.copy(_BOOTSTRAP, unfinished / "runtime" / "bootstrap.py")
        try:
            unfinished.rename(finished)
        except OSError:
            # Somebody else finished the same folder meanwhile.
            if not finished.is_dir():
                raise
    return finished


def _install(target: Path, python: Path) -> None:
    uv = Path(sys.executable).parent / "uv"
    subprocess.run(
        [
            *(str(uv), "pip", "install", "--quiet", "--require-hashes"),
            *("--python", str(python), "--target", str(target)),
            *("--requirement", str(_REQUIREMENTS)),
        ],
        check=True,
        timeout=_INSTALL_SECONDS,
        env=dict(os.environ),  # noqa: TID251  the registry that this machine uses is set there
    )
