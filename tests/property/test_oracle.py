"""The product and an independent reading of GitLab's rules agree on generated instances.

An instance is a tree of groups and users' namespaces at three moments: before the file was written,
when it was read, and when the job runs. In between, groups and projects are renamed and moved.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from jobgate.core.agent_configuration import AgentConfiguration, read_configuration
from jobgate.core.authorization import Allowed, authorize, trusted_chain
from jobgate.core.bounds import Bounds
from jobgate.core.environment import environment_matches, environment_slug
from jobgate.core.impersonation import identity_of
from jobgate.core.namespace import Namespace, NamespaceChain, ProjectPlace, Surroundings
from jobgate.core.settings import Settings
from jobgate.core.snapshot import SnapshotHead, Target, Targets, compile_snapshot, keep_last_good

from tests.support import builders as b
from tests.support import oracle as o

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random  # noqa: TID251 - the type of what Hypothesis draws

    from jobgate.core.agent import AgentSnapshot
    from jobgate.core.job import JobIdentity

FILE = ".gitlab/agents/prod/config.yaml"
BOUNDS = Bounds()
DEPTH = 6
# Names that another one begins with, that differ by case alone, and that look like an id.
NAMES = ("acme", "acme-evil", "App", "api", "Top", "x", "2", "3")
ENVIRONMENTS = ("production", "Production", "review/1", "review/", "not-review/1", "a b", "9" * 30)
PATTERNS = ("production", "review/*", "*", "*/1", "prod*", "r*w/*", "*i*/*", "a*b", "9*9")
TIERS = ("production", "staging", "testing", "development", "other")
WHOM = (
    "agent",
    "agent",
    "ci_job",
    "ci_job",
    o.Whom("deployer", uid="u-1", groups=("ops", "web"), extra=(("team", ("a", "b")),)),
    o.Whom("system:masters"),
    o.Whom("deployer", groups=("ops", "gitlab:ci_job")),
    o.Whom("gitlab@other:ci_job:1"),
)


@dataclass(frozen=True)
class Given:
    """One instance, its jobs and the deployment's choices."""

    then: o.Tree
    now: o.Tree
    agents: tuple[o.Agent, ...]
    jobs: tuple[o.Job, ...]
    choices: o.Choices


# --- Generated instances ---


def _free_name(random: Random, tree: o.Tree, space: int | None, number: int) -> str:
    """A name that no sibling has in any case, with a number where all are taken."""
    taken = {s.name.lower() for s in tree.spaces.values() if s.parent == space}
    taken |= {name.lower() for parent, name in tree.projects.values() if parent == space}
    free = [name for name in NAMES if name.lower() not in taken]
    return random.choice(free) if free else f"n{number}"


def _a_tree(random: Random, *, groups: int, projects: int) -> o.Tree:
    tree = o.Tree(spaces={}, projects={})
    users = {
        900 + i: o.Space(name=f"{random.choice(NAMES)}-user-{i}", is_user=True)
        for i in range(random.randint(0, 2))
    }
    spaces = dict(users)
    for i in range(1, groups + 1):
        tree = o.Tree(spaces=spaces, projects={})
        deep_enough = [s for s in spaces if s not in users and len(tree.line(s)) < DEPTH]
        parent = random.choice([None, *deep_enough, *deep_enough]) if i > 1 else None
        spaces = {**spaces, i: o.Space(_free_name(random, tree, parent, i), parent)}
    placed: dict[int, tuple[int, str]] = {}
    # Ids of projects and groups overlap: one is never the other.
    for i in range(1, projects + 1):
        space = random.choice([*spaces])
        tree = o.Tree(spaces=spaces, projects=placed)
        placed = {**placed, i: (space, _free_name(random, tree, space, i))}
    return o.Tree(spaces=spaces, projects=placed)


def _later(random: Random, tree: o.Tree, *, changes: int) -> o.Tree:
    """The tree after some renames, changes of case, and moves."""
    for number in range(random.randint(0, changes)):
        spaces, projects = dict(tree.spaces), dict(tree.projects)
        if random.choice([True, False]):
            space = random.choice([*spaces])
            spaces[space] = _changed_space(random, tree, space, number)
        else:
            project = random.choice([*projects])
            at, name = projects[project]
            to = random.choice([at, random.choice([*spaces])])
            new = random.choice([name.swapcase(), f"renamed-{number}", name])
            if new.lower() != name.lower() or to != at:
                new = _free_name(random, tree, to, 1000 + number)
            projects[project] = (to, new)
        tree = o.Tree(spaces=spaces, projects=projects)
    return tree


def _changed_space(random: Random, tree: o.Tree, space: int, number: int) -> o.Space:
    old = tree.spaces[space]
    what = random.choice(["case", "name", "move"])
    if what == "case":
        return dataclasses.replace(old, name=old.name.swapcase())
    parent = old.parent
    if what == "move" and not old.is_user:
        outside = [s for s, x in tree.spaces.items() if space not in tree.line(s) and not x.is_user]
        parent = random.choice([None, *outside])
    name = _free_name(random, tree, parent, 2000 + number)
    return dataclasses.replace(old, name=name, parent=parent)


def _an_entry(random: Random, paths: list[str]) -> o.Written:
    path = random.choice(paths)
    change = random.choice(["", "", "", "upper", "swap", "near"])
    if change == "near":
        path = random.choice([f"{path}/", f"/{path}", f"{path}.git", f"{path}-evil", f"{path} "])
    return o.Written(
        path={"upper": path.upper(), "swap": path.swapcase()}.get(change, path),
        access_as=random.choice(WHOM),
        namespace=random.choice([None, "payments"]),
        environments=random.choice([(), (), (), tuple(random.sample(PATTERNS, 2)), ("prod*",)]),
        protected_only=random.random() < 0.2,
    )


def _an_agent(
    random: Random, agent_id: int, tree: o.Tree, paths: tuple[list[str], list[str]]
) -> o.Agent:
    projects, groups = paths
    return o.Agent(
        id=agent_id,
        name=f"agent-{agent_id}",
        project=random.choice([*tree.projects]),
        projects=tuple(_an_entry(random, projects) for _ in range(random.randint(0, 4))),
        groups=tuple(_an_entry(random, groups) for _ in range(random.randint(0, 4))),
        instance=_an_entry(random, [""]) if random.random() < 0.3 else None,
        valid=random.random() < 0.9,
    )


def _a_job(random: Random, job_id: int, now: o.Tree, moved: list[int]) -> o.Job:
    project = random.choice([random.choice([*now.projects]), *moved])
    environment = random.choice([None, *ENVIRONMENTS])
    # A job that was moved after its start is rare.
    namespace = now.projects[project][0] if random.random() < 0.9 else random.choice([*now.spaces])
    return o.Job(
        id=job_id,
        pipeline=job_id + 7000,
        project=project,
        namespace=namespace,
        user=random.choice(["dana", "root", "system:masters"]),
        protected=random.choice([True, False]),
        environment=environment,
        tier=None if environment is None else random.choice(TIERS),
    )


def generated(random: Random, *, groups: int, projects: int, agents: int, jobs: int) -> Given:
    before = _a_tree(random, groups=groups, projects=projects)
    then = _later(random, before, changes=2)
    now = _later(random, then, changes=2)
    moments = (then, then, before, now)
    # Who has changed the top-level namespace meanwhile is asked about more often than by chance.
    moved = [i for i in now.projects if then.root(i) != now.root(i)]
    project_paths = [tree.project_path(i) for tree in moments for i in tree.projects]
    project_paths += [then.project_path(i) for i in moved] * len(project_paths)
    group_paths = [tree.space_path(i) for tree in moments for i in tree.spaces]
    # Now and then a path of the other kind, and a number that is an id.
    paths = (
        [*project_paths, *group_paths[:2], "1"],
        [*group_paths * 2, *project_paths[:2], "1"],
    )
    return Given(
        then=then,
        now=now,
        agents=tuple(_an_agent(random, 500 + i, then, paths) for i in range(agents)),
        jobs=tuple(_a_job(random, 9000 + i, now, moved) for i in range(jobs)),
        choices=o.Choices(
            instance_wide=random.choice([False, False, True]),
            limit=random.choice([1, 2, 3, 500, 500]),
            allowed=random.choice([frozenset(), frozenset({"system:masters"})]),
        ),
    )


# --- The same instance, asked of the product ---


def _settings(choices: o.Choices) -> Settings:
    return Settings(
        instance_wide=choices.instance_wide,
        entry_limit=choices.limit,
        allowed_identities=choices.allowed,
    )


def _as_written(entry: o.Written, *, with_id: bool) -> dict[str, Any]:
    whom = entry.access_as
    written: dict[str, Any] = {
        "environments": list(entry.environments),
        "protected_branches_only": entry.protected_only,
    }
    if isinstance(whom, o.Whom):
        fixed = {"username": whom.user, "groups": list(whom.groups)} | (
            {} if whom.uid is None else {"uid": whom.uid}
        )
        extra = [{"key": key, "val": list(values)} for key, values in whom.extra]
        written["access_as"] = {"impersonate": fixed | {"extra": extra}}
    else:
        written["access_as"] = {whom: {}}
    if entry.namespace is not None:
        written["default_namespace"] = entry.namespace
    return ({"id": entry.path} if with_id else {}) | written


def a_file(agent: o.Agent) -> str:
    """Its config.yaml, as JSON, which is YAML."""
    access = {
        "projects": [_as_written(e, with_id=True) for e in agent.projects],
        "groups": [_as_written(e, with_id=True) for e in agent.groups],
    } | ({} if agent.instance is None else {"instance": _as_written(agent.instance, with_id=False)})
    return json.dumps({"ci_access": access})


def _snapshot(agent: o.Agent, then: o.Tree, settings: Settings) -> AgentSnapshot:
    """What a refresh in the tree `then` publishes."""
    head = _head(agent, then)
    if not agent.valid:
        return keep_last_good(None, head, ())
    read = read_configuration(a_file(agent).encode(), file=FILE)
    assert isinstance(read, AgentConfiguration), read
    projects = {i: (then.project_path(i), then.root(i)) for i in then.projects}
    groups = {
        i: (then.space_path(i), then.line(i)[-1]) for i, s in then.spaces.items() if not s.is_user
    }
    targets = Targets(
        projects=_targets([e.path for e in read.projects], projects),
        groups=_targets([e.path for e in read.groups], groups),
    )
    return compile_snapshot(read, targets, head, settings=settings)


def _head(agent: o.Agent, tree: o.Tree) -> SnapshotHead:
    project = b.a_config_project(
        agent.project,
        path=tree.project_path(agent.project),
        namespace_id=tree.projects[agent.project][0],
        root_id=tree.root(agent.project),
    )
    head = b.a_snapshot_head(config_project=project)
    return dataclasses.replace(head, agent_id=agent.id, agent_name=agent.name)


def _targets(written: list[str], known: Mapping[int, tuple[str, int]]) -> dict[str, Target | None]:
    found: dict[str, Target | None] = {path.lower(): None for path in written}
    for i, (path, root_id) in known.items():
        if path.lower() in found:
            found[path.lower()] = b.a_target(i, path, root_id=root_id)
    return found


def _place(tree: o.Tree, project: int) -> ProjectPlace:
    return b.a_place(
        namespace_id=tree.projects[project][0],
        path=tree.project_path(project),
        root_id=tree.root(project),
    )


def _chain(tree: o.Tree, space: int) -> NamespaceChain:
    members = tuple(
        Namespace(namespace_id=i, path=tree.space_path(i)) for i in reversed(tree.line(space))
    )
    kind = "user" if tree.spaces[space].is_user else "group"
    return NamespaceChain(kind=kind, members=members, fetched_at=b.NOW)


def _job(job: o.Job, now: o.Tree) -> JobIdentity:
    return b.a_job(
        job_id=job.id,
        pipeline_id=job.pipeline,
        project_id=job.project,
        project_path=now.project_path(job.project),
        namespace_id=job.namespace,
        user_login=job.user,
        ref_protected=job.protected,
        environment=job.environment,
        tier=job.tier,
    )


def _product(
    job: o.Job, snapshots: list[AgentSnapshot], given: Given, settings: Settings
) -> dict[int, o.Access]:
    now = given.now
    identity = _job(job, now)
    where = Surroundings(
        place=_place(now, job.project),
        chain=_chain(now, job.namespace),
        config_places={agent.project: _place(now, agent.project) for agent in given.agents},
    )
    found = {}
    for snapshot in snapshots:
        decision = authorize(identity, snapshot, where, settings=settings, bounds=BOUNDS, now=b.NOW)
        if isinstance(decision, Allowed):
            chain = trusted_chain(identity, where, bounds=BOUNDS, now=b.NOW)
            whom = identity_of(identity, decision.grant, issuer=b.an_issuer(), chain=chain)
            found[snapshot.agent_id] = o.Access(
                via=decision.grant.rule.kind,
                via_id=decision.grant.rule.id,
                whom=whom and o.Whom(whom.username, whom.uid, whom.groups, whom.extra),
                namespace=decision.grant.namespace,
            )
    return found


def _agree(given: Given) -> None:
    settings = _settings(given.choices)
    snapshots = [_snapshot(a, given.then, settings) for a in given.agents]
    for job in given.jobs:
        expected = o.agents_of(
            job, given.agents, then=given.then, now=given.now, choices=given.choices
        )
        for access in expected.values():
            event(f"{access.via}, {'itself' if access.whom is None else 'as another'}")

        assert _product(job, snapshots, given, settings) == expected


@given(st.randoms(use_true_random=True))
@settings(max_examples=300)
def test_a_small_instance_is_decided_as_the_rules_say(random: Random) -> None:
    _agree(generated(random, groups=5, projects=4, agents=3, jobs=4))


@given(st.randoms(use_true_random=True))
@settings(max_examples=3)
def test_an_instance_of_hundreds_of_agents_is_decided_as_the_rules_say(random: Random) -> None:
    _agree(generated(random, groups=60, projects=80, agents=300, jobs=15))


# --- Its parts ---


@given(st.text("ab*/\n.[", max_size=8), st.text("ab/\n.[", max_size=10))
@settings(max_examples=500)
def test_a_pattern_fits_what_the_rules_say(pattern: str, name: str) -> None:
    assert environment_matches(pattern, name) is o.fits(pattern, name)


@given(st.text("aB9-_/ .{}$é", max_size=30))
@settings(max_examples=500)
def test_a_slug_is_what_the_rules_say(name: str) -> None:
    assert environment_slug(name) == o.slug(name)
