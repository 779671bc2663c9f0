from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from local.kubernetes.binaries import (
    NAMES,
    Binaries,
    BinariesUnavailableError,
    binaries,
    search,
)
from local.kubernetes.build import cache_key
from local.kubernetes.cache import CacheBusyError, cache_root, exclusive
from local.kubernetes.go import is_new_enough

if TYPE_CHECKING:
    from pathlib import Path

# Stands in for Go: `go env GOVERSION`, and a `go build` that writes its -o file or fails.
FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26.0; exit; fi
while [ "$1" != -o ]; do shift; done
echo half > "$2"
{then}
echo "#!/bin/sh" > "$2"; chmod +x "$2"; echo "$3" >> "{built}"
"""


class Said:
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ticks: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def tick(self, what: str) -> None:
        self.ticks.append(what)

    def clear(self) -> None:
        pass


def programs(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def environment(tmp_path: Path, *, then: str = "") -> dict[str, str]:
    go = programs(tmp_path / "bin", "go") / "go"
    go.write_text(FAKE_GO.format(then=then, built=tmp_path / "built"))
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": f"{go.parent}:{os.defpath}"}


def built(tmp_path: Path) -> list[str]:
    return (tmp_path / "built").read_text().split()


def test_assets_win_over_the_cache(tmp_path: Path) -> None:
    assets, cached = programs(tmp_path / "a", *NAMES), programs(tmp_path / "c", *NAMES)

    result = search(assets=assets, cached=cached)

    assert result.found == {name: assets / name for name in NAMES}
    assert (result.missing, result.notes) == ((), ())


def test_what_assets_lack_is_said_and_taken_from_the_cache(tmp_path: Path) -> None:
    assets = programs(tmp_path / "a", "kube-apiserver", "etcd", "kubectl")
    cached = programs(tmp_path / "c", *NAMES)

    result = search(assets=assets, cached=cached)

    assert result.found == {
        "kube-apiserver": assets / "kube-apiserver",
        "etcd": assets / "etcd",
        "kube-controller-manager": cached / "kube-controller-manager",
        "fakelet": cached / "fakelet",
    }
    (note,) = result.notes
    assert note == (
        f"KUBEBUILDER_ASSETS ({assets}) has no kube-controller-manager and fakelet: "
        "taken from the cache or built instead."
    )


def test_assets_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    result = search(assets=tmp_path / "nowhere", cached=programs(tmp_path / "c", *NAMES))

    assert result.missing == ()
    assert f"KUBEBUILDER_ASSETS ({tmp_path / 'nowhere'}) has no kube-apiserver" in result.notes[0]


def test_file_that_can_not_be_executed_is_no_program(tmp_path: Path) -> None:
    cached = programs(tmp_path / "c", *NAMES)
    (cached / "etcd").chmod(0o644)

    assert search(assets=None, cached=cached).missing == ("etcd",)


def test_cached_programs_are_used_without_a_go(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    folder = programs(cache_root(environ) / cache_key(), *NAMES)
    said = Said()

    found = binaries(environ, progress=said)

    assert found == Binaries(*(folder / name for name in NAMES))
    assert said.lines == []


def test_only_missing_programs_are_built(tmp_path: Path) -> None:
    environ = environment(tmp_path)
    assets = programs(tmp_path / "a", "kube-apiserver", "etcd")
    folder = cache_root(environ) / cache_key()

    found = binaries({**environ, "KUBEBUILDER_ASSETS": str(assets)}, progress=Said())

    assert built(tmp_path) == ["k8s.io/kubernetes/cmd/kube-controller-manager", "./fakelet"]
    assert found == Binaries(
        assets / "kube-apiserver",
        assets / "etcd",
        folder / "kube-controller-manager",
        folder / "fakelet",
    )


def test_cost_of_the_build_is_said_before_it_and_each_step_is_counted(tmp_path: Path) -> None:
    said = Said()

    binaries(environment(tmp_path), progress=said)

    assert "four to six minutes" in said.lines[0]
    assert str(tmp_path / "cache") in said.lines[0]
    assert [line.split(" in ")[0] for line in said.lines[1:]] == [f"Built {n}" for n in NAMES]
    assert set(said.ticks) <= {f"Building {n} ({i} of 4)" for i, n in enumerate(NAMES, start=1)}


def test_failed_build_leaves_no_half_program_and_names_two_ways_out(tmp_path: Path) -> None:
    environ = environment(tmp_path, then="echo no such module >&2; exit 1")

    with pytest.raises(BinariesUnavailableError) as refused:
        binaries(environ, progress=Said())

    message = str(refused.value)
    assert "no such module" in message
    assert "set KUBEBUILDER_ASSETS to a folder that holds" in message
    assert "make demo CLUSTER=KUBECONFIG_FILE" in message
    left = (cache_root(environ) / cache_key()).iterdir()
    assert [path.name for path in left] == [".lock"]


def test_interrupted_build_keeps_what_was_finished_and_goes_on_from_there(tmp_path: Path) -> None:
    class Interrupting(Said):
        def tick(self, what: str) -> None:
            if "etcd" in what:
                raise KeyboardInterrupt

    slow = 'case "$3" in *etcd*) sleep 60;; esac'
    with pytest.raises(KeyboardInterrupt):
        binaries(environment(tmp_path, then=slow), progress=Interrupting())
    binaries(environment(tmp_path), progress=Said())

    assert [package.rsplit("/", 1)[-1] for package in built(tmp_path)] == [
        "kube-apiserver",
        "v3",
        "kube-controller-manager",
        "fakelet",
    ]


def test_cache_folder_depends_on_modules_and_sources(tmp_path: Path) -> None:
    (tmp_path / "fakelet").mkdir()
    files = {
        "go.mod": "require (\n\tk8s.io/kubernetes v1.36.4\n)\n",
        "go.sum": "",
        "fakelet/main.go": "package main\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    keys = {cache_key(tmp_path)}
    for name in files:
        with (tmp_path / name).open("a") as file:
            file.write("// changed\n")
        keys.add(cache_key(tmp_path))

    assert len(keys) == 4


def test_second_holder_of_a_cache_folder_waits_for_the_first(tmp_path: Path) -> None:
    class WaitingError(Exception):
        pass

    def waiting() -> None:
        raise WaitingError

    with exclusive(tmp_path, waiting=waiting):
        with pytest.raises(WaitingError), exclusive(tmp_path, waiting=waiting):
            pytest.fail("both hold it")
        with pytest.raises(CacheBusyError), exclusive(tmp_path, waiting=waiting, seconds=-1):
            pytest.fail("both hold it")
    with exclusive(tmp_path, waiting=waiting) as work:
        assert work.is_dir()


def test_unfinished_work_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-killed").mkdir()

    with exclusive(tmp_path, waiting=lambda: None) as work:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [work]


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/jobgate/kubernetes"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/jobgate/kubernetes"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/jobgate/kubernetes"),
        ({"HOME": "/h"}, "/h/.cache/jobgate/kubernetes"),
    ],
)
def test_cache_lies_where_xdg_says(environ: dict[str, str], root: str) -> None:
    assert str(cache_root(environ)) == root


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("go1.26", True),
        ("go1.26.8", True),
        ("go1.100.0", True),
        ("go2.0", True),
        ("go1.27rc1", True),
        ("go1.25.9", False),
        ("go1.3", False),
        ("devel go1.30", False),
        ("", False),
    ],
)
def test_go_must_be_at_least_1_26(version: str, *, enough: bool) -> None:
    assert is_new_enough(version) is enough
