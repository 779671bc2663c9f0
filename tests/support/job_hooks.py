"""A deployment that keeps a webhook on each authorised project, on the running stack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
from jobgate.adapters import hook_items
from jobgate.cli.hook_entries import hook_entry, new_secrets
from jobgate.core.hook import HookMade

from local.installation import ALIAS, GROUP

if TYPE_CHECKING:
    from local.stack import Stack


def keep_job_hooks(stack: Stack) -> str:
    """Store what its webhooks share, and a token that may make them; returns the entry's id."""
    entry = hook_entry(None, new_secrets(signing=True))
    secrets = boto3.client("secretsmanager", **stack.aws.client_options)

    def change(output: str, value: Any) -> None:
        arn = stack.aws.outputs[output]
        held = json.loads(secrets.get_secret_value(SecretId=arn)["SecretString"])
        changed = json.dumps(held | {ALIAS: value(held.get(ALIAS))})
        secrets.put_secret_value(SecretId=arn, SecretString=changed)

    token = stack.gitlab.control.create_token(["api"], group=GROUP, role="maintainer")
    change("GitLabHooksArn", lambda entries: [*(entries or ()), entry])
    change("GitLabJobHooksTokenArn", lambda _token: token)
    return str(entry["id"])


def note_made(stack: Stack, project_id: int, entry_id: str) -> None:
    """Say in the table that a project was given its webhook."""
    item = hook_items.hook_made_item(ALIAS, project_id, HookMade(entry_id=entry_id))
    table = boto3.client("dynamodb", **stack.aws.client_options)
    table.put_item(TableName=stack.aws.outputs["TableName"], Item=item)


def job_hooks_of(stack: Stack, project_id: int) -> list[dict[str, Any]]:
    """The webhooks in GitLab that were made for a project."""
    suffix = f"/webhooks/gitlab/{ALIAS}?project={project_id}"
    return [hook for hook in stack.gitlab.control.hooks() if hook["url"].endswith(suffix)]
