"""What stands for AWS's image of a Python runtime where none can be pulled.

The machine's own interpreter as /var/lang, AWS's runtime client and boto3 as /var/runtime, and the
few programs and libraries that these and the SAM CLI's build need. It is this machine's C library,
so it can't show that a wheel fits Amazon Linux.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BOOTSTRAP = """\
#!/bin/sh
# AWS's: a wrapper, where the function names one, gets the runtime's command line as arguments.
exec ${AWS_LAMBDA_EXEC_WRAPPER:-} /var/lang/bin/python3 /var/runtime/bootstrap.py /opt
"""
_PROGRAMS = ("sh", "mv", "chmod", "cp", "rm", "dirname")
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_NOT_TAKEN = frozenset(
    {"__pycache__", "test", "tests", "site-packages", "dist-packages", "idlelib", "ensurepip"}
)
_IDENTIFY = """
import json, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
print(json.dumps([sys.executable, sysconfig.get_path("stdlib"), version]))
"""
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
_SECONDS = 60

ENVIRONMENT = {
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
}
"""As in AWS's image."""


def write_base_image(out: IO[bytes], python: Path, runtime: Path) -> None:
    """Write the image's file system as a tar archive.

    `python` is the interpreter, `runtime` what `runtime_folder.prepare_runtime` made for it. Raises
    FileNotFoundError for a program that this machine lacks.
    """
    told = subprocess.run(
        [python.resolve(), "-I", "-c", _IDENTIFY], check=True, capture_output=True, timeout=_SECONDS
    )
    executable, library, version = json.loads(told.stdout)
    programs = {f"/usr/bin/{name}": _program(name) for name in _PROGRAMS}
    programs[f"/var/lang/bin/python{version}"] = Path(executable).resolve()
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for place in ("tmp", "var/task", "var/rapid", "opt", "etc"):
            _add_folder(archive, place)
        for link in ("bin", "sbin"):
            _add_link(archive, link, "usr/bin")
        _add_link(archive, "var/lang/bin/python3", f"python{version}")
        for place, file in programs.items():
            _add(archive, file, place)
        _add_tree(archive, Path(library), f"var/lang/lib/python{version}")
        _add_tree(archive, runtime / "runtime", "var/runtime")
        _add_text(archive, "var/runtime/bootstrap", _BOOTSTRAP)
        extensions = [*Path(library).rglob("*.so"), *(runtime / "runtime").rglob("*.so")]
        for file in _libraries([*programs.values(), *extensions]):
            _add(archive, file.resolve(), str(file))
        if _AUTHORITIES.is_file():
            _add(archive, _AUTHORITIES.resolve(), str(_AUTHORITIES))


def _program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"The base image needs {name}, which isn't on PATH.")
    return Path(found).resolve()


def _libraries(files: Iterable[Path]) -> set[Path]:
    """The shared libraries that `files` are linked to, directly or not."""
    told = subprocess.run(
        ["ldd", *files], check=False, capture_output=True, text=True, timeout=_SECONDS
    )
    return {Path(found) for found in _LIBRARY.findall(told.stdout)}


def _add(archive: tarfile.TarFile, file: Path, place: str) -> None:
    archive.add(file, place.removeprefix("/"), recursive=False)


def _add_tree(archive: tarfile.TarFile, folder: Path, place: str) -> None:
    for file in _taken(folder):
        archive.add(file, f"{place}/{file.relative_to(folder)}", recursive=False)


def _taken(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name in _NOT_TAKEN:
            continue
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _taken(entry)


def _add_folder(archive: tarfile.TarFile, place: str) -> None:
    member = tarfile.TarInfo(place)
    member.type, member.mode = tarfile.DIRTYPE, 0o1777 if place == "tmp" else 0o755
    archive.addfile(member)


def _add_link(archive: tarfile.TarFile, place: str, target: str) -> None:
    member = tarfile.TarInfo(place)
    member.type, member.linkname = tarfile.SYMTYPE, target
    archive.addfile(member)


def _add_text(archive: tarfile.TarFile, place: str, text: str) -> None:
    member = tarfile.TarInfo(place)
    member.mode, member.size = 0o755, len(text.encode())
    archive.addfile(member, io.BytesIO(text.encode()))
