"""`make release`: dist/ from the last commit, the same bytes wherever and whenever it's built.

The wheel and the source archive, the built functions with their template, an SBOM (CycloneDX) of
the Lambda layer and one of the command, and SHA256SUMS. Times in them are the commit's
(https://reproducible-builds.org, SOURCE_DATE_EPOCH).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LOCKS = {"layer": "shared/requirements.txt", "command": "requirements/command.txt"}


def main() -> int:
    """Build it; refuses where the last commit isn't what is there."""
    if _git("status", "--porcelain", "--untracked-files=no"):
        print("Commit first: a release is built from the last commit.", file=sys.stderr)
        return 1
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    with tempfile.TemporaryDirectory(prefix="jobgate-release-") as folder:
        source = Path(folder) / "source"
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", "HEAD"))) as archive:
            archive.extractall(source, filter="data")
        build(source, dist, epoch=_git("log", "-1", "--format=%ct").decode().strip())
    for each in sorted(dist.iterdir()):
        print(each.relative_to(ROOT))
    return 0


def build(source: Path, dist: Path, *, epoch: str) -> None:
    """Build a folder of sources into `dist`; `epoch` is the release's time in seconds."""
    around = os.environ  # noqa: TID251  a program of its own
    fixed = {"SOURCE_DATE_EPOCH": epoch, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}
    environment = {**around, **fixed}
    version = _run(source, environment, "hatchling", "version").decode().strip()
    _run(source, environment, "hatchling", "build", "-d", str(dist))
    _zip(_built_functions(source, environment), dist / f"jobgate-{version}-aws.zip", int(epoch))
    # The bill of materials takes the version from here, where the package computes it.
    project = source / "pyproject.toml"
    stated = project.read_text().replace('dynamic = ["version"]', f'version = "{version}"')
    project.write_text(stated)
    for name, lock in _LOCKS.items():
        bill = str(dist / f"jobgate-{version}-{name}.cdx.json")
        options = ("--short-PURLs", "--output-reproducible", "--pyproject", "pyproject.toml")
        _run(source, environment, "cyclonedx_py", "requirements", lock, *options, "-o", bill)
    sums = (f"{_sha256(each)}  {each.name}\n" for each in sorted(dist.iterdir()))
    (dist / "SHA256SUMS").write_text("".join(sums))


def _built_functions(source: Path, environment: dict[str, str]) -> Path:
    """What `sam build` makes for the template's own Python and CPU; exits where it can't."""
    built = source / ".aws-sam/release"
    given = {name: each for name, each in environment.items() if "JOBGATE_TARGET" not in name}
    fixed = {
        "JOBGATE_PIP": f"{ROOT / '.venv/bin/python'} -m pip",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(source / ".aws-sam/cli"),
    }
    command = [str(ROOT / ".venv-sam/bin/sam"), "build", "--build-dir", str(built)]
    done = subprocess.run(
        command, cwd=source, env=given | fixed, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"sam build failed.\n{done.stderr}")
    if not any((built / "SharedLayer").rglob("*.pyc")):
        # Whether it's there may not hang on the machine.
        sys.exit("A release needs a Python of the functions' version, to compile the bytecode.")
    return built


def _zip(folder: Path, archive: Path, epoch: int) -> None:
    """In the order of names, at one time, with no more of a mode than whether it's executable."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    with zipfile.ZipFile(archive, "w") as packed:
        for file in files:
            name = file.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(name, time.gmtime(epoch)[:6])
            mode = 0o100755 if file.stat().st_mode & 0o100 else 0o100644
            entry.external_attr = mode << 16
            packed.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _run(source: Path, environment: dict[str, str], module: str, *arguments: str) -> bytes:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=source, env=environment, check=True, stdout=subprocess.PIPE
    ).stdout


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    sys.exit(main())
