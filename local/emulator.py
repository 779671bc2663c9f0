"""Lambda's Runtime Interface Emulator, which the SAM CLI brings for its containers, without one.

It is AWS's own front of a function's process, unmodified; around it stand the built artifacts, as
the local gateway's workers have them. It can't take two events at once (its process ends), gathers
a streamed answer whole, and is a program for Linux.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.aws.target import target_of
from local.gateway.environment import command, variables
from local.process import Child, ChildFailedError, free_port, spawn, wait_until

if TYPE_CHECKING:
    from local.gateway.environment import Runtime
    from local.gateway.functions import Function

_SAM = Path(__file__).parents[1] / ".venv-sam"
_PROGRAM = "lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{architecture}"
_PATH = "/2015-03-31/functions/function/invocations"
_PRELUDE_END = b"\0" * 8
_READY_SECONDS = 10
_INVOKE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class InterfaceEmulator:
    """A function behind the emulator; its process starts with the first event."""

    function: Function
    child: Child
    _port: int
    _one_at_a_time: threading.Lock

    @classmethod
    def start(cls, function: Function, runtime: Runtime, log: Path) -> InterfaceEmulator:
        """Start the emulator; what it and the function write goes to `log`.

        Raises ChildFailedError, and FileNotFoundError where the SAM CLI isn't installed.
        """
        target = target_of(runtime.python)
        program = _program(target.architecture)
        port, runtime_api = free_port(), f"127.0.0.1:{free_port()}"
        environment = variables(
            function, runtime, runtime_api=runtime_api, log_stream="local", version=target.version
        )
        child = spawn(
            f"The emulator of {function.name}",
            [
                program,
                *("--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
                *("--runtime-api-address", runtime_api),
                *command(function, runtime),
            ],
            log=log,
            env={
                **environment,
                "AWS_LAMBDA_FUNCTION_TIMEOUT": str(int(function.timeout_seconds)),
            },
            cwd=function.task_root,
        )
        try:
            wait_until(
                lambda: _listens(port), children=(child,), what=child.name, seconds=_READY_SECONDS
            )
        except BaseException:
            child.stop()
            raise
        return cls(function, child, port, threading.Lock())

    def invoke(self, event: bytes) -> Any:
        """The function's answer to an event; a streamed one in the form of a buffered one.

        Raises ChildFailedError where there is none.
        """
        with self._one_at_a_time:
            connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=_INVOKE_SECONDS
            )
            try:
                connection.request("POST", _PATH, body=event)
                payload = connection.getresponse().read()
            except (OSError, http.client.HTTPException) as error:
                raise ChildFailedError(
                    f"{self.child.name} gave no answer: {error!r}\n{self.child.log_tail()}"
                ) from error
            finally:
                connection.close()
        return answer_of(payload)

    def stop(self) -> None:
        """End the emulator, which ends the function's process."""
        self.child.stop()


def _program(architecture: str) -> Path:
    for found in _SAM.glob(_PROGRAM.format(architecture=architecture)):
        return found
    raise FileNotFoundError("The SAM CLI isn't installed in .venv-sam: run make setup.")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def answer_of(payload: bytes) -> Any:
    """A function's answer from the emulator's; a streamed one in the form of a buffered one."""
    prelude, streamed, body = payload.partition(_PRELUDE_END)
    if streamed:
        return json.loads(prelude) | {"body": body.decode(errors="replace")}
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")
