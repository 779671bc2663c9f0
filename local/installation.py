"""The product in use on a running stack: what an operator and a platform team do once.

A GitLab group with its projects, the issuer and the webhook, two agents of one configuration
project on one cluster, and RBAC that lets one project into one namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobgate.cli.cluster_rules import AGENT_ACCOUNT

from local.process import ChildFailedError
from local.repository import push

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from local.stack import Stack

ALIAS = "main"
AUDIENCE = "https://jobgate.example"
GROUP = "acme"
SHOP = "acme/shop"
AGENTS = "acme/agents"  # the configuration project
WEB = "acme/shop/web"  # allowed by its group, as the CI job
OPS = "acme/ops"  # allowed by name, as the agent
AUDIT = "acme/audit"  # allowed by name, as a fixed identity
STRANGER = "acme/stranger"  # not named anywhere
AUDITOR = "auditor@acme.example"
PRODUCTION_FILE = ".gitlab/agents/production/config.yaml"
STAGING_FILE = ".gitlab/agents/staging/config.yaml"

_CONTEXT = f"{AGENTS}:"
_REFRESH_SECONDS = 60.0
_RUN_TIME, _SET_UP = "gitlab-token", "gitlab-set-up-token"


class CommandFailedError(ChildFailedError):
    """A command of the story failed; the text is what it printed."""


@dataclass(frozen=True, slots=True)
class Installation:
    """An installed product. `namespace` is the throw-away one that the jobs may use.

    The two accounts have one of their own beside it: who makes pods in theirs can become them.
    """

    stack: Stack
    namespace: str
    groups: Mapping[str, int]
    projects: Mapping[str, int]

    @classmethod
    def create(cls, stack: Stack, *, namespace: str, tell: Callable[[str, str], None]) -> Self:
        """Install everything; `tell` gets each operator's command and what it printed."""
        installation = cls.prepare(stack, namespace=namespace)
        installation.register(tell)
        return installation

    @classmethod
    def prepare(cls, stack: Stack, *, namespace: str) -> Self:
        """What an operator finds: GitLab's groups and projects, and two tokens of theirs."""
        gitlab = stack.gitlab.control
        groups = {path: int(gitlab.create_group(path)["id"]) for path in (GROUP, SHOP)}
        projects = {
            path: int(gitlab.create_project(path)["id"])
            for path in (AGENTS, WEB, OPS, AUDIT, STRANGER)
        }
        # As GitLab's own form does by default; a webhook can't be tested without a commit.
        gitlab.commit(AGENTS, {"README.md": "# agents\n"})
        run_time = gitlab.create_token(["read_api", "self_rotate"], group=GROUP, role="reporter")
        set_up = gitlab.create_token(["api"], group=GROUP, role="owner")
        folder = stack.folder / "operator"
        folder.mkdir(mode=0o700, exist_ok=True)
        private(folder / _RUN_TIME, run_time)
        private(folder / _SET_UP, set_up)
        return cls(stack, namespace, groups, projects)

    def register(self, tell: Callable[[str, str], None]) -> None:
        """The operator's part, by the operators' command."""
        stack = self.stack
        ca = str(stack.authority.certificate)
        set_up, token = self.set_up_token, str(self.run_time_token)
        commands: list[tuple[list[str], dict[str, str]]] = [
            (["setup", "--base-url", stack.gateway.url, "--ca", ca], {}),
            (
                [
                    *("issuer", "add", ALIAS, "--url", stack.gitlab.url),
                    *("--audience", AUDIENCE, "--token-file", token, "--ca", ca),
                ],
                {},
            ),
            (["gitlab", "connect", GROUP], {"GITLAB_TOKEN": set_up}),
        ]
        self.make_namespace()
        register = ["agent", "register", AGENTS]
        commands += [
            ([*register, "production", *self.cluster_options, "--no-agent-mode"], {}),
            ([*register, "staging", *self.cluster_options], {}),
        ]
        for arguments, secrets in commands:
            tell(shown(arguments, secrets, stack.folder), self.jobgate(*arguments, **secrets))

    def make_namespace(self) -> None:
        """The jobs' namespace."""
        self.stack.admin.must("create", "namespace", self.namespace)

    def grant(self) -> None:
        """RBAC: the web project, the agent and the auditor, each in the one namespace."""
        account = f"--serviceaccount={self.access_namespace}:{AGENT_ACCOUNT}"
        self._bind("agent", self._edit_without_accounts(), account)
        self._bind("web", "edit", f"--group=gitlab:project:{self.projects[WEB]}")
        self._bind("auditor", "view", f"--user={AUDITOR}")

    def configure(self) -> None:
        """Push both agents' files, and wait until they count. Raises TimeoutError."""
        files = {
            PRODUCTION_FILE: production_config(),
            STAGING_FILE: staging_config(self.namespace),
        }
        push(self.stack, AGENTS, files, "Allow the shop, ops and audit")
        deadline = time.monotonic() + _REFRESH_SECONDS
        while self._active() < len(files):
            if time.monotonic() > deadline:
                raise TimeoutError("The pushed configuration has no effect.")

    def remove(self) -> None:
        """Take everything out of the cluster again, the namespaces included."""
        labels = f"app.kubernetes.io/instance={self.access_namespace}"
        kinds = "clusterrolebinding,clusterrole"
        self.stack.admin.must("delete", kinds, f"--selector={labels}")
        both = (self.namespace, self.access_namespace)
        self.stack.admin.must("delete", "namespace", *both, "--ignore-not-found", seconds=120)

    @property
    def run_time_token(self) -> Path:
        """The file of the token that the deployment is given."""
        return self.stack.folder / "operator" / _RUN_TIME

    @property
    def set_up_token(self) -> str:
        """The operator's own token."""
        return (self.stack.folder / "operator" / _SET_UP).read_text()

    @property
    def access_namespace(self) -> str:
        """Where the two accounts are."""
        return f"{self.namespace}-access"

    def _edit_without_accounts(self) -> str:
        """The ClusterRole `edit` without ServiceAccounts, which it lets one become."""
        edit = json.loads(self.stack.admin.must("get", "clusterrole", "edit", "--output=json"))
        names = {"serviceaccounts", "serviceaccounts/token"}
        rules = [
            {**rule, "resources": kept}
            for rule in edit["rules"]
            if (kept := [name for name in rule["resources"] if name not in names])
        ]
        role = {
            "apiVersion": edit["apiVersion"],
            "kind": "ClusterRole",
            "metadata": {
                "name": f"edit-without-accounts-{self.namespace}",
                "labels": {"app.kubernetes.io/instance": self.access_namespace},
            },
            "rules": rules,
        }
        self.stack.admin.must("apply", "--filename=-", stdin=json.dumps(role))
        return str(role["metadata"]["name"])

    @property
    def cluster_options(self) -> list[str]:
        """How `jobgate agent register` reaches the cluster."""
        kubeconfig = str(self.stack.cluster.admin_kubeconfig)
        current = self.stack.admin.must("config", "current-context").strip()
        return [
            *("--from-context", current),
            *("--kubeconfig", kubeconfig),
            *("--namespace", self.access_namespace),
        ]

    def jobgate(self, *arguments: str, **secrets: str) -> str:
        """Run the operators' command; returns what it printed. Raises CommandFailedError."""
        done = subprocess.run(
            [self.program, *arguments],
            env=self.environment(**secrets),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode not in (0, 1):
            raise CommandFailedError(f"jobgate {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def program(self) -> Path:
        """The operators' command."""
        return Path(sys.executable).parent / "jobgate"

    def environment(self, **secrets: str) -> dict[str, str]:
        """What the operators' command runs with."""
        return {
            **self.stack.aws.environment,
            **secrets,
            "JOBGATE_STACK": self.stack.aws.stack_name,
            # The rest is for a kubeconfig's credential plugins.
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": str(self.stack.folder / "operator"),
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }

    def _active(self) -> int:
        """How many agents have a configuration in force."""
        agents = json.loads(self.jobgate("agent", "list", "--json"))
        return sum(agent["state"] == "active" for agent in agents)

    def _bind(self, name: str, role: str, subject: str) -> None:
        self.stack.admin.must(
            "create",
            "rolebinding",
            name,
            f"--namespace={self.namespace}",
            f"--clusterrole={role}",
            subject,
        )


def context(agent: str) -> str:
    """The kubeconfig context of an agent of the configuration project."""
    return _CONTEXT + agent


def production_config() -> str:
    """`production` allows a whole group, each job as itself."""
    return """\
ci_access:
  groups:
    - id: acme/shop
      access_as:
        ci_job: {}
"""


def staging_config(namespace: str) -> str:
    """`staging` allows one project as the agent and another as a fixed identity."""
    return f"""\
ci_access:
  projects:
    - id: {OPS}
      default_namespace: {namespace}
    - id: {AUDIT}
      default_namespace: {namespace}
      access_as:
        impersonate:
          username: {AUDITOR}
          groups: [auditors]
"""


def shown(arguments: list[str], secrets: Mapping[str, str], folder: Path) -> str:
    """A command as a person would type it: short paths, secrets by name only."""
    words = [*(f"{name}=…" for name in secrets), "jobgate", *arguments]
    return " ".join(word.removeprefix(f"{folder}/") for word in words)


def private(path: Path, content: str) -> None:
    """Write a file that its owner alone may read."""
    path.touch(mode=0o600)
    path.write_text(content)
