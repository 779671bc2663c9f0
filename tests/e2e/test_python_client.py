"""Kubernetes' own Python client through the relay: pages, informers, and watches that are cut."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from local.installation import WEB
from local.job import JobShell
from local.stack import start_gateway
from tests.support.informer import Informer, Writer, core_api

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.gateway.functions import Function
    from local.installation import Installation
    from local.stack import Stack

pytestmark = pytest.mark.stack

_SHORT_SECONDS = 10.0
_EVENTS = 10_000
_RATE = 250.0  # a second: four of the short lives and more


@pytest.fixture
def kubeconfig(stack: Stack) -> Iterator[dict[str, Any]]:
    """A running job's, through the relay."""
    shell = JobShell.start(stack, WEB)
    fetched = shell.fetch()
    assert fetched.code == 0, fetched.output
    yield json.loads(shell.kubeconfig.read_text())
    stack.gitlab.control.finish_job(shell.job)


def _admin(stack: Stack) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(stack.cluster.admin_kubeconfig.read_text())
    return config


def _writer(stack: Stack, namespace: str, kubeconfig: Mapping[str, Any]) -> Writer:
    return Writer(
        kubeconfig["clusters"][0]["cluster"]["server"],
        stack.authority.certificate,
        kubeconfig["users"][0]["user"]["token"],
        namespace,
    )


def _started(informer: Informer, *, until: int, seconds: float) -> threading.Thread:
    thread = threading.Thread(target=informer.run, kwargs={"until": until, "seconds": seconds})
    thread.start()
    assert informer.listed.wait(60)
    return thread


def test_an_informer_sees_a_thousand_objects_and_pages_hold_the_same(
    stack: Stack, installation: Installation, kubeconfig: dict[str, Any]
) -> None:
    space, labels = installation.namespace, {"set": "thousand"}
    through, direct = core_api(kubeconfig), core_api(_admin(stack))
    informer = Informer(through, space, "set=thousand")
    watching = _started(informer, until=1000, seconds=120)
    written = _writer(stack, space, kubeconfig).create([f"t-{n}" for n in range(1000)], labels)
    watching.join(150)
    assert sorted(informer.seen) == sorted(written)
    pages, token = [], None
    while not pages or token:
        page = through.list_namespaced_config_map(
            space, label_selector="set=thousand", limit=300, _continue=token
        )
        pages.append([item.metadata.name for item in page.items])
        token = page.metadata.var_continue
    whole = direct.list_namespaced_config_map(space, label_selector="set=thousand").items
    assert [len(page) for page in pages] == [300, 300, 300, 100]
    assert [name for page in pages for name in page] == [item.metadata.name for item in whole]
    through.delete_collection_namespaced_config_map(space, label_selector="set=thousand")
    assert not direct.list_namespaced_config_map(space, label_selector="set=thousand").items


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_events_across_cuts_come_once_each(
    stack: Stack, installation: Installation, kubeconfig: dict[str, Any]
) -> None:
    def short_lived(function: Function) -> Function:
        return dataclasses.replace(function, timeout_seconds=_SHORT_SECONDS)

    space = installation.namespace
    gateway = start_gateway(
        stack.folder / "short-lived", stack.authority, stack.aws, altered=short_lived
    )
    try:
        cluster = kubeconfig["clusters"][0]["cluster"]
        agent = cluster["server"].rpartition("/agents/")[2]
        cluster["server"] = f"{gateway.url}/agents/{agent}"
        writer = _writer(stack, space, _admin(stack))
        names = [f"e-{number}" for number in range(100)]
        informer = Informer(core_api(kubeconfig), space, "set=many")
        watching = _started(informer, until=len(names) + _EVENTS, seconds=300)
        written = writer.create(names, {"set": "many"})
        written += writer.change(names * (_EVENTS // len(names)), rate=_RATE)
        watching.join(330)
    finally:
        gateway.stop()
    assert len(informer.ends) >= 3, informer.ends
    # The API server's own clock ends them, before Lambda's: nothing is on its way then.
    assert set(informer.ends) == {"clean"}
    assert len(informer.seen) == len(set(informer.seen)) == len(written)
    assert set(informer.seen) == set(written)
