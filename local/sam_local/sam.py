"""The SAM CLI's `local` commands, with the functions of a running stack."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from local.aws.commands import inherited
from local.aws.emulator import REGION
from local.emulator import answer_of
from local.process import ChildFailedError, free_port, spawn, wait_until
from local.sam_template import read_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from local.gateway.functions import Function
    from local.process import Child
    from local.sam_local.engine import Docker
    from local.stack import Stack

_ROOT = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_SAM = _ROOT / ".venv-sam/bin/sam"
_TASK = "/var/task"
_CA = "local-ca.crt"
_SOCKETS = "loopback"
_IN_CONTAINER = ("loopback.py", "join-loopback")
_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"
_INVOKE_SECONDS = 120
# What a function's container has besides: it reads AWS's address, and whom to trust, from these.
_LOCAL = {
    "AWS_CA_BUNDLE": f"{_TASK}/{_CA}",
    "SSL_CERT_FILE": f"{_TASK}/{_CA}",
    _WRAPPER: f"{_TASK}/join-loopback",
}


@dataclass(frozen=True, slots=True)
class SAM:
    """The commands' surroundings: `folder` holds the template and one folder a function."""

    folder: Path
    _functions: tuple[str, ...]
    _publisher: Child
    _docker: Docker
    _logs: Path
    _parameters: Mapping[str, str]

    @classmethod
    def start(
        cls, folder: Path, docker: Docker, stack: Stack, functions: Iterable[Function]
    ) -> Self:
        """Lay out the functions, and publish the stack's ports to their containers.

        Raises ChildFailedError.
        """
        folder.mkdir(parents=True)
        variables = {
            function.logical_id: _variables(function, stack.aws.endpoint_url)
            for function in functions
        }
        for name in variables:
            _lay_out(folder / name, stack.aws.build_folder / name, stack.authority.certificate)
        (folder / "variables.json").write_text(json.dumps(variables))
        template = _template(stack.aws.build_folder, variables)
        (folder / "template.json").write_text(json.dumps(template))
        publisher = _publish(folder, variables, stack)
        logs = stack.folder / "sam-local"
        return cls(folder, tuple(variables), publisher, docker, logs, stack.aws.parameters)

    def stop(self) -> None:
        """End the containers that SAM left, and what serves the sockets."""
        for name in self._functions:
            self._docker.remove_containers(self.folder / name)
        self._publisher.stop()

    def invoke(self, logical_id: str, event: bytes) -> Any:
        """The function's answer by `sam local invoke`; raises ChildFailedError without one."""
        file = self.folder / "event.json"
        file.write_bytes(event)
        done = subprocess.run(
            [_SAM, "local", "invoke", logical_id, "--event", file, *self._options()],
            env=self._environment(),
            check=False,
            capture_output=True,
            timeout=_INVOKE_SECONDS,
        )
        # SAM's exit code is 0 where the function raised or ran out of time.
        if done.returncode or not done.stdout.strip():
            raise ChildFailedError(f"sam local invoke: {done.stderr.decode(errors='replace')}")
        return answer_of(done.stdout.strip())

    @contextmanager
    def start_api(self) -> Iterator[str]:
        """Yield the base URL of `sam local start-api`."""
        port = free_port()
        child = spawn(
            "sam local start-api",
            [
                *(_SAM, "local", "start-api", "--host", "127.0.0.1", "--port", str(port)),
                *self._options(),
            ],
            log=self._logs / "start-api.log",
            env=self._environment(),
        )
        try:
            wait_until(lambda: _listens(port), children=[child], what=child.name)
            yield f"http://127.0.0.1:{port}"
        finally:
            child.stop()

    def _options(self) -> list[str | Path]:
        return [
            *("--template", self.folder / "template.json"),
            *("--env-vars", self.folder / "variables.json"),
            *("--layer-cache-basedir", self.folder / "layers"),
            *("--region", REGION, "--skip-pull-image", "--parameter-overrides"),
            *(f'{name}="{value}"' for name, value in self._parameters.items()),
        ]

    def _environment(self) -> dict[str, str]:
        # Credentials in the environment would make SAM ask AWS whose they are.
        without_aws = {
            name: value
            for name, value in self._docker.environment.items()
            if not name.startswith(("AWS_", "SAM_CLI_"))
        }
        return {
            **without_aws,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(self.folder / "sam"),
        }


def _variables(function: Function, endpoint: str) -> dict[str, str]:
    """A deployed function's own variables, its role's, and what its container needs besides."""
    own = dict(function.environment)
    # The container's wrapper starts the function's.
    own["JOBGATE_LOCAL_WRAPPER"] = own.get(_WRAPPER, "")
    session = function.credentials
    return {
        **own,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": session.access_key_id,
        "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
        "AWS_SESSION_TOKEN": session.session_token,
        **_LOCAL,
    }


def _lay_out(task: Path, built: Path, ca: Path) -> None:
    shutil.copytree(built, task)
    shutil.copy(ca, task / _CA)
    for name in _IN_CONTAINER:
        shutil.copy(_HERE / name, task / name)
    (task / _SOCKETS).mkdir()


def _template(build_folder: Path, variables: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The built template with every variable declared, since SAM passes no other."""
    template = read_template(build_folder / "template.yaml")
    for name, resource in template["Resources"].items():
        properties = resource["Properties"]
        if name in variables:
            properties["Environment"] = {"Variables": dict(variables[name])}
        elif resource["Type"] == "AWS::Serverless::LayerVersion":
            properties["ContentUri"] = str(build_folder / name)
    return template


def _publish(folder: Path, functions: Iterable[str], stack: Stack) -> Child:
    urls = (stack.aws.endpoint_url, stack.gitlab.url, stack.cluster.url)
    ports = [str(urlsplit(url).port) for url in urls]
    folders = [folder / name / _SOCKETS for name in functions]
    child = spawn(
        "The sockets for the containers",
        [sys.executable, _HERE / "loopback.py", "publish", ",".join(ports), *folders],
        log=stack.folder / "sam-local" / "loopback.log",
        env=inherited(),
    )
    expected = [each / port for each in folders for port in ports]
    try:
        wait_until(
            lambda: all(each.is_socket() for each in expected), children=[child], what=child.name
        )
    except BaseException:
        child.stop()
        raise
    return child


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
