"""The variables and the command with which Lambda starts a function's process, and nothing more.

Lambda, "Defined runtime environment variables". `/opt` and `/var/task` can't be used on a machine
that isn't ours alone, so values that point there are turned to where the layer and the code are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.gateway.functions import Function

_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What all workers share.

    `folder` is what `runtime_folder.prepare_runtime` made. `endpoint` is where AWS's APIs are,
    `ca_certificate` what its certificate is verified with.
    """

    folder: Path
    endpoint: str | None = None
    ca_certificate: Path | None = None
    region: str = "eu-central-1"

    @property
    def python(self) -> Path:
        """The workers' interpreter, with nothing but its standard library."""
        return self.folder / "lang" / "bin" / "python"

    @property
    def packages(self) -> Path:
        """What stands for /var/runtime."""
        return self.folder / "runtime"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Runtime:
        """The runtime that `dataclasses.asdict` and JSON wrote."""
        authority = value["ca_certificate"]
        return cls(
            Path(value["folder"]),
            value["endpoint"],
            authority and Path(authority),
            value["region"],
        )


def variables(
    function: Function, runtime: Runtime, *, runtime_api: str, log_stream: str, version: str
) -> dict[str, str]:
    """The whole environment of a worker; `version` is the interpreter's, such as `3.13`."""
    search = [str(runtime.python.parent), "/usr/local/bin", "/usr/bin", "/bin"]
    if function.layer:
        search.append(str(function.layer / "bin"))
    own = {name: _placed(value, function) for name, value in function.environment.items()}
    return {
        "LANG": "en_US.UTF-8",
        "PATH": ":".join(search),
        "TZ": ":UTC",
        **_endpoint(runtime),
        **own,
        **_logging(function),
        "AWS_ACCESS_KEY_ID": function.credentials.access_key_id,
        "AWS_DEFAULT_REGION": runtime.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group or f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_REGION": runtime.region,
        "AWS_SECRET_ACCESS_KEY": function.credentials.secret_access_key,
        "AWS_SESSION_TOKEN": function.credentials.session_token,
        "LAMBDA_RUNTIME_DIR": str(runtime.packages),
        "LAMBDA_TASK_ROOT": str(function.task_root),
        "_HANDLER": function.handler,
    }


def command(function: Function, runtime: Runtime) -> list[str]:
    """The bootstrap, or the wrapper with the bootstrap as its arguments, interpreter first.

    The bootstrap's last argument stands for /opt, which on AWS is the same for everybody.
    """
    layer = [str(function.layer)] if function.layer else []
    bootstrap = [str(runtime.python), str(runtime.packages / "bootstrap.py"), *layer]
    wrapper = function.environment.get(_WRAPPER)
    return [_placed(wrapper, function), *bootstrap] if wrapper else bootstrap


def _endpoint(runtime: Runtime) -> dict[str, str]:
    """The only variables that AWS doesn't set: they lead its SDKs, and OpenSSL, to this machine.

    On AWS the operating system's store knows the authority behind AWS's endpoints.
    """
    found = {
        "AWS_ENDPOINT_URL": runtime.endpoint,
        "AWS_CA_BUNDLE": runtime.ca_certificate,
        "SSL_CERT_FILE": runtime.ca_certificate,
    }
    return {name: str(value) for name, value in found.items() if value}


def _logging(function: Function) -> dict[str, str]:
    """Lambda sets these two for a function that logs JSON; its own runtime reads them."""
    if function.log_format != "JSON":
        return {}
    return {
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": function.log_level or "INFO",
    }


def _placed(value: str, function: Function) -> str:
    for root, folder in (("/opt", function.layer), ("/var/task", function.task_root)):
        if folder and (value == root or value.startswith(f"{root}/")):
            return f"{folder}{value.removeprefix(root)}"
    return value
