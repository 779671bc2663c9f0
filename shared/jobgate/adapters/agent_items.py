"""The stored forms of an agent: its snapshot, its cluster connection, its configuration project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from jobgate.adapters.items import (
    VERSION,
    Item,
    check_version,
    cluster_key,
    compressed_body,
    config_project_key,
    read_body,
    snapshot_key,
)
from jobgate.core.agent import (
    AgentSnapshot,
    AsAgent,
    AsCIJob,
    AsIdentity,
    ClusterConnection,
    ConfigProject,
    Credential,
    EKSCredential,
    Entry,
    Problem,
)
from jobgate.core.errors import Unavailable
from jobgate.core.reasons import Reason
from jobgate.ports.refresh import ConfigProjectItem, Subject

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jobgate.core.agent import AccessAs, ClusterCredential

_CLIENT_IMPERSONATION = "client_impersonation"


def snapshot_item(snapshot: AgentSnapshot) -> Item:
    """An agent's snapshot; what is conditioned on or changed alone is an attribute of its own."""
    project = snapshot.config_project
    doubt = snapshot.doubt_since
    return (
        snapshot_key(snapshot.issuer, snapshot.agent_id)
        | {"version": {"N": str(snapshot.version)}}
        | ({} if doubt is None else {"doubt_since": {"N": repr(doubt)}})
        | compressed_body(
            {
                "issuer": snapshot.issuer,
                "agent_id": snapshot.agent_id,
                "agent_name": snapshot.agent_name,
                "commit": snapshot.commit,
                "valid": snapshot.valid,
                "valid_since": snapshot.valid_since,
                "blob": snapshot.blob,
                "config_project": {
                    "project_id": project.project_id,
                    "path": project.path,
                    "namespace_id": project.namespace_id,
                    "root_id": project.root_id,
                },
                "projects": {str(i): _entry(e) for i, e in snapshot.projects.items()},
                "groups": {str(i): _entry(e) for i, e in snapshot.groups.items()},
                "instance": None if snapshot.instance is None else _entry(snapshot.instance),
                "problems": [
                    [p.code, p.file, p.line, p.column, p.text, p.fix] for p in snapshot.problems
                ],
                "former": dict(snapshot.former),
            }
        )
    )


def snapshot_of(item: Item | None) -> AgentSnapshot | None:
    """The reverse of `snapshot_item`."""
    if item is None:
        return None

    def read(body: dict[str, Any]) -> AgentSnapshot:
        instance = body["instance"]
        return AgentSnapshot(
            issuer=body["issuer"],
            agent_id=body["agent_id"],
            agent_name=body["agent_name"],
            version=int(item["version"]["N"]),
            commit=body["commit"],
            valid=body["valid"],
            valid_since=body.get("valid_since"),
            doubt_since=_seconds(item, "doubt_since"),
            config_project=ConfigProject(**body["config_project"]),
            projects={int(i): _entry_of(e) for i, e in body["projects"].items()},
            groups={int(i): _entry_of(e) for i, e in body["groups"].items()},
            instance=None if instance is None else _entry_of(instance),
            problems=tuple(
                Problem(code=code, file=file, line=line, column=column, text=text, fix=fix)
                for code, file, line, column, text, fix in body["problems"]
            ),
            blob=body.get("blob"),
            former=body.get("former", {}),
        )

    return read_body(item, read)


def subjects_value(subjects: Collection[Subject]) -> dict[str, list[str]]:
    """Subjects as a set in DynamoDB's form; it may not be empty."""
    return {"SS": sorted(f"{subject.kind}#{subject.id}" for subject in subjects)}


def listed_of(item: Item | None) -> frozenset[Subject]:
    """The subjects in an agent's list."""
    if item is None:
        return frozenset()
    check_version(item)
    try:
        # A set that has lost its last element isn't there any more.
        texts = item["subjects"]["SS"] if "subjects" in item else ()
        parts = (text.split("#") for text in texts)
        return frozenset(Subject(kind, int(number)) for kind, number in parts)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise Unavailable("an agent's list of subjects that can't be read") from exc


def cluster_item(cluster: ClusterConnection) -> Item:
    """An agent's cluster connection: attributes of their own, for an operator's eyes."""
    item = cluster_key(cluster.issuer, cluster.agent_id) | {
        "v": {"N": str(VERSION)},
        "name": {"S": cluster.agent_name},
        "config_project_id": {"N": str(cluster.config_project_id)},
        "server": {"S": cluster.server},
        "relay_credential": _credential(cluster.relay_credential),
    }
    if cluster.ca is not None:
        item["ca"] = {"S": cluster.ca}
    if cluster.tls_server_name is not None:
        item["tls_server_name"] = {"S": cluster.tls_server_name}
    if cluster.agent_credential is not None:
        item["agent_credential"] = _credential(cluster.agent_credential)
    if cluster.allow_client_impersonation:
        item["options"] = {"M": {_CLIENT_IMPERSONATION: {"BOOL": True}}}
    return item


def cluster_of(item: Item | None) -> ClusterConnection | None:
    """The reverse of `cluster_item`."""
    if item is None:
        return None
    check_version(item)
    try:
        _, issuer, agent_id = item["pk"]["S"].split("#")
        agent = item.get("agent_credential")
        return ClusterConnection(
            issuer=issuer,
            agent_id=int(agent_id),
            agent_name=item["name"]["S"],
            config_project_id=int(item["config_project_id"]["N"]),
            server=item["server"]["S"],
            ca=item["ca"]["S"] if "ca" in item else None,
            relay_credential=_credential_of(item["relay_credential"]),
            agent_credential=None if agent is None else _credential_of(agent),
            allow_client_impersonation=_option(item, _CLIENT_IMPERSONATION),
            tls_server_name=_text(item, "tls_server_name"),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a cluster connection that can't be read") from exc


def config_project_item(project: ConfigProjectItem) -> Item:
    """A configuration project before its first refresh."""
    return config_project_key(project.issuer, project.project_id) | {
        "v": {"N": str(VERSION)},
        "agents": {"M": {str(i): {"S": name} for i, name in project.agents.items()}},
    }


def config_project_named(item: Item) -> tuple[str, int]:
    """The issuer and the id of a configuration project, by its key, whatever else is stored."""
    issuer, project_id = item["sk"]["S"].split("#")
    return issuer, int(project_id)


def config_project_of(item: Item | None) -> ConfigProjectItem | None:
    """The reverse of `config_project_item`, with what refreshes wrote since."""
    if item is None:
        return None
    check_version(item)
    try:
        issuer, project_id = config_project_named(item)
        return ConfigProjectItem(
            issuer=issuer,
            project_id=project_id,
            agents={int(i): name["S"] for i, name in item["agents"]["M"].items()},
            root_path=_text(item, "root_path"),
            last_commit=_text(item, "last_commit"),
            last_error=_text(item, "last_error"),
            last_note=_text(item, "last_note"),
            last_at=_seconds(item, "last_at"),
            reading=_count(item, "reading"),
            finished=_count(item, "finished"),
            done=frozenset(int(i) for i in item["done"]["NS"]) if "done" in item else frozenset(),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise Unavailable("a configuration project that can't be read") from exc


def _option(item: Item, name: str) -> bool:
    """A switch of a connection; one that isn't there is off."""
    if "options" not in item:
        return False
    value = item["options"]["M"].get(name, {"BOOL": False})["BOOL"]
    if not isinstance(value, bool):
        raise TypeError("an option that is neither on nor off")
    return value


def _seconds(item: Item, name: str) -> float | None:
    return float(item[name]["N"]) if name in item else None


def _count(item: Item, name: str) -> int:
    return int(item[name]["N"]) if name in item else 0


def _text(item: Item, name: str) -> str | None:
    return item[name]["S"] if name in item else None


def _entry(entry: Entry) -> dict[str, Any]:
    body: dict[str, Any] = {"path": entry.path, "as": _access_as(entry.access_as)}
    if entry.default_namespace is not None:
        body["namespace"] = entry.default_namespace
    if entry.environments:
        body["environments"] = list(entry.environments)
    if entry.protected_branches_only:
        body["protected"] = True
    if entry.refused is not None:
        body["refused"] = str(entry.refused)
    return body


def _entry_of(body: Mapping[str, Any]) -> Entry:
    refused = body.get("refused")
    return Entry(
        path=body["path"],
        access_as=_access_as_of(body["as"]),
        default_namespace=body.get("namespace"),
        environments=tuple(body.get("environments", ())),
        protected_branches_only=body.get("protected", False),
        refused=None if refused is None else Reason(refused),
    )


def _access_as(access_as: AccessAs) -> dict[str, Any]:
    match access_as:
        case AsAgent():
            return {"agent": {}}
        case AsCIJob():
            return {"ci_job": {}}
        case AsIdentity(username, uid, groups, extra):
            return {
                "impersonate": {
                    "username": username,
                    "uid": uid,
                    "groups": groups,
                    "extra": extra,
                }
            }
        case unreachable:
            assert_never(unreachable)


def _access_as_of(body: Mapping[str, Any]) -> AccessAs:
    match body:
        case {"agent": _}:
            return AsAgent()
        case {"ci_job": _}:
            return AsCIJob()
        case {"impersonate": given}:
            return AsIdentity(
                username=given["username"],
                uid=given["uid"],
                groups=tuple(given["groups"]),
                extra=tuple((name, tuple(values)) for name, values in given["extra"]),
            )
        case _:
            raise ValueError("an unknown access_as")


def _credential(credential: ClusterCredential) -> dict[str, Any]:
    if isinstance(credential, Credential):
        return {"M": {"kind": {"S": credential.kind}, "secret": {"S": credential.secret}}}
    texts = {"kind": "eks", "cluster": credential.cluster, "region": credential.region}
    if credential.role_arn is not None:
        texts["role_arn"] = credential.role_arn
    return {"M": {name: {"S": text} for name, text in texts.items()}}


def _credential_of(attribute: Mapping[str, Any]) -> ClusterCredential:
    texts = {name: value["S"] for name, value in attribute["M"].items()}
    kind = texts.pop("kind")
    if kind == "eks":
        return EKSCredential(**texts)
    if kind not in ("token", "cert"):
        raise ValueError("an unknown kind of credential")
    return Credential(kind=kind, secret=texts["secret"])
