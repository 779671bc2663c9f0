"""What is given to others: the command from its wheel alone, and a release's bytes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import jobgate
import pytest

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / ".venv-release/bin/python"


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare virtual environment that holds the wheel and what it asks for, at locked versions."""
    folder = tmp_path_factory.mktemp("bare")
    uv, around = Path(sys.executable).with_name("uv"), dict(os.environ)  # noqa: TID251  as `make`
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv", folder=folder, **around)
    install = ("pip", "install", "--quiet", "--python", folder / "venv")
    locks = ("--constraint", ROOT / "requirements/command.txt")
    run(uv, *install, *locks, wheel, folder=folder, **around)
    return folder / "venv/bin/jobgate"


def test_the_installed_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "--version", folder=tmp_path) == f"jobgate {jobgate.__version__}\n"


def test_the_installed_command_checks_a_configuration(installed: Path, tmp_path: Path) -> None:
    file = tmp_path / ".gitlab/agents/production/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("ci_access:\n  projects:\n    - id: acme/shop\n")

    assert run(installed, "lint", folder=tmp_path) == "No findings.\n"


def test_the_installed_command_prints_a_clusters_least_rights(
    installed: Path, tmp_path: Path
) -> None:
    assert "kind: ClusterRole" in run(
        installed, "rbac", "--impersonation", "legacy", folder=tmp_path
    )


def test_every_module_is_imported_with_what_the_wheel_asks_for(
    installed: Path, tmp_path: Path
) -> None:
    script = (
        "import importlib, pkgutil, jobgate; "
        "names = [m.name for m in pkgutil.walk_packages(jobgate.__path__, 'jobgate.')]; "
        "[importlib.import_module(name) for name in names if not name.endswith('__main__')]; "
        "print(len(names))"
    )

    assert int(run(installed.with_name("python"), "-c", script, folder=tmp_path)) > 100


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        described = archive.read(metadata).decode()

    assert top == {"jobgate", f"jobgate-{jobgate.__version__}.dist-info"}
    assert f"\nVersion: {jobgate.__version__}\n" in described


def test_the_layer_needs_what_the_package_needs_too() -> None:
    """Two lists, since a package's dependencies can't name a group (PEP 735)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    layer = set(project["dependency-groups"]["layer"])

    assert layer < set(project["project"]["dependencies"])


def pins(lock: str) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[^ ;]+", (ROOT / lock).read_text(), re.MULTILINE))


def test_the_command_is_locked_to_what_the_tests_run_with() -> None:
    assert pins("requirements/command.txt") <= pins("requirements/dev.txt")
    assert pins("shared/requirements.txt") <= pins("requirements/command.txt")


def test_the_changelog_names_no_other_version_as_its_newest() -> None:
    headings = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert headings[0] in {"Unreleased", jobgate.__version__}


@pytest.mark.long
def test_two_builds_of_a_release_are_the_same_bytes(tmp_path: Path) -> None:
    """In two folders, at two times, with two umasks."""
    run("make", ".venv-release/.ready", folder=ROOT, HOME=str(Path.home()))
    built = []
    for name, umask in (("one", 0o022), ("two", 0o077)):
        source, dist = tmp_path / name / "source", tmp_path / name / "dist"
        before = os.umask(umask)
        try:
            run("git", "clone", "--quiet", ROOT, source, folder=tmp_path)
            dist.mkdir()
            script = (
                "import sys; from pathlib import Path; from local.release import build; "
                "build(Path(sys.argv[1]), Path(sys.argv[2]), epoch='1700000000')"
            )
            run(RELEASE, "-c", script, source, dist, folder=ROOT)
        finally:
            os.umask(before)
        built.append({file.name: file.read_bytes() for file in dist.iterdir()})

    assert built[0].keys() == {
        f"jobgate-{jobgate.__version__}-command.cdx.json",
        f"jobgate-{jobgate.__version__}-layer.cdx.json",
        f"jobgate-{jobgate.__version__}-py3-none-any.whl",
        f"jobgate-{jobgate.__version__}.tar.gz",
        "SHA256SUMS",
    }
    assert [name for name in built[0] if built[0][name] != built[1][name]] == []
    bill = json.loads(built[0][f"jobgate-{jobgate.__version__}-layer.cdx.json"])
    parts = {f"{each['name']}=={each['version']}" for each in bill["components"]}
    assert parts == pins("shared/requirements.txt")
    component = bill["metadata"]["component"]
    assert (component["name"], component["version"]) == ("jobgate", jobgate.__version__)
    assert not re.search(r"https?://(?!pypi\.org|cyclonedx\.org)[\w.-]+/simple", json.dumps(bill))
