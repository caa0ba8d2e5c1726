"""CDMO at work with exactly the rights of its roles, and the API server's own record of what it asked for.

A right that nothing asks for has no business in a role; a refusal means that one is missing.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cdmo_harness.binaries import Binaries, Component
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.local_cluster import LocalCluster, NodeSpec
from cdmo_harness.manifests import DEPLOY, documents
from cdmo_harness.observer import ClusterView

from cdmo.kube.client import KubeClient
from cdmo.kube.connect import ConnectSettings, connect
from cdmo.model.cluster import carries_fence
from cdmo.model.names import FENCE_LABEL, FENCE_VALUE, PARTITIONING_LABEL, REPARTITIONING_TAINT
from cdmo.runtime.clock import SystemClock
from tests.access.caller import Json
from tests.end_to_end.bed import LABELLED, Bed
from tools.generate_access import RBAC, grants
from tools.generate_access import documents as all_documents

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

ACCOUNTS = ("cdmo-agent", "cdmo-controller")
NODE = "gpu-1"
SOON = 60.0  # seconds; a busy machine takes a while

# Verb, group and resource, namespace where the right is for one alone.
Right = tuple[str, str, str, str]

GRANTS = grants(list(all_documents(RBAC)))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A cluster whose API server writes down what CDMO's accounts ask for."""

    cluster: LocalCluster
    log: Path

    def asked(self, account: str) -> list[Json]:
        """Every request of an account about objects that was answered or began to be."""
        entries = [json.loads(line) for line in self.log.read_text().splitlines()]
        user = f"system:serviceaccount:cdmo:{account}"
        return [each for each in entries if each["user"]["username"] == user and "objectRef" in each]


@pytest.fixture(scope="module")
def recorded(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """One A30, its agent and a controller."""
    folder = tmp_path_factory.mktemp("audit")
    policy, log = folder / "policy.json", folder / "log"
    rules = [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:cdmo"], "omitStages": ["RequestReceived"]},
        {"level": "None"},
    ]
    policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    cluster = LocalCluster(binaries, nodes=(NodeSpec(NODE, ("A30-24GB",)),))
    options = (f"--audit-policy-file={policy}", f"--audit-log-path={log}", "--audit-log-mode=blocking")
    cluster.control_plane = ControlPlane(binaries, extra_arguments={Component.API_SERVER: options})
    with cluster:
        cluster.start_controller()
        cluster.start_agents()
        yield Recorded(cluster, log)


@pytest.fixture
async def bed(recorded: Recorded) -> AsyncIterator[Bed]:
    """The cluster as the end-to-end tests see it."""
    control_plane = recorded.cluster.control_plane
    async with ClusterView(control_plane.admin_kubeconfig, control_plane.api) as view:
        await view.watch_mignodes()
        yield Bed(recorded.cluster, view)


async def test_what_cdmo_asks_for_is_what_its_roles_give_and_it_is_never_refused(
    recorded: Recorded, bed: Bed
) -> None:
    await a_day(bed)
    await a_dead_agents_fence(recorded.cluster.control_plane)
    await a_node_that_others_wrote(recorded.cluster.control_plane)
    await somebody_reads_metrics(recorded.cluster.control_plane)
    for account in ACCOUNTS:
        asked = recorded.asked(account)
        assert [each for each in asked if each["responseStatus"]["code"] == 403 and not probe(each)] == []
        assert {right(each) for each in asked} == granted(account)


async def a_day(bed: Bed) -> None:
    """Slices are cut, cut again beside a busy one, and a pod waits for the whole GPU."""
    await bed.view.label_node(NODE, LABELLED)
    await bed.running(await bed.submit("first", "1g.6gb"), limit=SOON)
    await bed.running(await bed.submit("second", "2g.12gb"), limit=SOON)
    await bed.submit("last", "4g.24gb")
    await bed.view.wait("it is told why", lambda: bool(bed.waiting_events("last")), limit=SOON)
    await bed.end("default/first", "default/second")
    await bed.running("default/last", limit=SOON)
    await bed.end("default/last")
    await bed.view.wait("the node is at rest", lambda: bed.settled(NODE), limit=SOON)
    bed.check_unharmed()


async def a_dead_agents_fence(control_plane: ControlPlane) -> None:
    """What the controller does only when something is wrong, by its own client and with its own token: it takes a
    dead agent's fence off, and looks at a MigNode again after a conflict."""
    api = control_plane.api
    spec = {"taints": [{"key": REPARTITIONING_TAINT, "effect": "NoSchedule"}]}
    metadata = {"name": "left-alone", "labels": {FENCE_LABEL: FENCE_VALUE}}
    body = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}
    await asyncio.to_thread(api.create, "/api/v1/nodes", body)
    kubeconfig = await asyncio.to_thread(control_plane.service_account_kubeconfig, "cdmo", "cdmo-controller")
    async with connect(ConnectSettings(kubeconfig), {}) as connection:
        client = KubeClient(connection, SystemClock(), random.random)
        await client.fence().set_labels("left-alone", {FENCE_LABEL: None})
        await client.fence().remove_taint("left-alone", REPARTITIONING_TAINT)
        assert not carries_fence(await client.fence().node("left-alone"))
        assert (await client.mig_nodes().get(NODE)).metadata.name == NODE


async def a_node_that_others_wrote(control_plane: ControlPlane) -> None:
    """What the agent does only when somebody wrote its Node in between, by its own client and with its own token."""
    kubeconfig = await asyncio.to_thread(control_plane.service_account_kubeconfig, "cdmo", "cdmo-agent")
    async with connect(ConnectSettings(kubeconfig), {}) as connection:
        assert (await KubeClient(connection, SystemClock(), random.random).fence().node(NODE)).name == NODE


async def somebody_reads_metrics(control_plane: ControlPlane) -> None:
    """What both ask when metrics are read from elsewhere, which these tests do not serve: their own clients ask."""
    stranger = await asyncio.to_thread(control_plane.service_account_kubeconfig, "default", "default")
    token = json.loads(stranger.read_text())["users"][0]["user"]["token"]
    for account in ACCOUNTS:
        kubeconfig = await asyncio.to_thread(control_plane.service_account_kubeconfig, "cdmo", account)
        async with connect(ConnectSettings(kubeconfig), {}) as connection:
            reviews = KubeClient(connection, SystemClock(), random.random).access_review()
            assert await reviews.may_get("nobody", "/metrics") is None
            assert await reviews.may_get(token, "/metrics") is False


def probe(entry: Json) -> bool:
    """Whether this is the question to which a refusal by the fence is the answer that was hoped for."""
    return bool(
        entry["objectRef"].get("subresource") == "binding"
        and "ValidatingAdmissionPolicy 'cdmo-fence'" in entry["responseStatus"]["message"]
    )


def right(entry: Json) -> Right:
    """What a request needed."""
    about = entry["objectRef"]
    resource = "/".join(part for part in (about["resource"], about.get("subresource", "")) if part)
    local = {(each.group, each.resource) for each in GRANTS if each.namespace}
    group = about.get("apiGroup", "")
    namespace = about.get("namespace", "") if (group, resource) in local else ""
    return entry["verb"], group, resource, namespace


def granted(account: str) -> set[Right]:
    """What its roles give it."""
    return {(each.verb, each.group, each.resource, each.namespace) for each in GRANTS if each.account == account}


async def test_the_daemonset_covers_labelled_and_fenced_nodes_and_no_others(recorded: Recorded, bed: Bed) -> None:
    api = recorded.cluster.control_plane.api
    for name, labels in (
        ("plain", {}),
        ("still-fenced", {FENCE_LABEL: FENCE_VALUE}),
        ("off", {PARTITIONING_LABEL: "off"}),
    ):
        metadata = {"name": name, "labels": labels}
        await asyncio.to_thread(
            api.create, "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
        )
    await bed.view.label_node(NODE, LABELLED)
    (manifest,) = documents(DEPLOY / "agent.yaml")
    path = "/apis/apps/v1/namespaces/cdmo/daemonsets"
    await asyncio.to_thread(api.create, path, manifest)

    def meant() -> list[str]:
        """The node for which each pod is made: the DaemonSet's controller says so in the pod's affinity."""
        affinities = (each["spec"]["affinity"] for each in api.get("/api/v1/namespaces/cdmo/pods")["items"])
        terms = (
            each["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            for each in affinities
        )
        return sorted({field["values"][0] for each in terms for term in each for field in term["matchFields"]})

    try:
        status = f"{path}/cdmo-agent"
        await bed.view.wait(
            "its controller has looked", lambda: api.get(status)["status"]["desiredNumberScheduled"] > 0, limit=SOON
        )
        await bed.view.wait("pods are made", lambda: len(meant()) >= 2, limit=SOON)
        assert (meant(), api.get(status)["status"]["desiredNumberScheduled"]) == ([NODE, "still-fenced"], 2)
    finally:
        await asyncio.to_thread(api.delete, f"{path}/cdmo-agent")
