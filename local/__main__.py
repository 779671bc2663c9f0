"""`make local`: the whole stack with the product installed, kept up until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
from typing import TYPE_CHECKING

from local.installation import AUDIENCE, WEB, Installation
from local.job import FETCH
from local.kubernetes.progress import TerminalProgress
from local.stack import EXPECTED_ERRORS, ROOT, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_FOLDER = ROOT / ".local" / "stack"
_ENDPOINTS = ROOT / ".local" / "endpoints.json"
_NAMESPACE = "shop"


def main(arguments: Sequence[str]) -> int:
    """Keep the stack up; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make local", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the gateway's port, by default free")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    shutil.rmtree(_FOLDER, ignore_errors=True)
    progress = TerminalProgress(sys.stdout)
    try:
        with (
            Stack.start(_FOLDER, progress=progress, port=options.port) as stack,
            stack.watched(),
        ):
            progress.say("Installing: the issuer, the webhook, two agents, their files.")
            installation = Installation.create(
                stack, namespace=_NAMESPACE, tell=lambda command, _: progress.say(f"  {command}")
            )
            installation.grant()
            installation.configure()
            _ENDPOINTS.touch(mode=0o600)
            _ENDPOINTS.write_text(json.dumps(_endpoints(stack), indent=2) + "\n")
            print(_how_to_play(stack))
            while True:
                signal.pause()
    except KeyboardInterrupt:
        print("\nEverything was ended.")
        return 0
    except EXPECTED_ERRORS as error:
        print(f"\n{error}\n\nEverything was ended.", file=sys.stderr)
        return 1
    finally:
        _ENDPOINTS.unlink(missing_ok=True)


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


def _how_to_play(stack: Stack) -> str:
    return f"""
Everything runs; .local/endpoints.json says where. Ctrl-C ends it.

Play a job of {WEB} by hand, in another terminal:

  export CURL_CA_BUNDLE={stack.authority.certificate}
  export JOBGATE_URL={stack.gateway.url} KUBECONFIG=$(mktemp)
  control={stack.gitlab.url}/control
  export JOBGATE_ID_TOKEN=$(curl -sS "$control/create_job" \\
    -H "Authorization: Bearer $(cat {stack.folder / "gitlab" / "control-token"})" \\
    -d '{{"project": "{WEB}", "audiences": ["{AUDIENCE}"]}}' |
    {sys.executable} -c 'import json, sys; print(*json.load(sys.stdin)["id_tokens"].values())')
  {FETCH}
  alias kubectl={stack.clients.kubectl}
  kubectl -n {_NAMESPACE} get pods
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
