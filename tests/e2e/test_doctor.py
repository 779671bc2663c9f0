"""`jobgate doctor` on the whole stack: silent where all is well, and each seeded fault by name."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from jobgate.adapters import hook_items, items, operator_items
from jobgate.adapters.boto_aws import BotoAWS
from jobgate.cli.app import app
from jobgate.cli.connect import Outside
from jobgate.cli.table import Table
from typer.testing import CliRunner

from local.certificates import CertificateAuthority
from local.installation import ALIAS, AUDIENCE, GROUP, Installation
from local.process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from local.stack import Stack

pytestmark = pytest.mark.stack

NAME = "patient"
PROJECT = "acme/doctor"
APP = "acme/doctor-app"  # of no other test: whoever may use one agent more has no current context
NAMESPACE = "doctor"
_FILE = f".gitlab/agents/{NAME}/config.yaml"
_CONFIG = f"ci_access: {{projects: [{{id: {APP}, access_as: {{ci_job: {{}}}}}}]}}\n"
_SECONDS = 30
_PATIENCE_SECONDS = 90


@dataclass(slots=True)
class Patient:
    """A healthy deployment, with an agent of its own to make ill; what is seeded is taken back."""

    stack: Stack
    installation: Installation
    folder: Path
    agent_id: int = 0
    project_id: int = 0
    app_id: int = 0
    ahead: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *options: str) -> tuple[int, list[dict[str, Any]]]:
        """The exit code, and what was found."""
        outside = Outside(
            aws=BotoAWS(self._session()),
            environment=self.environment,
            clock=lambda: time.time() + self.ahead,  # noqa: TID251  the machine's, set off
        )
        found = CliRunner().invoke(app, ["doctor", "--json", *options], obj=outside)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found.exit_code, json.loads(found.stdout)

    @property
    def codes(self) -> list[str]:
        return [finding["code"] for finding in self.run()[1]]

    def aws(self, service: str) -> Any:
        return boto3.client(service, **self.stack.aws.client_options)

    def output(self, name: str) -> str:
        return self.stack.aws.outputs[name]

    def resource(self, kind: str) -> str:
        """The name of the deployment's only resource of this type."""
        client = self.aws("cloudformation")
        found = client.describe_stack_resources(StackName=self.stack.aws.stack_name)
        (name,) = (
            each["PhysicalResourceId"]
            for each in found["StackResources"]
            if each["ResourceType"] == kind
        )
        return str(name).rpartition("/")[2].rpartition("|")[2]

    @property
    def table(self) -> Table:
        return Table(BotoAWS(self._session()), self.output("TableName"))

    def _session(self) -> boto3.Session:
        return boto3.Session("test", "test", region_name="eu-central-1")

    @contextlib.contextmanager
    def item(
        self, key: items.Item, change: Callable[[items.Item], items.Item | None]
    ) -> Iterator[None]:
        """An item with a change, or without itself."""
        before = self.table.get(key)
        assert before is not None
        after = change(json.loads(json.dumps(before)))
        self.table.delete(key) if after is None else self.table.put(after)
        try:
            yield
        finally:
            self.table.put(before)

    @contextlib.contextmanager
    def secret(self, output: str, value: dict[str, Any]) -> Iterator[None]:
        """Another value in one of the stack's secrets."""
        store, name = self.aws("secretsmanager"), self.output(output)
        before = store.get_secret_value(SecretId=name)["SecretString"]
        store.put_secret_value(SecretId=name, SecretString=json.dumps(value))
        try:
            yield
        finally:
            store.put_secret_value(SecretId=name, SecretString=before)

    @contextlib.contextmanager
    def kubectl(self, make: tuple[str, ...], undo: tuple[str, ...]) -> Iterator[None]:
        self.stack.admin.must(*make)
        try:
            yield
        finally:
            self.stack.admin.must(*undo)


def once(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def patient(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """A deployment of its own: stops and clusters of other tests would be found too."""
    folder = tmp_path_factory.mktemp("patient")
    with (
        stack.beside(folder / "stack", "jobgate-patient", {}, own_gitlab=True) as second,
        pytest.MonkeyPatch.context() as patch,
    ):
        installation = Installation.create(second, namespace="ward", tell=lambda _c, _o: None)
        installation.grant()
        installation.configure()
        for name, value in second.aws.environment.items():
            patch.setenv(name, value)
        patch.setenv("JOBGATE_STACK", second.aws.stack_name)
        made = Patient(second, installation, folder)
        made.project_id = int(second.gitlab.control.create_project(PROJECT)["id"])
        made.app_id = int(second.gitlab.control.create_project(APP)["id"])
        second.gitlab.control.commit(PROJECT, {_FILE: _CONFIG})
        made.agent_id = register(installation, NAME)
        once(lambda: is_active(installation, NAME))
        yield made


def register(installation: Installation, name: str, *options: str) -> int:
    given = [*installation.cluster_options, "--namespace", NAMESPACE, *options, "--json"]
    return int(json.loads(installation.jobgate("agent", "register", PROJECT, name, *given))["id"])


def is_active(installation: Installation, name: str) -> bool:
    rows = json.loads(installation.jobgate("agent", "list", "--json"))
    return any(r["context"] == f"{PROJECT}:{name}" and r["state"] == "active" for r in rows)


def body(**values: object) -> Callable[[items.Item], items.Item]:
    """A change of an item whose attributes are in one JSON text."""

    def change(item: items.Item) -> items.Item:
        item["body"]["S"] = json.dumps(json.loads(item["body"]["S"]) | values)
        return item

    return change


def gone(_item: items.Item) -> None:
    return None


def attribute(name: str, value: dict[str, Any]) -> Callable[[items.Item], items.Item]:
    return lambda item: item | {name: value}


def other_authority(patient: Patient) -> str:
    """The PEM of an authority that signed nothing here."""
    folder = patient.folder / f"other-{free_port()}"
    return CertificateAuthority.create(folder).certificate.read_text()


# --- The stack ---


def seed_settings_gone(p: Patient) -> Any:
    return p.item(operator_items.SETTINGS_KEY, gone)


def seed_wrong_url(p: Patient) -> Any:
    return p.item(operator_items.SETTINGS_KEY, body(base_url=f"https://127.0.0.1:{free_port()}"))


def seed_wrong_front_ca(p: Patient) -> Any:
    return p.item(operator_items.SETTINGS_KEY, body(ca=other_authority(p)))


@contextlib.contextmanager
def seed_disabled_key(p: Patient) -> Iterator[None]:
    kms, key = p.aws("kms"), p.output("SigningKeyAArn")
    kms.disable_key(KeyId=key)
    try:
        yield
    finally:
        kms.enable_key(KeyId=key)


def seed_no_published_key(p: Patient) -> Any:
    (key,) = p.table.query("KEYS")
    return p.item(items.key("KEYS", key["sk"]["S"]), gone)


@contextlib.contextmanager
def seed_dead_letter(p: Patient) -> Iterator[None]:
    sqs, queue = p.aws("sqs"), p.output("RefreshDeadLetterQueueUrl")
    sqs.send_message(
        QueueUrl=queue, MessageBody="{}", MessageGroupId="g", MessageDeduplicationId="d"
    )
    try:
        yield
    finally:
        sqs.purge_queue(QueueUrl=queue)


@contextlib.contextmanager
def seed_schedule_off(p: Patient) -> Iterator[None]:
    scheduler = p.aws("scheduler")
    # The deployment's own: the account has one for each deployment.
    found = scheduler.get_schedule(Name=p.resource("AWS::Scheduler::Schedule"))
    kept = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    same = {key: found[key] for key in kept}
    scheduler.update_schedule(**same, State="DISABLED")
    try:
        yield
    finally:
        scheduler.update_schedule(**same, State="ENABLED")


@contextlib.contextmanager
def seed_clock(p: Patient) -> Iterator[None]:
    p.ahead = 20.0 + 60.0
    try:
        yield
    finally:
        p.ahead = 0.0


def seed_no_issuer(p: Patient) -> Any:
    return p.item(items.key("ISSUERS", ALIAS), gone)


# --- GitLab ---


@contextlib.contextmanager
def seed_stop(p: Patient) -> Iterator[None]:
    p.installation.jobgate("revoke", "project", "4711", "--why", "drill")
    try:
        yield
    finally:
        p.installation.jobgate("restore", "project", "4711")


def seed_no_stops(p: Patient) -> Any:
    return p.item(operator_items.stops_key(ALIAS), gone)


def seed_single_use(p: Patient) -> Any:
    return p.item(items.key("ISSUERS", ALIAS), body(single_use=True))


@contextlib.contextmanager
def seed_gitlab_away(p: Patient) -> Iterator[None]:
    p.stack.gitlab.control.fail_next("openid-configuration", status=502, times=9)
    try:
        yield
    finally:
        p.stack.gitlab.control.clear_faults()


def seed_wrong_gitlab_ca(p: Patient) -> Any:
    return p.item(items.key("ISSUERS", ALIAS), body(ca=other_authority(p)))


def seed_wrong_issuer_url(p: Patient) -> Any:
    return p.item(items.key("ISSUERS", ALIAS), body(url="https://gitlab.example.test"))


def seed_expired_token(p: Patient) -> Any:
    return p.secret("GitLabTokensArn", {ALIAS: "glpat-expired"})


def seed_no_token(p: Patient) -> Any:
    return p.secret("GitLabTokensArn", {})


def seed_weak_token(p: Patient) -> Any:
    token = p.stack.gitlab.control.create_token(["read_user"], group=GROUP, role="reporter")
    return p.secret("GitLabTokensArn", {ALIAS: token})


def seed_blind_token(p: Patient) -> Any:
    control = p.stack.gitlab.control
    control.create_group("elsewhere-doctor")
    token = control.create_token(["read_api"], group="elsewhere-doctor", role="reporter")
    return p.secret("GitLabTokensArn", {ALIAS: token})


def seed_no_hook(p: Patient) -> Any:
    return p.secret("GitLabHooksArn", {ALIAS: []})


def seed_silent_hook(p: Patient) -> Any:
    group = p.installation.groups[GROUP]
    return p.item(hook_items.hook_seen_key(ALIAS, "group", group), gone)


def our_hook(p: Patient) -> dict[str, Any]:
    url = f"{p.stack.gateway.url}/webhooks/gitlab/{ALIAS}"
    return next(hook for hook in p.stack.gitlab.control.hooks() if hook["url"] == url)


@contextlib.contextmanager
def with_set_up_token(p: Patient) -> Iterator[None]:
    token = p.stack.gitlab.control.create_token(["api"], group=GROUP, role="owner")
    p.environment["GITLAB_TOKEN"] = token
    try:
        yield
    finally:
        del p.environment["GITLAB_TOKEN"]


@contextlib.contextmanager
def seed_moved_hook(p: Patient) -> Iterator[None]:
    hook = our_hook(p)
    other = f"https://127.0.0.1:9/live/webhooks/gitlab/{ALIAS}"
    p.stack.gitlab.control.edit_hook(hook["id"], url=other)
    try:
        with with_set_up_token(p):
            yield
    finally:
        p.stack.gitlab.control.edit_hook(hook["id"], url=hook["url"])


@contextlib.contextmanager
def seed_other_hook_secret(p: Patient) -> Iterator[None]:
    store, name = p.aws("secretsmanager"), p.output("GitLabHooksArn")
    stored = json.loads(store.get_secret_value(SecretId=name)["SecretString"])
    wrong = {"secret_token": "another", "signing_token": None}
    with p.secret("GitLabHooksArn", {ALIAS: [entry | wrong for entry in stored[ALIAS]]}):
        time.sleep(1.5)  # a warm function reads them again after a second
        with with_set_up_token(p):
            yield


@contextlib.contextmanager
def seed_deleted_hook(p: Patient) -> Iterator[None]:
    p.stack.gitlab.control.delete_hook(our_hook(p)["id"])
    with with_set_up_token(p):
        token = p.environment["GITLAB_TOKEN"]
        try:
            yield
        finally:
            p.installation.jobgate("gitlab", "connect", GROUP, GITLAB_TOKEN=token)


# --- Configuration project and agent ---


def project_key(p: Patient) -> items.Item:
    return items.config_project_key(ALIAS, p.project_id)


def seed_old_head(p: Patient) -> Any:
    return p.item(project_key(p), attribute("last_commit", {"S": "c0ffee" * 6}))


def seed_failed_refresh(p: Patient) -> Any:
    return p.item(project_key(p), attribute("last_error", {"S": "GitLab answered 403"}))


@contextlib.contextmanager
def seed_re_registered_project(p: Patient) -> Iterator[None]:
    control = p.stack.gitlab.control
    control.rename_project(PROJECT, "doctor-before")
    control.create_project(PROJECT)
    try:
        yield
    finally:
        control.delete_project(PROJECT)
        control.rename_project("acme/doctor-before", "doctor")


@contextlib.contextmanager
def another_agent(p: Patient, name: str, text: str | None, *options: str) -> Iterator[None]:
    control = p.stack.gitlab.control
    if text is not None:
        control.commit(PROJECT, {f".gitlab/agents/{name}/config.yaml": text})
    agent_id = register(p.installation, name, *options)

    def is_refreshed() -> bool:
        shown = json.loads(p.installation.jobgate("agent", "show", str(agent_id), "--json"))
        return shown["state"] in ("active", "never valid")

    try:
        once(is_refreshed)
        yield
    finally:
        p.installation.jobgate("agent", "remove", str(agent_id))


def seed_no_file(p: Patient) -> Any:
    return another_agent(p, "bare", None)


def seed_broken_file(p: Patient) -> Any:
    return another_agent(p, "broken", "ci_access: {groups: [{id: acme, acces_as: {}}]}\n")


def seed_agent_mode_without_credential(p: Patient) -> Any:
    text = f"ci_access: {{projects: [{{id: {APP}}}]}}\n"
    return another_agent(p, "plain", text, "--no-agent-mode")


def cluster_key(p: Patient) -> items.Item:
    return items.cluster_key(ALIAS, p.agent_id)


def seed_no_connection(p: Patient) -> Any:
    return p.item(cluster_key(p), gone)


def seed_lost_index(p: Patient) -> Any:
    return p.item(items.subject_key(ALIAS, "project", p.app_id), gone)


# --- Cluster ---


def seed_no_credential(p: Patient) -> Any:
    nothing = {
        "M": {"kind": {"S": "token"}, "secret": {"S": p.output("ClusterSecretPrefix") + "x"}}
    }
    return p.item(cluster_key(p), attribute("relay_credential", nothing))


@contextlib.contextmanager
def seed_refused_credential(p: Patient) -> Iterator[None]:
    store, name = p.aws("secretsmanager"), p.output("ClusterSecretPrefix") + "ended"
    store.create_secret(Name=name, SecretString=json.dumps({"token": "ended"}))
    ended = {"M": {"kind": {"S": "token"}, "secret": {"S": name}}}
    with p.item(cluster_key(p), attribute("relay_credential", ended)):
        yield


def seed_wrong_cluster_ca(p: Patient) -> Any:
    return p.item(cluster_key(p), attribute("ca", {"S": other_authority(p)}))


def seed_cluster_away(p: Patient) -> Any:
    server = f"https://127.0.0.1:{free_port()}"
    return p.item(cluster_key(p), attribute("server", {"S": server}))


def relay_role(p: Patient) -> str:
    return f"jobgate-relay:{NAMESPACE}:{ALIAS}:{p.agent_id}"


def seed_no_impersonation(p: Patient) -> Any:
    role = relay_role(p)
    account = f"--serviceaccount={NAMESPACE}:jobgate-relay"
    return p.kubectl(
        ("delete", "clusterrolebinding", role),
        ("create", "clusterrolebinding", role, f"--clusterrole={role}", account),
    )


def seed_no_renewal(p: Patient) -> Any:
    name, where = "jobgate-token-renewal", f"--namespace={NAMESPACE}"
    account = f"--serviceaccount={NAMESPACE}:jobgate-relay"
    return p.kubectl(
        ("delete", "rolebinding", name, where),
        ("create", "rolebinding", name, f"--role={name}", account, where),
    )


def bound(p: Patient, account: str, *rule: str) -> Any:
    @contextlib.contextmanager
    def seeded() -> Iterator[None]:
        admin, name = p.stack.admin, "doctors-seed"
        admin.must("create", "clusterrole", name, *rule)
        subject = f"--serviceaccount={NAMESPACE}:{account}"
        admin.must("create", "clusterrolebinding", name, f"--clusterrole={name}", subject)
        try:
            yield
        finally:
            admin.must("delete", "clusterrole,clusterrolebinding", name)

    return seeded()


def seed_legacy_grant(p: Patient) -> Any:
    return bound(p, "jobgate-relay", "--verb=impersonate", "--resource=users,groups")


def seed_strong_relay(p: Patient) -> Any:
    return bound(p, "jobgate-relay", "--verb=*", "--resource=*.*")


def seed_impersonating_agent(p: Patient) -> Any:
    return bound(p, "jobgate-agent", "--verb=impersonate", "--resource=users")


def seed_agent_that_creates_tokens(p: Patient) -> Any:
    return bound(p, "jobgate-agent", "--verb=create", "--resource=serviceaccounts/token")


def seed_agent_beside_the_accounts(p: Patient) -> Any:
    return bound(p, "jobgate-agent", "--verb=create", "--resource=pods")


SEEDS: dict[str, tuple[Callable[[Patient], Any], str]] = {
    "the settings are gone": (seed_settings_gone, "not_set_up"),
    "wrong relay URL": (seed_wrong_url, "front"),
    "wrong CA of our own URL": (seed_wrong_front_ca, "front"),
    "the signing key is disabled": (seed_disabled_key, "signing_key"),
    "no key is published": (seed_no_published_key, "no_signing_key"),
    "the dead-letter queue isn't empty": (seed_dead_letter, "dead_letters"),
    "reconcile doesn't run": (seed_schedule_off, "no_reconcile"),
    "the clock is off": (seed_clock, "clock"),
    "no GitLab is trusted": (seed_no_issuer, "no_issuer"),
    "a stop is in force": (seed_stop, "stopped"),
    "the stops' item is gone": (seed_no_stops, "no_stops_item"),
    "single use, and the exec form": (seed_single_use, "single_use"),
    "GitLab is away": (seed_gitlab_away, "gitlab"),
    "GitLab's CA is wrong": (seed_wrong_gitlab_ca, "gitlab"),
    "GitLab calls itself otherwise": (seed_wrong_issuer_url, "issuer_url"),
    "the run-time token has expired": (seed_expired_token, "run_time_token"),
    "no run-time token is stored": (seed_no_token, "run_time_token"),
    "the run-time token lacks its scope": (seed_weak_token, "run_time_token"),
    "the run-time token sees nothing": (seed_blind_token, "run_time_token"),
    "there is no hook": (seed_no_hook, "no_hook"),
    "the hook delivered nothing": (seed_silent_hook, "hook_silent"),
    "the hook leads elsewhere": (seed_moved_hook, "hook_url"),
    "the hook's secret is another": (seed_other_hook_secret, "hook_refused"),
    "the hook is deleted in GitLab": (seed_deleted_hook, "hook_gone"),
    "the head isn't processed": (seed_old_head, "head_not_processed"),
    "the last refresh failed": (seed_failed_refresh, "refresh_failed"),
    "the project's path is another's": (seed_re_registered_project, "project_replaced"),
    "an agent has no file": (seed_no_file, "no_config"),
    "an agent's file is broken": (seed_broken_file, "never_valid"),
    "agent mode without a credential": (seed_agent_mode_without_credential, "no_agent_mode"),
    "an agent has no connection": (seed_no_connection, "unfinished"),
    "the index is out of step": (seed_lost_index, "index"),
    "the credential is gone": (seed_no_credential, "credential_unreadable"),
    "the credential has ended": (seed_refused_credential, "credential_refused"),
    "the cluster's CA is wrong": (seed_wrong_cluster_ca, "cluster_ca"),
    "the cluster is away": (seed_cluster_away, "cluster_unreachable"),
    "RBAC is missing": (seed_no_impersonation, "may_not_impersonate"),
    "renewal's RBAC is missing": (seed_no_renewal, "may_not_renew"),
    "a legacy grant reopens": (seed_legacy_grant, "legacy_grant"),
    "the relay may do everything": (seed_strong_relay, "relay_too_strong"),
    "the agent may impersonate": (seed_impersonating_agent, "agent_impersonates"),
    "the agent makes pods beside the accounts": (
        seed_agent_beside_the_accounts,
        "agent_beside_accounts",
    ),
    "the agent may create tokens": (seed_agent_that_creates_tokens, "agent_creates_tokens"),
}
QUICK = ("wrong relay URL", "the run-time token has expired", "RBAC is missing")


def test_healthy_deployment_has_no_findings(patient: Patient) -> None:
    assert patient.run() == (0, [])


def test_webhooks_are_tested_where_a_set_up_token_is_given(patient: Patient) -> None:
    with with_set_up_token(patient):
        assert patient.run() == (0, [])


@pytest.mark.parametrize("name", QUICK)
def test_fault_is_found(patient: Patient, name: str) -> None:
    _found(patient, name)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in SEEDS if name not in QUICK])
def test_each_seeded_fault_is_found_named_and_told_how_to_mend(patient: Patient, name: str) -> None:
    _found(patient, name)


def _found(patient: Patient, name: str) -> None:
    seed, code = SEEDS[name]

    with seed(patient):
        # The API server remembers for ten seconds whom it let act as somebody, and a warm function
        # for a minute the secrets that it has read.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            exit_code, found = patient.run()
            mine = [finding for finding in found if finding["code"] == code]
            if mine or time.monotonic() > deadline:
                break
            time.sleep(0.5)

    assert mine, found
    assert all(finding["fix"] and finding["text"] for finding in mine)
    assert exit_code == (1 if any(f["severity"] == "fault" for f in found) else 0)
    # What was seeded is the only thing wrong, and is taken back.
    assert patient.run() == (0, [])


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "https://other.example"}, "audience"),
        ({"aud": [AUDIENCE]}, "audience"),
        ({"iss": "https://gitlab.other.example"}, "unknown_issuer"),
        ({"iat": 4_000_000_000}, "token_clock"),
    ],
)
def test_token_that_would_be_refused_is_told_why(
    patient: Patient, tmp_path: Path, claims: dict[str, object], code: str
) -> None:
    good = {"iss": patient.stack.gitlab.url, "aud": AUDIENCE, "iat": 1_700_000_000}
    file = tmp_path / "claims.json"
    file.write_text(json.dumps(good | claims))

    exit_code, found = patient.run("--claims", str(file))

    assert (exit_code, [finding["code"] for finding in found]) == (1, [code])
