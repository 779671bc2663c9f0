"""Plays an example of docs/examples as GitLab would: a pipeline, its jobs, a runner for them."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.gitlab.environments import environment_slug, guessed_tier
from local.installation import AUDIENCE, WEB
from local.kubernetes.audit import audit_events
from local.pipeline import COMPONENT, TEMPLATE, Component, read
from local.runner import Runner, expanded
from tests.support.pipeline_rules import when

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.gitlab.control_connection import Job
    from local.installation import Installation
    from local.stack import Stack
    from tests.support.pipeline_rules import When

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
_BRANCH = "main"


@dataclass(frozen=True, slots=True)
class Origin:
    """How a pipeline came to be. `merge_request_of` is the project that a merge request is from."""

    project: str
    source: str = "push"
    ref: str = _BRANCH
    user: str = "root"
    merge_request_of: str | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """What the API server let a job do."""

    verb: str
    resource: str
    name: str


@dataclass(frozen=True, slots=True)
class Played:
    """A job that has run, with what it printed and what its shell had."""

    job: Job
    code: int
    said: str
    runner: Runner
    variables: Mapping[str, str]
    _log: Path
    _began: int  # the log's size

    def again(self, line: str) -> tuple[int, str]:
        """A line of shell with all that the job had, its kubeconfig and its ID token too."""
        return self.runner.line(line, self.variables)

    def acts(self, *verbs: str) -> list[Act]:
        """What it did in the cluster as itself, by the API server's record; dry runs aren't."""
        return [
            Act(event["verb"], event["objectRef"]["resource"], event["objectRef"].get("name", ""))
            for event in self._events()
            if event["verb"] in verbs
            and event["responseStatus"]["code"] < 300
            and "dryRun=" not in event["requestURI"]
            and "objectRef" in event
        ]

    def identity(self) -> dict[str, Any]:
        """Whom the API server saw in all of its requests."""
        first, *others = [event["impersonatedUser"] for event in self._events()]
        assert all(user == first for user in others)
        return dict(first)

    def _events(self) -> list[dict[str, Any]]:
        user = f"gitlab:ci_job:{self.job.id}"
        return [
            event
            for event in audit_events(self._log, after=self._began)
            if event.get("impersonatedUser", {}).get("username") == user
        ]


@dataclass(slots=True)
class ExamplePipeline:
    """A pipeline of an example's folder. `ids` are the projects' ids by path."""

    stack: Stack
    folder: Path
    origin: Origin
    ids: Mapping[str, int]
    example: str
    file: str = ".gitlab-ci.yml"
    settings: Mapping[str, str] = field(default_factory=dict)
    programs: tuple[Path, ...] = ()
    _id: int | None = None

    @property
    def jobs(self) -> dict[str, When]:
        """How each of its jobs starts."""
        variables = self._variables
        ways = {name: when(found, variables) for name, found in self._configuration().items()}
        return {name: way for name, way in ways.items() if way is not None}

    def play(self, name: str) -> Played:
        """Run a job that the pipeline has, by hand where it is manual, to its end."""
        found, way = self._configuration()[name], self.jobs[name]
        gitlab, log = self.stack.gitlab.control, self.stack.cluster.audit_log
        assert log is not None
        began = log.stat().st_size
        made = gitlab.create_job(
            self.origin.project,
            audience=AUDIENCE,
            status="manual" if way == "manual" else "running",
            **self._options(name, found),
        )
        self._id = made.pipeline_id
        if way == "manual":
            made = gitlab.set_job_status(made, "running")
        runner = self._runner(made, name, found)
        code, said = runner.run(found)
        variables = runner.variables(found)
        if found["after_script"]:
            said += runner.run(found, part="after_script")[1]
        gitlab.finish_job(made, "failed" if code else "success")
        return Played(made, code, said, runner, variables, log, began)

    def child(self, name: str) -> ExamplePipeline:
        """The pipeline that a trigger job starts."""
        found = self._configuration()[name]
        return ExamplePipeline(
            self.stack,
            self.folder,
            Origin(self.origin.project, "parent_pipeline", self.origin.ref, self.origin.user),
            self.ids,
            self.example,
            file=found["trigger"]["include"],
        )

    @property
    def _variables(self) -> dict[str, str]:
        """What GitLab predefines for the whole pipeline."""
        origin, ids = self.origin, self.ids
        known = {
            "CI": "true",
            "CI_PIPELINE_SOURCE": origin.source,
            "CI_DEFAULT_BRANCH": _BRANCH,
            "CI_PROJECT_ID": str(ids[origin.project]),
            "CI_PROJECT_PATH": origin.project,
            "CI_COMMIT_REF_NAME": origin.ref,
            "CI_COMMIT_REF_SLUG": re.sub("[^a-z0-9]", "-", origin.ref.lower())[:63].strip("-"),
        }
        if origin.merge_request_of is None:
            return {**known, "CI_COMMIT_BRANCH": origin.ref}
        return {
            **known,
            "CI_MERGE_REQUEST_IID": "7",
            "CI_MERGE_REQUEST_PROJECT_ID": str(ids[origin.project]),
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": str(ids[origin.merge_request_of]),
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": origin.ref,
        }

    def _configuration(self) -> dict[str, dict[str, Any]]:
        here = Component(TEMPLATE, {"url": self.stack.gateway.url})
        return read(EXAMPLES / self.example / self.file, {COMPONENT: here})

    def _options(self, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
        """What the job is to GitLab, and so to its ID token."""
        origin = self.origin
        options: dict[str, Any] = {
            "name": name,
            "ref": origin.ref,
            "source": origin.source,
            "source_project": origin.merge_request_of or origin.project,
            "user": origin.user,
        }
        if self._id is not None:
            options["pipeline_id"] = self._id
        if (environment := self._environment(found)) is not None:
            given = found["environment"]
            action = given.get("action", "start") if isinstance(given, dict) else "start"
            options |= {"environment": environment, "environment_action": action}
        return options

    def _environment(self, found: Mapping[str, Any]) -> str | None:
        given = found.get("environment")
        name = given["name"] if isinstance(given, dict) else given
        return None if name is None else expanded(name, self._variables)

    def _runner(self, made: Job, name: str, found: Mapping[str, Any]) -> Runner:
        folder = self.folder / str(made.id)
        (folder / "bin").mkdir(parents=True)
        environment = self._environment(found)
        deployment = {}
        if environment is not None:
            deployment = {
                "CI_ENVIRONMENT_NAME": environment,
                "CI_ENVIRONMENT_SLUG": environment_slug(environment),
                "CI_ENVIRONMENT_TIER": guessed_tier(environment),
            }
        return Runner(
            folder,
            environment={
                **self._variables,
                **deployment,
                **_machine(self.stack, folder, self.programs),
                "CI_JOB_ID": str(made.id),
                "CI_JOB_NAME": name,
                "CI_PIPELINE_ID": str(made.pipeline_id),
                "CI_COMMIT_SHA": made.sha,
                "CI_COMMIT_SHORT_SHA": made.sha[:8],
                "JOBGATE_ID_TOKEN": made.id_token,
            },
            settings=dict(self.settings),
            checkout=EXAMPLES / self.example,
        )


def _machine(stack: Stack, folder: Path, programs: tuple[Path, ...]) -> dict[str, str]:
    """The job's image: kubectl, helm, `programs`, this Python with its packages, and Debian's."""
    for program in (stack.clients.kubectl, stack.clients.helm, *programs):
        (folder / "bin" / program.name).symlink_to(program)
    for name, options in (("python", ""), ("pip", "-m pip")):
        wrapper = folder / "bin" / name
        wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" {options} "$@"\n')
        wrapper.chmod(0o755)
    return {
        "PATH": f"{folder / 'bin'}:{os.defpath}",
        "HOME": str(folder),
        "CURL_CA_BUNDLE": str(stack.authority.certificate),
        # What an example asks of pip is there already.
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


PUSH = Origin(WEB)
MERGE_REQUEST = Origin(WEB, "merge_request_event", "add-search", merge_request_of=WEB)


def succeeded(played: Played) -> Played:
    """The same job, which must have gone well."""
    assert played.code == 0, played.said
    return played


class Examples:
    """Starts pipelines of examples, and looks into the cluster as its administrator."""

    def __init__(self, stack: Stack, installation: Installation, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.ids = dict(installation.projects)
        self.space = f"--namespace={installation.namespace}"

    def pipeline(self, example: str, origin: Origin = PUSH, **options: Any) -> ExamplePipeline:
        """A new pipeline of an example, by a push to the default branch if nothing else."""
        return ExamplePipeline(self.stack, self.folder, origin, self.ids, example, **options)

    def found(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object of the jobs' namespace."""
        said = self.stack.admin.must(
            "get", kind, name, self.space, "--output=json", "--ignore-not-found"
        )
        return dict(json.loads(said)) if said else None

    def admin(self, *arguments: str, stdin: str = "") -> str:
        """What the administrator's kubectl prints about that namespace."""
        return self.stack.admin.must(*arguments, self.space, stdin=stdin)
