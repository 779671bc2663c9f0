"""The client of the control surface, for the demo and the tests; synchronous.

    gitlab = Control(url, token=token, ca=ca_file)
    gitlab.create_group("top")
    gitlab.create_project("top/agents")
    gitlab.commit("top/agents", {".gitlab/agents/prod/config.yaml": "ci_access: {}"})
    job = gitlab.create_job("top/agents", environment="production", audience="https://broker.test")
    gitlab.finish_job(job, "success")

Projects, groups and users are named by full path or by id.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from local.gitlab.control_connection import ControlConnection, ControlError, Job, Json
from local.gitlab.git import program_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Reference = int | str


class Control:
    """One GitLab instance, as its owner would handle it."""

    def __init__(self, url: str, *, token: str, ca: Path) -> None:
        self.url = url
        self.ca = ca
        self._connection = ControlConnection(url, token=token, ca=ca)
        self._push_token: str | None = None

    def call(self, verb: str, **given: Any) -> Json:
        """Call any verb of the control surface; raises ControlError."""
        return self._connection.call(verb, given)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    # --- groups, projects, users ---

    def create_group(self, path: str, **options: Any) -> Json:
        """A group by full path; its parent must exist. Options: `id`, `name`, `visibility`."""
        return self.call("create_group", path=path, **options)

    def create_project(self, path: str, **options: Any) -> Json:
        """A project by full path.

        Options: `id`, `name`, `default_branch` ("main"), `protected` (patterns, by default the
        default branch), `visibility`, `project_namespace_id`, `sub_components`.
        """
        return self.call("create_project", path=path, **options)

    def create_user(self, username: str, **options: Any) -> Json:
        """A user with a namespace. Options: `id`, `namespace_id`, `name`, `email`, `admin`."""
        return self.call("create_user", username=username, **options)

    def add_member(self, user: Reference, role: str, **place: Reference) -> None:
        """Make a user a member of `group=` or `project=`; roles: guest to owner."""
        self.call("add_member", user=user, role=role, **place)

    def rename_group(self, group: Reference, path: str, **options: Any) -> Json:
        """Change a group's last path segment; option `name`."""
        return self.call("rename_group", group=group, path=path, **options)

    def transfer_group(self, group: Reference, parent: Reference | None) -> Json:
        """Move a group under another, or to the root; GitLab sends no event of it."""
        return self.call("transfer_group", group=group, parent=parent)

    def delete_group(self, group: Reference) -> None:
        """Delete a group and everything in it."""
        self.call("delete_group", group=group)

    def rename_project(self, project: Reference, path: str, **options: Any) -> Json:
        """Change a project's last path segment; option `name`."""
        return self.call("rename_project", project=project, path=path, **options)

    def transfer_project(self, project: Reference, namespace: str) -> Json:
        """Move a project into another namespace."""
        return self.call("transfer_project", project=project, namespace=namespace)

    def edit_project(self, project: Reference, **changes: Any) -> Json:
        """Change a project's settings.

        They are `default_branch`, `visibility`, `archived`, `protected`, `sub_components`,
        `shared_with` (pairs of group and role) and `marked_for_deletion_on`.
        """
        return self.call("edit_project", project=project, **changes)

    def delete_project(self, project: Reference) -> None:
        """Delete a project for good."""
        self.call("delete_project", project=project)

    def rename_user(self, user: Reference, username: str) -> None:
        """Change a user's name and so the path of their namespace."""
        self.call("rename_user", user=user, username=username)

    def create_cluster_agent(self, project: Reference, name: str, **options: Any) -> Json:
        """Register an agent in GitLab itself; option `id`."""
        return self.call("create_cluster_agent", project=project, name=name, **options)

    # --- jobs and tokens ---

    def create_environment(self, project: Reference, name: str, **options: Any) -> Json:
        """An environment. Options: `id`, `slug`, `tier`, `protected`."""
        return self.call("create_environment", project=project, name=name, **options)

    def create_job(
        self, project: Reference, *, audience: str | Sequence[str] = (), **options: Any
    ) -> Job:
        """A job in `running`, with one ID token for each audience.

        Options: `id`, `pipeline_id`, `source_project`, `name`, `stage`, `status`, `ref`, `tag`,
        `ref_protected`, `sha`, `user`, `source`, `environment`, `tier`, `environment_action`,
        `timeout` (seconds or None), `runner_id`, `runner_environment`.
        """
        audiences = [audience] if isinstance(audience, str) else list(audience)
        return Job(**self.call("create_job", project=project, audiences=audiences, **options))

    def set_job_status(
        self, job: Job | int, status: str, *, failure_reason: str | None = None
    ) -> Job:
        """Give a job another status, which fires the Job Hook; in `running` it gets new tokens."""
        number = job if isinstance(job, int) else job.id
        return Job(
            **self.call("set_job_status", job=number, status=status, failure_reason=failure_reason)
        )

    def finish_job(self, job: Job | int, status: str = "success") -> Job:
        """End a job."""
        return self.set_job_status(job, status)

    def mint_id_token(self, job: Job | int, audience: str | Sequence[str], **options: Any) -> str:
        """One more ID token, true or false.

        Options: `claims` (overrides), `without` (names), `header` (overrides), `key`: `ci`,
        `openid` or `unknown`.
        """
        number = job if isinstance(job, int) else job.id
        wanted = audience if isinstance(audience, str) else list(audience)
        answer = self.call("mint_id_token", job=number, audience=wanted, **options)
        return str(answer["id_token"])

    def rotate_keys(self, *, keep_old: bool = True) -> str:
        """Replace the key that signs ID tokens; returns the new key's id."""
        return str(self.call("rotate_keys", keep_old=keep_old)["kid"])

    def create_token(self, scopes: Sequence[str], **options: Any) -> str:
        """An access token.

        The administrator's, or with `group=` or `project=` (and `role=`, by default reporter) a
        bot's, or `user=`'s. Options: `name`, `expires_at` (a date), `secret`.
        """
        return str(self.call("create_token", scopes=list(scopes), **options)["token"])

    # --- repositories ---

    def commit(
        self,
        project: Reference,
        files: Mapping[str, str | bytes | None],
        *,
        modes: Mapping[str, str] | None = None,
        **options: Any,
    ) -> str:
        """Commit content by path (None deletes) and fire what a push fires; returns the commit id.

        Options: `branch`, `message`, `user`. `modes` gives git modes, such as 120000 for a link.
        """
        changes: Json = {}
        for path, content in files.items():
            octets = content.encode() if isinstance(content, str) else content
            encoded = None if octets is None else base64.b64encode(octets).decode()
            changes[path] = {"content": encoded, "mode": (modes or {}).get(path, "100644")}
        return str(self.call("commit", project=project, files=changes, **options)["sha"])

    def update_ref(self, project: Reference, ref: str, sha: str | None) -> None:
        """Force a full ref name to a commit or another ref, or delete it; fires push events."""
        self.call("update_ref", project=project, ref=ref, sha=sha)

    def push_url(self, project_path: str) -> str:
        """The HTTPS address to push to, with the administrator's token in it."""
        if self._push_token is None:
            scopes = ["write_repository"]
            self._push_token = self.create_token(scopes, name="push")
        return (
            f"https://root:{self._push_token}@{urlsplit(self.url).netloc}/{quote(project_path)}.git"
        )

    def git_environment(self) -> dict[str, str]:
        """The whole environment for an ordinary git: our CA, an author, nobody's own settings."""
        author = {"NAME": "Dana D", "EMAIL": "dana@example.test"}
        return {
            "PATH": program_path(),
            "HOME": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSL_CAINFO": str(self.ca),
            **{
                f"GIT_{who}_{key}": value
                for who in ("AUTHOR", "COMMITTER")
                for key, value in author.items()
            },
        }

    # --- hooks ---

    def create_hook(self, url: str, **options: Any) -> Json:
        """A hook of `project=` or `group=`, else a system hook.

        Options are those of GitLab's API: `token`, `signing_token`, `push_events`, `job_events`...
        """
        return self.call("create_hook", url=url, **options)

    def edit_hook(self, hook: int, **changes: Any) -> Json:
        """Change a hook's settings."""
        return self.call("edit_hook", hook=hook, **changes)

    def hooks(self) -> list[Json]:
        """Every hook, without its secrets."""
        return list(self.call("hooks")["hooks"])

    def delete_hook(self, hook: int) -> None:
        """Delete a hook."""
        self.call("delete_hook", hook=hook)

    def deliveries(self, *, hook: int | None = None) -> list[Json]:
        """The delivery log, oldest first, with secrets left out."""
        return list(self.call("deliveries", hook=hook)["deliveries"])

    def settle(self, *, seconds: float = 30) -> None:
        """Wait until every delivery that was due is done; raises ControlError."""
        if not self.call("settle", seconds=seconds)["settled"]:
            raise ControlError(f"deliveries are still under way after {seconds:g} s")

    def resend(self, delivery: int) -> Json:
        """Deliver once more, under the same Idempotency-Key."""
        return self.call("resend", delivery=delivery)

    def lose_deliveries(self, times: int = 1) -> None:
        """Let the next deliveries vanish on their way."""
        self.call("lose_deliveries", times=times)

    # --- faults and limits ---

    def fail_next(self, pattern: str, *, status: int = 500, times: int = 1, **options: Any) -> None:
        """Answer the next requests whose `METHOD /path?query` matches a regular expression so.

        Options: `body`, `headers`, `delay` (seconds), `skip` (matches that pass first).
        """
        self.call("add_fault", pattern=pattern, status=status, times=times, **options)

    def disturb_next(self, pattern: str, *, times: int = 1, **options: Any) -> None:
        """Answer the next matching requests truly, but badly.

        Options: `delay` (seconds), `half` (the body is cut in its middle), `drop` (no answer at
        all), `skip` (matches that pass first).
        """
        self.call("add_fault", pattern=pattern, times=times, **options)

    def clear_faults(self) -> int:
        """Forget all faults; returns how many hadn't happened yet."""
        return int(self.call("clear_faults")["left"])

    def set_rate_limits(self, *, enabled: bool, factor: float = 1.0) -> None:
        """Switch GitLab.com's rate limits, scaled by `factor`."""
        self.call("set_rate_limits", enabled=enabled, factor=factor)

    def requests(self, pattern: str = "") -> list[Json]:
        """What GitLab was asked (`method`, `path`, `status`, `token`, `at`), oldest first."""
        return list(self.call("requests", pattern=pattern)["requests"])

    def clear_requests(self) -> None:
        """Forget what GitLab was asked."""
        self.call("clear_requests")

    def set_instance(self, **changes: Any) -> None:
        """Set the instance's `version`, its `tier`, or whether it `disables_failing_hooks`."""
        self.call("set_instance", **changes)
