"""`make local`: the whole stack with the product installed, kept up until Ctrl-C.

With `--empty` it is deployed and nothing more: no issuer, no webhook, no agent.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from local.installation import AGENTS, Installation, private
from local.kubernetes.progress import TerminalProgress
from local.stack import EXPECTED_ERRORS, ROOT, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMESPACE = "shop"


def main(arguments: Sequence[str]) -> int:
    """Keep the stack up; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make local", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the gateway's port, by default free")
    parser.add_argument("--empty", action="store_true", help="deploy it, and install nothing")
    parser.add_argument("--folder", type=Path, default=ROOT / ".local", help="of all its files")
    options = parser.parse_args(arguments)
    folder, endpoints = options.folder / "stack", options.folder / "endpoints.json"
    environment = options.folder / "environment"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    shutil.rmtree(folder, ignore_errors=True)
    progress = TerminalProgress(sys.stdout)
    try:
        with (
            Stack.start(folder, progress=progress, port=options.port) as stack,
            stack.watched(),
        ):
            if options.empty:
                installation = Installation.prepare(stack, namespace=_NAMESPACE)
            else:
                progress.say("Installing: the issuer, the webhook, two agents, their files.")
                installation = Installation.create(
                    stack,
                    namespace=_NAMESPACE,
                    tell=lambda command, _: progress.say(f"  {command}"),
                )
                installation.grant()
                installation.configure()
            private(endpoints, json.dumps(_endpoints(stack), indent=2) + "\n")
            private(environment, _exports(installation))
            how = _HOW_TO_INSTALL if options.empty else _HOW_TO_PLAY
            print(how.format(folder=os.path.relpath(options.folder)), flush=True)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        print("\nEverything was ended.")
        return 0
    except EXPECTED_ERRORS as error:
        print(f"\n{error}\n\nEverything was ended.", file=sys.stderr)
        return 1
    finally:
        endpoints.unlink(missing_ok=True)
        environment.unlink(missing_ok=True)


def _endpoints(stack: Stack) -> dict[str, object]:
    return {
        "gateway": stack.gateway.url,
        "gitlab": stack.gitlab.url,
        "gitlab_control": f"{stack.gitlab.url}/control",
        "gitlab_control_token_file": str(stack.folder / "gitlab" / "control-token"),
        "kubernetes": stack.cluster.url,
        "admin_kubeconfig": str(stack.cluster.admin_kubeconfig),
        "audit_log": str(stack.cluster.audit_log),
        "ca": str(stack.authority.certificate),
        "kubectl": str(stack.clients.kubectl),
        "helm": str(stack.clients.helm),
        "aws_environment": stack.aws.environment,
        "stack_name": stack.aws.stack_name,
        "logs": _logs(stack.folder),
    }


def _logs(folder: Path) -> list[str]:
    return [str(log) for log in sorted(folder.rglob("*.log"))]


def _exports(installation: Installation) -> str:
    """What a shell sources, so that jobgate, kubectl, helm, curl and git find this stack."""
    stack = installation.stack
    ca = str(stack.authority.certificate)
    variables = {
        **stack.aws.environment,
        "JOBGATE_STACK": stack.aws.stack_name,
        "JOBGATE_URL": stack.gateway.url,
        "JOBGATE_TEMPLATE": str(stack.aws.build_folder / "template.yaml"),
        "GITLAB_URL": stack.gitlab.url,
        "GITLAB_TOKEN": installation.set_up_token,
        "RUN_TIME_TOKEN_FILE": str(installation.run_time_token),
        "AGENTS_REPOSITORY": stack.gitlab.control.push_url(AGENTS),
        "KUBECONFIG": str(stack.cluster.admin_kubeconfig),
        "LOCAL_CA": ca,
        "CURL_CA_BUNDLE": ca,
        "GIT_SSL_CAINFO": ca,
    }
    programs = [Path(sys.executable).parent, ROOT / ".venv-sam" / "bin"]
    programs += [stack.clients.kubectl.parent, stack.clients.helm.parent]
    path = ":".join(dict.fromkeys(map(str, programs)))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join([*lines, f'export PATH={shlex.quote(path)}:"$PATH"', ""])


_HOW_TO_INSTALL = """
Everything runs, and nothing is installed: go on as docs/local.md says, "From nothing, by hand", in
another terminal. Ctrl-C ends it.

  . {folder}/environment            # jobgate, kubectl, helm, curl and git find it
"""

_HOW_TO_PLAY = """
Everything runs; docs/local.md says what to do with it. Ctrl-C ends it.

In another terminal:

  . {folder}/environment            # jobgate, kubectl, helm, curl and git find it
  jobgate status
  make play FILE=docs/examples/kubectl/.gitlab-ci.yml
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
