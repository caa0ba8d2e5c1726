"""The page's command on a real API server: installed, upgraded, taken away and installed again.

There is no kubelet here: what is shown is that every object is accepted, and that Kubernetes makes the pods.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cdmo_harness.binaries import Binaries
from cdmo_harness.control_plane import ControlPlane

from tests.chart.helm import CHART, Helm

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

LIMIT = 30.0  # seconds
COMMAND = Path(sys.executable).with_name("cdmo")
# What the doctor finds right where nothing but the chart is.
IN_ORDER = {"reading", "kubernetes", "crd", "admission-policies", "permissions", "versions", "label"}
# The page's override file.
OVERRIDE = 'imageCredentials:\n  password: "a-token"\n'


class Site:
    """A cluster of its own, and helm for it."""

    def __init__(self, plane: ControlPlane, helm: Helm, folder: Path) -> None:
        self.plane = plane
        self.helm = replace(helm, kubeconfig=plane.admin_kubeconfig)
        self.override = folder / "cdmo-values.override.yaml"
        self.override.write_text(OVERRIDE)

    def install(self, *arguments: str) -> None:
        """The page's command, with the chart of this checkout."""
        command = ("upgrade", "-i", "-n", "cdmo", "cdmo", str(CHART), "--create-namespace", "-f", str(self.override))
        answer = self.helm.run(*command, *arguments)
        assert answer.status == 0, answer.errors

    def uninstall(self) -> None:
        answer = self.helm.run("uninstall", "-n", "cdmo", "cdmo")
        assert answer.status == 0, answer.errors

    def names(self, kind: str) -> set[str]:
        """Of CDMO's objects of a kind, in all namespaces."""
        text = self.plane.kubectl("get", kind, "-A", "-l", "app.kubernetes.io/name=cdmo", "-o", "name")
        return {line.partition("/")[2] for line in text.splitlines()}

    def get(self, *what: str) -> Any:
        """One object."""
        return json.loads(self.plane.kubectl("get", *what, "-o", "json"))

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        limit = time.monotonic() + LIMIT
        while not holds():
            assert time.monotonic() < limit, f"not within {LIMIT:.0f} s: {what}"
            time.sleep(0.1)

    def diagnosis(self) -> dict[str, set[str]]:
        """What `cdmo doctor` says, as the statuses of each check."""
        command = [str(COMMAND), "doctor", "-o", "json", "--exit-zero", f"--kubeconfig={self.plane.admin_kubeconfig}"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        found: dict[str, set[str]] = {}
        for each in json.loads(answer.stdout):
            found.setdefault(each["check"], set()).add(each["status"])
        return found


@pytest.fixture(scope="module")
def site(binaries: Binaries, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With one labelled Node, and the chart installed as on the page."""
    with ControlPlane(binaries) as plane:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-1"}}
        plane.kubectl("create", "-f", "-", stdin=json.dumps(node))
        plane.kubectl("label", "node", "gpu-1", "cdmo.clear.ml/gpu-partitioning=mig")
        made = Site(plane, helm, tmp_path_factory.mktemp("site"))
        made.install()
        yield made


def test_pods_are_made_of_both_workloads_with_the_pull_secret(site: Site) -> None:
    site.until("two controllers and an agent", lambda: len(site.names("pods")) == 3)
    for pod in site.names("pods"):
        spec = site.get("pod", "-n", "cdmo", pod)["spec"]
        assert spec["imagePullSecrets"] == [{"name": "cdmo-registry"}]
    assert site.get("secret", "-n", "cdmo", "cdmo-registry")["type"] == "kubernetes.io/dockerconfigjson"


def test_the_api_server_finds_nothing_wrong_with_the_policies(site: Site) -> None:
    def checked(name: str) -> bool:
        return "typeChecking" in site.get("validatingadmissionpolicy", name).get("status", {})

    names = site.names("validatingadmissionpolicies")
    assert names == {"cdmo-agent", "cdmo-controller", "cdmo-fence", "cdmo-probe"}
    for name in names:
        site.until(f"policy {name} is checked", lambda name=name: checked(name))
        assert "expressionWarnings" not in site.get("validatingadmissionpolicy", name)["status"]["typeChecking"]


def test_the_doctor_finds_cdmos_own_parts_in_order(site: Site) -> None:
    site.until("the policies are checked", lambda: site.diagnosis()["admission-policies"] == {"ok"})
    found = site.diagnosis()
    fine = (
        "reading",
        "kubernetes",
        "crd",
        "admission-policies",
        "permissions",
        "versions",
        "label",
        "device-classes",
    )
    assert {check: found[check] for check in fine} == {check: {"ok"} for check in fine}
    # Nobody runs here: no kubelet starts the pods, and there is no gpu-operator.
    assert found["controller"] == found["agents"] == found["gpu-stack"] == {"error"}


def test_an_upgrade_changes_what_a_value_changes_and_the_crd_with_the_chart(site: Site) -> None:
    crd = "mignodes.cdmo.clear.ml"
    patch = json.dumps([{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}])
    site.plane.kubectl("patch", "crd", crd, "--type=json", "-p", patch)
    # Helm's server-side apply says whose field that was; an upgrade is meant to win.
    site.install("--set", "controller.reserveAfter=60", "--force-conflicts")
    (program,) = site.get("deployment", "-n", "cdmo", "cdmo-controller")["spec"]["template"]["spec"]["containers"]
    assert "--reserve-after=60" in program["args"]
    assert site.get("crd", crd)["spec"]["versions"][0]["additionalPrinterColumns"]


def test_what_is_taken_away_leaves_the_crd_and_the_mignodes_and_can_come_again(site: Site) -> None:
    mignode = {"apiVersion": "cdmo.clear.ml/v1alpha1", "kind": "MigNode", "metadata": {"name": "gpu-1"}, "spec": {}}
    site.plane.kubectl("create", "-f", "-", stdin=json.dumps(mignode))
    site.uninstall()
    site.until("its pods go", lambda: site.names("pods") == set())
    assert site.names("validatingadmissionpolicies") == set()
    assert site.names("clusterroles,roles,serviceaccounts") == set()
    assert site.get("mignode", "gpu-1")["metadata"]["name"] == "gpu-1"
    site.install()
    assert "cdmo-fence" in site.names("validatingadmissionpolicies")
    assert site.get("mignode", "gpu-1")["metadata"]["name"] == "gpu-1"


def test_a_second_release_is_refused_and_changes_nothing(site: Site) -> None:
    answer = site.helm.run("install", "-n", "other", "other", str(CHART), "--create-namespace")
    assert answer.status != 0
    assert "cdmo" in answer.errors
    assert site.plane.kubectl("get", "deployments", "-n", "other", "-o", "name") == ""


def test_in_the_namespace_default_nothing_is_installed(site: Site) -> None:
    answer = site.helm.run("install", "-n", "default", "cdmo-2", str(CHART))
    assert answer.status != 0
    assert "CDMO needs a namespace of its own" in answer.errors
