"""What is given to others: the command from its wheel alone, and a release's bytes."""

from __future__ import annotations

import hashlib
import io
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


def test_the_installed_command_decides_about_a_job(installed: Path, tmp_path: Path) -> None:
    agents = tmp_path / ".gitlab/agents"
    (agents / "production").mkdir(parents=True)
    (agents / "production/config.yaml").write_text("ci_access: {projects: [{id: acme/shop}]}\n")
    instance = {
        "v": 1,
        "settings": {},
        "users": [],
        "groups": [{"id": 1, "full_path": "acme", "parent_id": None}],
        "projects": [
            {"id": 50, "path_with_namespace": "acme/agents", "namespace_id": 1},
            {"id": 100, "path_with_namespace": "acme/shop", "namespace_id": 1},
        ],
        "agents": [{"id": 7, "name": "production", "project_id": 50}],
    }
    claims = {
        "namespace_id": "1",
        "project_id": "100",
        "project_path": "acme/shop",
        "job_project_id": "100",
        "job_project_path": "acme/shop",
        "job_namespace_id": "1",
        "user_login": "dana",
        "pipeline_id": "7001",
        "pipeline_source": "push",
        "job_id": "9001",
        "ref": "main",
        "ref_protected": "true",
    }
    (tmp_path / "instance.json").write_text(json.dumps(instance))
    (tmp_path / "claims.json").write_text(json.dumps(claims))

    options = ("--agents", agents, "--instance", "instance.json", "--claims", "claims.json")
    found = json.loads(run(installed, "decide", *options, "--json", folder=tmp_path))

    assert [(each["context"], each["allowed"]) for each in found["agents"]] == [
        ("acme/agents:production", True)
    ]


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


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """Files by name, built in two folders, one after the other, with two umasks."""
    folder = tmp_path_factory.mktemp("releases")
    around = dict(os.environ)  # noqa: TID251  as `make`
    run("make", ".venv-sam/.ready", ".venv-release/.ready", folder=ROOT, **around)
    built = []
    for name, umask in (("one", 0o022), ("two", 0o077)):
        source, dist = folder / name / "source", folder / name / "dist"
        before = os.umask(umask)
        try:
            run("git", "clone", "--quiet", ROOT, source, folder=folder)
            dist.mkdir()
            script = (
                "import sys; from pathlib import Path; from local.release import build; "
                "build(Path(sys.argv[1]), Path(sys.argv[2]), epoch='1700000000')"
            )
            run(RELEASE, "-c", script, source, dist, folder=ROOT, **around)
        finally:
            os.umask(before)
        built.append({file.name: file.read_bytes() for file in dist.iterdir()})
    return built


@pytest.mark.long
def test_two_builds_of_a_release_are_the_same_bytes(releases: list[dict[str, bytes]]) -> None:
    one, two = releases

    assert one.keys() == {
        f"jobgate-{jobgate.__version__}-aws.zip",
        f"jobgate-{jobgate.__version__}-command.cdx.json",
        f"jobgate-{jobgate.__version__}-layer.cdx.json",
        f"jobgate-{jobgate.__version__}-py3-none-any.whl",
        f"jobgate-{jobgate.__version__}.tar.gz",
        "SHA256SUMS",
    }
    assert [name for name in one if one[name] != two[name]] == []
    sums = dict(line.split("  ")[::-1] for line in one["SHA256SUMS"].decode().splitlines())
    assert sums == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in one.items()
        if name != "SHA256SUMS"
    }


@pytest.mark.long
def test_a_release_holds_what_its_template_deploys(releases: list[dict[str, bytes]]) -> None:
    packed = releases[0][f"jobgate-{jobgate.__version__}-aws.zip"]
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = archive.namelist()
        template = archive.read("template.yaml").decode()
        runtime = archive.getinfo("SharedLayer/bin/streaming-runtime").external_attr >> 16

    # Globals name the sources' folder, which each function replaces.
    folders = set(re.findall(r"^ {6}(?:Code|Content)Uri: (\S+)$", template, re.MULTILINE))
    assert len(folders) == 6
    assert {name.partition("/")[0] for name in names} == {"template.yaml", *folders}
    assert runtime == 0o100755
    assert "SharedLayer/python/jobgate/core/__pycache__/authorization.cpython-313.pyc" in names


@pytest.mark.long
def test_a_releases_bill_of_materials_is_the_layers_lock(releases: list[dict[str, bytes]]) -> None:
    bill = json.loads(releases[0][f"jobgate-{jobgate.__version__}-layer.cdx.json"])

    parts = {f"{each['name']}=={each['version']}" for each in bill["components"]}
    assert parts == pins("shared/requirements.txt")
    component = bill["metadata"]["component"]
    assert (component["name"], component["version"]) == ("jobgate", jobgate.__version__)
    assert not re.search(r"https?://(?!pypi\.org|cyclonedx\.org)[\w.-]+/simple", json.dumps(bill))
