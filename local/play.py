"""`make play`: the jobs of a `.gitlab-ci.yml`, one after another, on the stack of `make local`.

Each is a job of a project in the GitLab stand-in, with an ID token of its own; its lines run in a
shell as GitLab's runner would run them, and then it ends. Rules and needs aren't looked at.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.gitlab.control_connection import ControlError
from local.invoke import Surroundings
from local.pipeline import COMPONENT, TEMPLATE, Component, PipelineError, read
from local.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str]) -> int:
    """Play a file's jobs; the exit code is the first failed job's."""
    parser = argparse.ArgumentParser(prog="make play", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--project", default="acme/shop/web")
    parser.add_argument("--folder", type=Path, default=ROOT / ".local")
    options = parser.parse_args(arguments)
    try:
        surroundings = Surroundings.read(options.folder / "endpoints.json")
    except OSError:
        print("Nothing runs: run `make local` in another terminal.", file=sys.stderr)
        return 3
    try:
        # The stack's own address stands for that of the file: it has another port each time.
        here = Component(TEMPLATE, {"url": surroundings.gateway})
        for name, found in read(options.file, {COMPONENT: here}).items():
            print(f"── {name} of {options.project}")
            if code := _play(surroundings, options.project, name, found, options.file.parent):
                return code
    except (PipelineError, ControlError, OSError, KeyError) as error:
        print(f"{options.file}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


def _play(
    surroundings: Surroundings, project: str, name: str, found: Mapping[str, Any], checkout: Path
) -> int:
    gitlab = surroundings.gitlab
    wanted = {key: str(given["aud"]) for key, given in found.get("id_tokens", {}).items()}
    job = gitlab.create_job(project, audience=list(wanted.values()), name=name)
    with tempfile.TemporaryDirectory() as folder:
        programs = Path(folder, "bin")
        programs.mkdir()
        for program in surroundings.programs:
            (programs / program.name).symlink_to(program)
        runner = Runner(
            Path(folder),
            environment={
                "PATH": f"{programs}:{Path(sys.executable).parent}:{os.defpath}",
                "HOME": folder,
                "CURL_CA_BUNDLE": str(surroundings.ca),
                "CI": "true",
                "CI_JOB_ID": str(job.id),
                "CI_JOB_NAME": name,
                "CI_PIPELINE_ID": str(job.pipeline_id),
                "CI_PROJECT_ID": str(job.project_id),
                "CI_PROJECT_PATH": project,
                "CI_COMMIT_SHA": job.sha,
                "CI_COMMIT_SHORT_SHA": job.sha[:8],
                **{key: job.id_tokens[audience] for key, audience in wanted.items()},
            },
            checkout=checkout,
        )
        code, said = runner.run(found)
        print(said, end="")
        if found["after_script"]:
            print(runner.run(found, part="after_script")[1], end="")
    gitlab.finish_job(job, "failed" if code else "success")
    gitlab.close()
    print(f"Job {job.id} ended with {code}.")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
