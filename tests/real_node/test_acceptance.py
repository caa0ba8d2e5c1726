"""The guide's way on a real node: the chart by the real helm, controller and agent as pods of the built image.

Nothing of CDMO runs outside of its pods here, but for the administrator's own `cdmo enable`, `disable` and `doctor`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cdmo_harness.binaries import Binaries, Component, cache_root
from cdmo_harness.build_progress import show_progress
from cdmo_harness.control_plane import ControlPlane
from cdmo_harness.driver import GpuSpec
from cdmo_harness.errors import ControlPlaneError
from cdmo_harness.gpu_node import NodeSetup
from cdmo_harness.images import build_image
from cdmo_harness.observer import pod_manifest
from cdmo_harness.real_node import RealNode
from cdmo_harness.real_node.gpu_host import AGENT_ENVIRONMENT
from rich.console import Console

from tests.chart.helm import Helm, find_helm
from tests.chart.site import Site

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),  # the first of them builds the image
    pytest.mark.real_kubelet(reason="the chart's pods need a container runtime"),
]

NODE = "gpu-1"
_COMPONENT = "app.kubernetes.io/component"
WHOLE = "nvidia.com/gpu"
QUEUES = ("1g.10gb", "2g.20gb", "4g.40gb", "7g.80gb")  # of slice-1, slice-2, slice-4, slice-7
SOON = 90.0  # seconds; containers start slowly on a busy machine
GPUS = tuple(
    GpuSpec("H100-SXM5-80GB", f"00000000:{bus}0:00.0", f"GPU-{bus * 8}-1111-4111-8111-111111111111") for bus in "12"
)
# On a cluster of one node (docs/install.md, step 2); and the simulated driver's own two variables.
VALUES = {
    "controller": {"keepOffGpuNodes": False},
    "agent": {"env": [{"name": name, "value": value} for name, value in AGENT_ENVIRONMENT.items()]},
}


class Place:
    """The cluster, with its one node."""

    def __init__(self, site: Site, node: RealNode) -> None:
        self.site = site
        self.node = node
        self.api = site.plane.api

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds; says what the pods of CDMO say where it does not."""
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            try:
                if holds():
                    return
            except (ControlPlaneError, KeyError):
                pass  # not there yet
            time.sleep(0.2)
        raise AssertionError(f"not within {SOON:.0f} s: {what}\n{self.told()}")

    def told(self) -> str:
        """CDMO's pods and the ends of their logs."""
        lines = [self.site.plane.kubectl("get", "pods", "-A", "-o", "wide")]
        lines.append(self.site.plane.kubectl("get", "mignodes", "-o", "yaml")[-3000:])
        for log in sorted(self.node.layout.logs.glob("pods/cdmo_*/*/*.log")):
            lines.append(f"--- {log.parent.parent.name}\n{log.read_text()[-1500:]}")
        lines.append(self.site.plane.kubectl("get", "events", "-n", "cdmo")[-3000:])
        return "\n".join(lines)

    def ready(self, component: str) -> int:
        """How many pods of a component are ready."""
        return sum(
            any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
            for pod in self.pods(component)
        )

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component."""
        found = self.api.get("/api/v1/namespaces/cdmo/pods")["items"]
        return [each for each in found if each["metadata"]["labels"].get(_COMPONENT) == component]

    def pod(self, name: str) -> dict[str, Any]:
        return self.api.get(f"/api/v1/namespaces/default/pods/{name}")

    def allocatable(self, resource: str) -> int:
        return int(self.api.get(f"/api/v1/nodes/{NODE}")["status"]["allocatable"].get(resource, 0))

    def run(self, name: str, resource: str, count: int = 1) -> None:
        """A pod, until it runs."""
        self.api.create("/api/v1/namespaces/default/pods", pod_manifest(name, {resource: count}))
        self.until(f"{name} runs", lambda: self.pod(name)["status"]["phase"] == "Running")

    def end(self, name: str) -> None:
        """Delete a pod and wait until it is gone."""
        self.site.plane.kubectl("delete", "pod", name, "--wait", "--timeout=60s")


@pytest.fixture(scope="module")
def image() -> Path:
    """The image of this checkout."""
    with show_progress(Console(stderr=True)) as progress:
        return build_image(cache_root(os.environ), progress)


@pytest.fixture(scope="module")
def place(
    binaries: Binaries, image: Path, simulated_library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A cluster of one node with two H100, MIG off, and nothing of CDMO."""
    folder = tmp_path_factory.mktemp("site")
    with ControlPlane(binaries) as plane:
        setup = NodeSetup(NODE, plane.kubeconfig_for_node(NODE), simulated_library, GPUS)
        kubelet = binaries.path(Component.KUBELET)
        with RealNode(setup, plane.directory, kubelet=kubelet, images=[image], gpu_host=True) as node:
            helm = Helm(find_helm(os.environ), folder / "helm")
            site = Site(plane, helm, folder)
            site.override.write_text(f"{site.override.read_text()}{yaml.safe_dump(VALUES)}")
            yield Place(site, node)


def test_from_whole_gpus_to_four_queues_and_back(place: Place) -> None:
    """docs/install.md and docs/leave.md, from the chart on."""
    site = place.site
    place.until("whole GPUs are offered", lambda: place.allocatable(WHOLE) == 2)
    site.install()
    place.until("two controllers are ready", lambda: place.ready("controller") == 2)
    assert place.ready("agent") == 0

    enabled = site.cdmo("enable", NODE)
    assert f"{NODE}: MIG mode is on on 2 of 2 GPUs" in enabled
    place.until("the kubelet has asked the agent whether it is ready", lambda: place.ready("agent") == 1)
    assert [each.mig_enabled for each in place.node.driver.snapshot()] == [True, True]

    for each in QUEUES:
        place.run(f"queue-{each[0]}", f"nvidia.com/mig-{each}")
    assert {each.profile for gpu in place.node.driver.snapshot() for each in gpu.slices} == set(QUEUES)
    statuses = site.diagnosis()
    assert {check for check, found in statuses.items() if "error" in found} == {"gpu-stack"}, (
        "the plugin is no pod here"
    )

    for each in QUEUES:
        place.end(f"queue-{each[0]}")
    disabled = site.cdmo("disable", NODE)
    assert f"{NODE}: offers 2 whole GPUs" in disabled
    assert [each.mig_enabled for each in place.node.driver.snapshot()] == [False, False]
    place.until("the agent is gone", lambda: not place.pods("agent"))
    place.run("whole", WHOLE, 2)
    place.end("whole")
    counts = place.node.counters()
    assert (counts.admission_failures, counts.admitted_without_device, counts.started_on_dead_device) == ({}, 0, 0)
    assert place.node.driver.counters().destroyed_in_use_attempts == 0


def test_an_upgrade_changes_nothing_for_pods_on_slices_and_an_uninstall_leaves_them_alone(place: Place) -> None:
    site = place.site
    site.cdmo("enable", NODE)
    place.run("stays", "nvidia.com/mig-3g.40gb")
    site.install("--set", "agent.logLevel=debug,doctor.waitSeconds=0")
    place.until("the new agent is ready", lambda: _log_level(place) == "debug" and place.ready("agent") == 1)
    place.run("beside", "nvidia.com/mig-2g.20gb")
    answer = site.uninstall()
    assert answer.status == 0, f"{answer.errors}\n{place.told()}"
    place.until("nothing of CDMO runs", lambda: not site.names("pods"))
    for name in ("stays", "beside"):
        assert place.pod(name)["status"]["phase"] == "Running"
    assert "cdmo.clear.ml/fenced" not in place.api.get(f"/api/v1/nodes/{NODE}")["metadata"]["labels"]


def _log_level(place: Place) -> str:
    arguments = [argument for pod in place.pods("agent") for argument in pod["spec"]["containers"][0]["args"]]
    return next(each.partition("=")[2] for each in arguments if each.startswith("--log-level="))
