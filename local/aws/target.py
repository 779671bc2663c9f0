"""The Python and CPU that a build is for: those of the interpreter that will run it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_IDENTIFY = """
import json, sys, sysconfig
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "platform": sysconfig.get_platform(),
    "build": sys.version,
}))
"""

# Runs isolated from every environment but the layer's, so that nothing else can stand in.
_PROVE = """
import pathlib, sys
layer = pathlib.Path(sys.argv[1])
sys.path[:] = [str(layer), *(entry for entry in sys.path if "site-packages" not in entry)]
import boto3, cryptography.hazmat.bindings._rust, jobgate, jwt, yaml, yaml._yaml
for module in (boto3, jobgate, jwt, yaml):
    if not pathlib.Path(module.__file__).is_relative_to(layer):
        sys.exit(f"{module.__name__} comes from {module.__file__}")
    if not pathlib.Path(module.__spec__.cached).is_file():
        sys.exit(f"{module.__name__} has no bytecode for Python {sys.version.split()[0]}")
"""


class UnfitBuildError(Exception):
    """The built layer doesn't run on the interpreter that is to run it."""


@dataclass(frozen=True, slots=True)
class Target:
    """`version` is "3.11", `platform` as sysconfig names it, `build` the interpreter's identity."""

    interpreter: Path
    version: str
    platform: str
    build: str

    @property
    def runtime(self) -> str:
        """Lambda's name of it: the template's parameter PythonRuntime."""
        return f"python{self.version}"

    @property
    def architecture(self) -> str:
        """Lambda's name of the CPU: the template's parameter Architecture."""
        return "arm64" if self.platform.endswith(("aarch64", "arm64")) else "x86_64"

    @property
    def wheel_platforms(self) -> str:
        """The platforms whose wheels fit, as the layer's Makefile takes them."""
        system, _, cpu = self.platform.partition("-")
        if system == "linux":
            return f"manylinux2014_{cpu} manylinux_2_28_{cpu}"
        return self.platform.replace("-", "_").replace(".", "_")


def target_of(interpreter: Path) -> Target:
    """Ask `interpreter` what it is."""
    told = subprocess.run(
        [interpreter, "-I", "-c", _IDENTIFY], check=True, capture_output=True, timeout=60
    )
    return Target(interpreter=interpreter, **json.loads(told.stdout))


def prove_fit(layer: Path, target: Target) -> None:
    """Import the layer's packages with the target's interpreter; raises UnfitBuildError.

    A wheel for another Python or CPU needn't fail by itself: PyYAML silently goes without its
    C loader.
    """
    done = subprocess.run(
        [target.interpreter, "-I", "-c", _PROVE, layer / "python"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise UnfitBuildError(
            f"The layer in {layer} doesn't fit {target.interpreter} (Python {target.version} on "
            f"{target.platform}).\n{done.stderr.strip()}"
        )
