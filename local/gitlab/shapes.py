"""The JSON of REST answers (https://docs.gitlab.com/api/rest/)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.gitlab.events import project_urls
from local.gitlab.times import api_time

if TYPE_CHECKING:
    from local.gitlab.instance import Instance
    from local.gitlab.records import Group, Hook, Project, Token, User

#: The switches of each kind of hook, in the order of its answers.
HOOK_EVENTS = {
    "project": (
        "push_events",
        "tag_push_events",
        "merge_requests_events",
        "repository_update_events",
        "issues_events",
        "confidential_issues_events",
        "note_events",
        "confidential_note_events",
        "pipeline_events",
        "wiki_page_events",
        "deployment_events",
        "feature_flag_events",
        "job_events",
        "releases_events",
        "milestone_events",
        "emoji_events",
        "resource_access_token_events",
    ),
    "system": (
        "push_events",
        "tag_push_events",
        "merge_requests_events",
        "repository_update_events",
    ),
}
HOOK_EVENTS["group"] = (
    *HOOK_EVENTS["project"],
    "subgroup_events",
    "project_events",
    "member_events",
)


def basic_project(instance: Instance, project: Project) -> dict[str, Any]:
    """A project as `simple=true` shows it."""
    web, http, ssh = project_urls(instance, project)
    places = instance.places
    return {
        "id": project.id,
        "description": None,
        "name": project.name,
        "name_with_namespace": f"{places.namespace_name(project.namespace_id)} / {project.name}",
        "path": project.path,
        "path_with_namespace": places.project_path(project),
        "created_at": api_time(project.created_at),
        "default_branch": project.default_branch,
        "tag_list": [],
        "topics": [],
        "ssh_url_to_repo": ssh,
        "http_url_to_repo": http,
        "web_url": web,
        "readme_url": None,
        "forks_count": 0,
        "avatar_url": None,
        "star_count": 0,
        "last_activity_at": api_time(project.updated_at),
        "visibility": project.visibility,
        "namespace": namespace_shape(instance, project.namespace_id),
    }


def full_project(instance: Instance, project: Project, *, empty: bool) -> dict[str, Any]:
    """A project with its settings."""
    shared = [
        {
            "group_id": group_id,
            "group_name": instance.places.groups[group_id].name,
            "group_full_path": instance.places.namespace_path(group_id),
            "group_access_level": level,
            "expires_at": None,
        }
        for group_id, level in project.shared_with
        if group_id in instance.places.groups
    ]
    api = f"{instance.url}/api/v4/projects/{project.id}"
    return {
        **basic_project(instance, project),
        "_links": {
            "self": api,
            "repo_branches": f"{api}/repository/branches",
            "events": f"{api}/events",
            "members": f"{api}/members",
        },
        "empty_repo": empty,
        "archived": project.archived,
        "jobs_enabled": True,
        "builds_access_level": "enabled",
        "repository_access_level": "enabled",
        "shared_runners_enabled": True,
        "creator_id": project.creator_id,
        "import_status": "none",
        "public_jobs": True,
        "build_timeout": 3600,
        "ci_config_path": "",
        "ci_id_token_sub_claim_components": list(project.sub_components),
        "shared_with_groups": shared,
        "marked_for_deletion_at": project.marked_for_deletion_on,
        "marked_for_deletion_on": project.marked_for_deletion_on,
    }


def namespace_shape(instance: Instance, namespace_id: int) -> dict[str, Any]:
    """The `namespace` of a project."""
    group = instance.places.groups.get(namespace_id)
    full_path = instance.places.namespace_path(namespace_id)
    owner = instance.places.owner(namespace_id)
    web = f"{instance.url}/groups/{full_path}" if group else f"{instance.url}/{full_path}"
    return {
        "id": namespace_id,
        "name": group.name if group else owner.name if owner else "",
        "path": group.path if group else full_path,
        "kind": "group" if group else "user",
        "full_path": full_path,
        "parent_id": group.parent_id if group else None,
        "avatar_url": None,
        "web_url": web,
    }


def public_group(instance: Instance, group: Group) -> dict[str, Any]:
    """A group as the list of a project's groups shows it."""
    full_path = instance.places.namespace_path(group.id)
    return {
        "id": group.id,
        "web_url": f"{instance.url}/groups/{full_path}",
        "name": group.name,
        "avatar_url": None,
        "full_name": instance.places.namespace_name(group.id),
        "full_path": full_path,
    }


def full_group(instance: Instance, group: Group) -> dict[str, Any]:
    """A group with its settings."""
    return {
        **public_group(instance, group),
        "path": group.path,
        "description": "",
        "visibility": group.visibility,
        "share_with_group_lock": False,
        "require_two_factor_authentication": False,
        "project_creation_level": "developer",
        "subgroup_creation_level": "maintainer",
        "lfs_enabled": True,
        "default_branch": None,
        "request_access_enabled": True,
        "created_at": api_time(group.created_at),
        "parent_id": group.parent_id,
        "organization_id": 1,
        "shared_runners_setting": "enabled",
        "marked_for_deletion_on": None,
    }


def basic_user(instance: Instance, user: User) -> dict[str, Any]:
    """A user as others see them."""
    return {
        "id": user.id,
        "username": user.username,
        "public_email": None,
        "name": user.name,
        "state": "active",
        "locked": False,
        "avatar_url": None,
        "web_url": f"{instance.url}/{user.username}",
    }


def token_shape(token: Token, *, last_used_at: float) -> dict[str, Any]:
    """An access token, without its secret."""
    return {
        "id": token.id,
        "name": token.name,
        "revoked": token.revoked,
        "created_at": api_time(token.created_at),
        "description": None,
        "scopes": list(token.scopes),
        "user_id": token.user_id,
        "last_used_at": api_time(last_used_at),
        "active": not token.revoked,
        "expires_at": token.expires_at,
    }


def hook_shape(hook: Hook, *, now: float) -> dict[str, Any]:
    """A hook, without its secrets."""
    paused = hook.disabled_until is not None and hook.disabled_until > now
    owner = {} if hook.owner_id is None else {f"{hook.kind}_id": hook.owner_id}
    return {
        "id": hook.id,
        "url": hook.url,
        "name": hook.name,
        "description": hook.description,
        "created_at": api_time(hook.created_at),
        **{event: event in hook.events for event in HOOK_EVENTS[hook.kind]},
        "enable_ssl_verification": hook.enable_ssl_verification,
        "alert_status": "temporarily_disabled" if paused else "executable",
        "disabled_until": api_time(hook.disabled_until) if paused else None,
        "url_variables": [],
        "push_events_branch_filter": hook.branch_filter or None,
        "branch_filter_strategy": "wildcard" if hook.branch_filter else "all_branches",
        "custom_webhook_template": None,
        "custom_headers": [{"key": name} for name, _ in hook.custom_headers],
        **owner,
    }
