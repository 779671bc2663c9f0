"""`jobgate setup`: from a built template to a job's snippet, each step only where it's answered.

Every answer is an option; at a terminal what wasn't given is asked for, and an empty answer leaves
its step out. Each step is a command of its own, and running all of it again is harmless.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from jobgate.cli import agent_register, gitlab_commands, issuers, preflight
from jobgate.cli.connect import AsJSON, StackName, connect, outside_of
from jobgate.cli.errors import FINDINGS
from jobgate.cli.inputs import certificate_authority, read_file
from jobgate.cli.output import Output
from jobgate.cli.set_up_api import VARIABLE
from jobgate.cli.setup import set_up
from jobgate.core.errors import InvalidRequest, Unavailable

_DEPLOY_SECONDS = 1800


@dataclass(slots=True)
class _Steps:
    """What was done, each step's answer for scripts, and whether one had findings."""

    as_json: bool
    results: dict[str, Any] = field(default_factory=dict)
    has_findings: bool = False

    def run(self, name: str, step: Callable[[], None]) -> None:
        printed = io.StringIO()
        quiet = contextlib.redirect_stdout(printed) if self.as_json else contextlib.nullcontext()
        with quiet:
            try:
                step()
            except typer.Exit as exc:
                if exc.exit_code != FINDINGS:
                    raise
                self.has_findings = True
        if self.as_json:
            self.results[name] = json.loads(printed.getvalue())


def setup(
    context: typer.Context,
    *,
    stack: StackName,
    template: Annotated[
        Path | None,
        typer.Option("--deploy", metavar="TEMPLATE", help="First deploy what `sam build` made."),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--parameter", metavar="NAME=VALUE", help="Of the template. Repeatable."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="A custom domain in front of the API.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="The private CA of the base URL, as PEM.")
    ] = None,
    gitlab: Annotated[
        str | None, typer.Option("--gitlab", metavar="URL", help="The GitLab instance to trust.")
    ] = None,
    alias: Annotated[str, typer.Option("--alias", help="Its alias, never changed.")] = "main",
    audience: Annotated[
        str | None, typer.Option("--audience", help="The claim `aud` of jobs' tokens.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="The run-time token: read_api (and self_rotate), Reporter."
        ),
    ] = None,
    gitlab_ca: Annotated[
        Path | None, typer.Option("--gitlab-ca", help="GitLab's private CA, as PEM.")
    ] = None,
    hooks: Annotated[
        str | None,
        typer.Option(
            "--connect",
            metavar="GROUP_OR_PROJECT",
            help=f"Make the webhooks, with the set-up token in {VARIABLE}.",
        ),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="PROJECT:NAME", help="The first agent to register."),
    ] = None,
    from_context: Annotated[
        str | None,
        typer.Option("--from-context", metavar="NAME", help="The agent's cluster, by kubeconfig."),
    ] = None,
    kubeconfig: agent_register.Kubeconfig = None,
    namespace: agent_register.Namespace = "jobgate",
    ask: Annotated[
        bool, typer.Option("--ask/--no-ask", help="Ask at a terminal for what wasn't given.")
    ] = True,
    as_json: AsJSON = False,
) -> None:
    """Make a stack ready: deploy it, trust GitLab, connect it, register an agent.

    Each step is done where its options are given, or asked for at a terminal; running it again
    changes nothing. Ends with what a job's pipeline needs. Exit code 1 where a step had findings.
    """
    asking = ask and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    steps, output = _Steps(as_json), Output(as_json=as_json)
    authority = None if ca is None else certificate_authority(read_file(ca, "--ca"), "--ca")
    if template is not None:
        command = _deployment(template, stack, parameters or [])
        _check_account(context, output)
        _deploy(command)
    elif parameters:
        raise InvalidRequest("--parameter needs --deploy.")

    steps.run(
        "setup", lambda: set_up(connect(context, stack, as_json=as_json), base_url, authority)
    )
    gitlab = gitlab or _asked("GitLab's URL (nothing: none now)", asking=asking)
    if gitlab:
        chosen = gitlab
        audience = audience or _needed("--audience", "Audience of jobs' tokens", asking=asking)
        file = token_file or Path(
            _needed("--token-file", "File with the run-time token (read_api)", asking=asking)
        )
        steps.run(
            "issuer",
            lambda: issuers.add(
                context,
                alias,
                url=chosen,
                audience=str(audience),
                token_file=file,
                stack=stack,
                ca=gitlab_ca,
                as_json=as_json,
            ),
        )
    agent = agent or _asked("First agent, GROUP/PROJECT:NAME (nothing: none now)", asking=asking)
    if agent:
        project, colon, name = agent.rpartition(":")
        if not colon or not project:
            raise InvalidRequest("--agent is GROUP/PROJECT:NAME.")
        cluster = from_context or _needed(
            "--from-context", "Kubeconfig context of its cluster", asking=asking
        )
        steps.run(
            "agent",
            lambda: agent_register.register(
                context,
                project,
                name,
                stack=stack,
                from_context=cluster,
                kubeconfig=kubeconfig,
                namespace=namespace,
                as_json=as_json,
            ),
        )
    hooks = hooks or _asked("Group or project to connect (nothing: none now)", asking=asking)
    if hooks and asking and VARIABLE not in outside_of(context).environment:
        output.say(f"Left out: put a set-up token into {VARIABLE}, and run this again.")
    elif hooks:
        place = hooks
        steps.run(
            "gitlab",
            lambda: gitlab_commands.connect_command(
                context, path=place, stack=stack, as_json=as_json
            ),
        )
    _end(context, stack, output, steps, agent)
    if steps.has_findings:
        raise typer.Exit(FINDINGS)


def _end(
    context: typer.Context, stack: str, output: Output, steps: _Steps, agent: str | None
) -> None:
    """The job's snippet, once there's a GitLab whose audience it can name."""
    registry = connect(context, stack, as_json=True).registry
    default = next((i for i in registry.issuers().values() if i.is_default), None)
    text = None
    if default is not None:
        text = snippet(registry.known_base_url(), default.audience, agent)
        output.say("A job's part of .gitlab-ci.yml:")
        for line in text.splitlines():
            output.say(f"  {line}")
    output.result(steps.results.pop("setup", {}) | {"steps": steps.results, "snippet": text})


def snippet(base_url: str, audience: str, agent: str | None) -> str:
    """What a pipeline needs to use an agent, by the component."""
    context = [f"      context: {agent}"] if agent else []
    lines = [
        "include:",
        "  - component: $CI_SERVER_FQDN/GROUP/jobgate/kubernetes-access@VERSION",
        "    inputs:",
        f"      url: {base_url}",
        f"      audience: {audience}",
        *context,
        "deploy:",
        "  extends: .kubernetes-access",
        "  script:",
        "    - kubectl auth whoami",
    ]
    return "\n".join(lines)


def _check_account(context: typer.Context, output: Output) -> None:
    for finding in preflight.findings(outside_of(context).aws):
        output.say(f"{finding.text} {finding.fix[:1].upper()}{finding.fix[1:]}.")


def _deployment(template: Path, stack: str, parameters: list[str]) -> list[str]:
    """The SAM CLI's command line; raises InvalidRequest."""
    program = shutil.which("sam")
    if not template.is_file():
        raise InvalidRequest(f"--deploy: there is no {template}: run `sam build` first.")
    if program is None:
        raise InvalidRequest("--deploy needs the SAM CLI (`sam`) on PATH.")
    if any("=" not in each for each in parameters):
        raise InvalidRequest("--parameter is NAME=VALUE.")
    # In quotes, since SAM ends a bare value at the first space.
    pairs = [each.partition("=") for each in parameters]
    given = [f'{name}="{value}"' for name, _, value in pairs]
    return [
        *(program, "deploy", "--template-file", str(template), "--stack-name", stack),
        *("--capabilities", "CAPABILITY_IAM", "--resolve-s3", "--no-confirm-changeset"),
        *("--no-fail-on-empty-changeset", "--no-progressbar"),
        *(("--parameter-overrides", *given) if given else ()),
    ]


def _deploy(command: list[str]) -> None:
    """The SAM CLI's words go to standard error; raises Unavailable where it fails."""
    done = subprocess.run(  # noqa: S603  the SAM CLI, with the operator's own words
        command, check=False, stdout=sys.stderr, timeout=_DEPLOY_SECONDS
    )
    if done.returncode:
        raise Unavailable("The deployment failed; what the SAM CLI says is above.")


def _asked(question: str, *, asking: bool) -> str | None:
    """The answer, None where nobody is to be asked or nothing was said."""
    if not asking:
        return None
    return str(typer.prompt(question, default="", show_default=False)).strip() or None


def _needed(option: str, question: str, *, asking: bool) -> str:
    found = _asked(question, asking=asking)
    if not found:
        raise InvalidRequest(f"{option} is missing.")
    return found
