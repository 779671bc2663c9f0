"""The examples whose programs are built from their Go modules first: OpenTofu, and flux."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from local.kubernetes.cache import this_platform
from tests.support.examples import MERGE_REQUEST, Act, Examples, succeeded
from tests.support.go_programs import go_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.installation import Installation
    from local.stack import Stack
    from tests.support.examples import ExamplePipeline, Origin

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(1800)]

PROVIDER = "terraform-provider-kubernetes"
VERSION = "1.13.4"
FLUX = {
    "gitrepositories": ("source.toolkit.fluxcd.io", "v1", "GitRepository"),
    "kustomizations": ("kustomize.toolkit.fluxcd.io", "v1", "Kustomization"),
}
ASKED, ANSWERED = "reconcile.fluxcd.io/requestedAt", "lastHandledReconcileAt"
REVISION = "main@sha1:2222222222222222222222222222222222222222"


@pytest.fixture
def examples(stack: Stack, installation: Installation, tmp_path: Path) -> Examples:
    return Examples(stack, installation, tmp_path)


@pytest.fixture(scope="module")
def tofu() -> Path:
    return go_program("tofu")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, tofu: Path) -> Path:
    """OpenTofu's configuration: providers come from a folder."""
    folder = tmp_path_factory.mktemp("providers")
    asking = [tofu, f"-chdir={folder}", "providers"]
    (folder / "ask.tf").write_text('provider "kubernetes" {}\n')
    said = subprocess.run(asking, capture_output=True, text=True, check=True).stdout
    (address,) = re.findall(r"provider\[([^]]+)\]", said)
    place = folder / address / VERSION / this_platform().replace("-", "_")
    place.mkdir(parents=True)
    (place / f"{PROVIDER}_v{VERSION}").symlink_to(go_program(PROVIDER))
    configuration = folder / "tofurc"
    configuration.write_text(
        f'provider_installation {{ filesystem_mirror {{ path = "{folder}" }} }}\n'
    )
    return configuration


def tofu_pipeline(
    examples: Examples, tofu: Path, mirror: Path, **origin: Origin
) -> ExamplePipeline:
    settings = {
        "TF_CLI_CONFIG_FILE": str(mirror),
        # The provider that can be built is of 2020: it knows no exec form of today's version.
        "JOBGATE_FORM": "token",
    }
    return examples.pipeline("terraform", settings=settings, programs=(tofu,), **origin)


def test_tofu_plans_and_applies_with_its_state_in_the_cluster(
    examples: Examples, tofu: Path, mirror: Path
) -> None:
    plan = tofu_pipeline(examples, tofu, mirror, origin=MERGE_REQUEST)
    assert plan.jobs == {"plan": "on_success"}
    planned = succeeded(plan.play("plan"))
    assert "1 to add" in planned.said
    assert examples.found("configmap", "tofu-settings") is None

    apply = tofu_pipeline(examples, tofu, mirror)
    assert apply.jobs == {"apply": "on_success"}
    applied = succeeded(apply.play("apply"))
    # The first `init` makes the state, empty; nothing of the application.
    assert {act.name for act in planned.acts("create", "update", "patch", "delete")} == {
        "tfstate-default-web",
        "lock-tfstate-default-web",
    }
    assert Act("create", "configmaps", "tofu-settings") in applied.acts("create")
    assert Act("update", "secrets", "tfstate-default-web") in applied.acts("update")
    settings = examples.found("configmap", "tofu-settings")
    assert settings is not None
    assert settings["data"] == {"theme": "dark"}

    examples.admin("patch", "configmap", "tofu-settings", '--patch={"data":{"theme":"pink"}}')
    mended = succeeded(tofu_pipeline(examples, tofu, mirror).play("apply"))
    assert "1 changed" in mended.said
    assert Act("patch", "configmaps", "tofu-settings") in mended.acts("patch")
    settings = examples.found("configmap", "tofu-settings")
    assert settings is not None
    assert settings["data"] == {"theme": "dark"}


@pytest.fixture
def flux_objects(examples: Examples) -> Iterator[None]:
    """Flux' two kinds as its installation has them, with the rights that it adds to `edit`."""
    admin = examples.stack.admin
    kinds = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*_kinds(), _rights()]})
    admin.must("apply", "--filename=-", stdin=kinds)
    names = [f"crd/{plural}.{group}" for plural, (group, _, _) in FLUX.items()]
    admin.must("wait", "--for=condition=Established", *names)
    for plural, (group, version, kind) in FLUX.items():
        source = {"sourceRef": {"kind": "GitRepository", "name": "web"}}
        made = {
            "apiVersion": f"{group}/{version}",
            "kind": kind,
            "metadata": {"name": "web"},
            "spec": source if plural == "kustomizations" else {},
        }
        examples.admin("apply", "--filename=-", stdin=json.dumps(made))
    yield
    admin.must("delete", "--filename=-", stdin=kinds)


def _kinds() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "names": {"plural": plural, "kind": kind},
                "scope": "Namespaced",
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": True,
                        "subresources": {"status": {}},
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            }
                        },
                    }
                ],
            },
        }
        for plural, (group, version, kind) in FLUX.items()
    ]


def _rights() -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": "flux-edit",
            "labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"},
        },
        "rules": [
            {
                "apiGroups": [group],
                "resources": [plural],
                "verbs": ["get", "list", "watch", "patch", "update"],
            }
            for plural, (group, _, _) in FLUX.items()
        ],
    }


@pytest.fixture
def controllers(examples: Examples, flux_objects: None) -> Iterator[None]:
    """Answers a request to reconcile as Flux' controllers do once they have reconciled."""
    done = threading.Event()

    def answer() -> None:
        while not done.wait(0.2):
            for plural in FLUX:
                found = json.loads(examples.admin("get", plural, "web", "--output=json"))
                asked = found["metadata"].get("annotations", {}).get(ASKED)
                if asked is None or found.get("status", {}).get(ANSWERED) == asked:
                    continue
                status = _reconciled(found["metadata"]["generation"], asked)
                examples.admin(
                    *("patch", plural, "web", "--subresource=status", "--type=merge"),
                    f"--patch={json.dumps({'status': status})}",
                )

    thread = threading.Thread(target=answer)
    thread.start()
    yield
    done.set()
    thread.join(60)


def _reconciled(generation: int, asked: str) -> dict[str, Any]:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "ReconciliationSucceeded",
        "message": "Applied",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {
        ANSWERED: asked,
        "observedGeneration": generation,
        "conditions": [ready],
        "artifact": {"revision": REVISION},
        "lastAppliedRevision": REVISION,
    }


def test_flux_reconciles_the_source_and_what_is_made_of_it(
    examples: Examples, controllers: None
) -> None:
    pipeline = examples.pipeline("flux", programs=(go_program("flux"),))

    played = succeeded(pipeline.play("reconcile"))

    assert f"applied revision {REVISION}" in played.said
    assert played.acts("patch", "update") == [
        Act("patch", "gitrepositories", "web"),
        Act("patch", "kustomizations", "web"),
    ]
