"""The page's command on a real API server: installed, upgraded, taken away and installed again.

There is no kubelet here: what is shown is that every object is accepted, and that Kubernetes makes the pods.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from cdmo_harness.binaries import Binaries

from cdmo.kube.settling import AFTERWARDS
from tests.chart.helm import CHART, Helm
from tests.chart.site import JobRunner, Site, labelled_site, running_jobs

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

# What the doctor finds right where nothing but the chart is.
IN_ORDER = {
    "reading",
    "kubernetes",
    "crd",
    "admission-policies",
    "permissions",
    "versions",
    "label",
    "device-classes",
}
FENCE = "cdmo.clear.ml/fenced"
# What must be gone after an uninstall, and untouched after one that was stopped.
KINDS = (
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "clusterroles",
    "clusterrolebindings",
    "roles",
    "rolebindings",
    "serviceaccounts",
    "services",
    "deployments",
    "daemonsets",
    "jobs",
)
# There is no agent that the doctor could wait for.
AT_ONCE = ("--set", "doctor.waitSeconds=0")
FAST = ("--set", "uninstall.waitSeconds=1,doctor.waitSeconds=0")


@pytest.fixture(scope="module")
def site(binaries: Binaries, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With the chart installed as on the page."""
    with labelled_site(binaries, helm, tmp_path_factory.mktemp("site")) as made:
        made.install(*AT_ONCE)
        yield made


@pytest.fixture
def jobs(site: Site) -> Iterator[JobRunner]:
    """Jobs come to their end."""
    with running_jobs(site) as runner:
        yield runner


def test_pods_are_made_of_both_workloads_with_the_pull_secret(site: Site) -> None:
    site.until("two controllers, an agent and a doctor", lambda: len(site.names("pods")) == 4)
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
    assert {check: found[check] for check in IN_ORDER} == {check: {"ok"} for check in IN_ORDER}
    # Nobody runs here: no kubelet starts the pods, and there is no gpu-operator.
    assert found["controller"] == found["agents"] == found["gpu-stack"] == {"error"}


def test_an_upgrade_changes_what_a_value_changes_and_the_crd_with_the_chart(site: Site) -> None:
    crd = "mignodes.cdmo.clear.ml"
    patch = json.dumps([{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}])
    site.plane.kubectl("patch", "crd", crd, "--type=json", "-p", patch)
    # Helm's server-side apply says whose field that was; an upgrade is meant to win.
    site.install(*AT_ONCE, "--set", "controller.reserveAfter=60", "--force-conflicts")
    (program,) = site.get("deployment", "-n", "cdmo", "cdmo-controller")["spec"]["template"]["spec"]["containers"]
    assert "--reserve-after=60" in program["args"]
    assert site.get("crd", crd)["spec"]["versions"][0]["additionalPrinterColumns"]


def test_the_doctors_job_finds_with_its_own_rights_what_an_administrator_finds(site: Site, jobs: JobRunner) -> None:
    site.install(*FAST, "--force-conflicts")
    job = f"cdmo-doctor-{site.revision()}"
    site.until("the doctor's job is done", lambda: site.succeeded(job))
    report = jobs.last(job)
    assert (report.status, report.errors) == (0, "")
    assert report.output == site.cdmo("doctor", "--exit-zero")
    assert "error    controller" in report.output and "could not be read" not in report.output
    assert {each for each in site.names("jobs") if "doctor" in each} == {job}


def stopped(site: Site, jobs: JobRunner, helm: Helm, left: tuple[str, ...]) -> None:
    """An uninstall in the middle of a change: refused, everything is there, and the release can be used again.

    `left`: kinds of which an object of the hook stays until the next try.
    """
    before = {kind: site.names(kind) for kind in KINDS}
    revision = site.revision()
    site.plane.kubectl("label", "node", "gpu-1", f"{FENCE}=changing")
    answer = helm.run("uninstall", "-n", "cdmo", "cdmo")
    assert answer.status != 0
    assert "cdmo-settle" in answer.errors
    said = jobs.last("cdmo-settle").errors
    assert re.match(
        r"error: 1 node is in the middle of a change after [0-9]+ s \(gpu-1: its GPUs are being chang", said
    )
    assert "\nhint: try again later" in said
    wanted = {kind: names | {"cdmo-settle"} if kind in left else names for kind, names in before.items()}
    assert {kind: site.names(kind) for kind in KINDS} == wanted
    site.plane.kubectl("label", "node", "gpu-1", f"{FENCE}-")
    # Helm has noted that the release is being uninstalled, and would not upgrade it.
    answer = helm.run("rollback", "-n", "cdmo", "cdmo", revision)
    assert answer.status == 0, answer.errors
    assert "STATUS: deployed" in helm.run("status", "-n", "cdmo", "cdmo").output


def test_an_uninstall_in_the_middle_of_a_change_is_stopped_and_the_release_goes_on(
    site: Site, jobs: JobRunner
) -> None:
    site.install(*FAST, "--force-conflicts")
    stopped(site, jobs, site.helm, left=("jobs",))  # its log is the reason
    site.install(*FAST, "--force-conflicts")


def test_what_is_taken_away_leaves_the_crd_and_the_mignodes_and_can_come_again(site: Site, jobs: JobRunner) -> None:
    site.create(
        {"apiVersion": "cdmo.clear.ml/v1alpha1", "kind": "MigNode", "metadata": {"name": "gpu-1"}, "spec": {}}
    )
    lease = {"metadata": {"name": "cdmo-controller", "namespace": "cdmo"}, "spec": {"holderIdentity": ""}}
    site.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease})
    site.install(*FAST, "--force-conflicts")
    answer = site.uninstall()
    assert answer.status == 0, answer.errors
    held = site.get("lease", "-n", "cdmo", "cdmo-controller")["spec"]
    assert (held["holderIdentity"], held["leaseDurationSeconds"]) == ("cdmo-settle", AFTERWARDS)
    run = jobs.last("cdmo-settle")
    assert run.output.splitlines()[0] == "No node is in the middle of a change."
    assert "1 MigNode and the CRD stay" in run.output
    site.until("its pods go", lambda: site.names("pods") == set())
    assert {kind: site.names(kind) for kind in KINDS} == {kind: set() for kind in KINDS}
    assert site.get("mignode", "gpu-1")["metadata"]["name"] == "gpu-1"
    site.install(*AT_ONCE)
    assert "cdmo-fence" in site.names("validatingadmissionpolicies")
    assert site.get("mignode", "gpu-1")["metadata"]["name"] == "gpu-1"


def test_who_does_not_want_to_be_asked_is_not(site: Site) -> None:
    site.plane.kubectl("label", "node", "gpu-1", f"{FENCE}=changing")
    answer = site.uninstall("--no-hooks")
    assert answer.status == 0, answer.errors
    site.until("its pods go", lambda: site.names("pods") == set())
    site.plane.kubectl("label", "node", "gpu-1", f"{FENCE}-")
    site.install(*FAST)


def test_a_second_release_is_refused_and_changes_nothing(site: Site) -> None:
    answer = site.helm.run("install", "-n", "other", "other", str(CHART), "--create-namespace")
    assert answer.status != 0
    assert "cdmo" in answer.errors
    assert site.plane.kubectl("get", "deployments", "-n", "other", "-o", "name") == ""


def test_a_namespace_that_there_is_not_is_told_before_anything_is_changed(site: Site) -> None:
    before = site.revision()
    upgrade = ("upgrade", "-n", "cdmo", "cdmo", str(CHART), *FAST, "--set")
    answer = site.helm.run(*upgrade, "doctor.configMapNamespaces={nowhere}")
    assert answer.status != 0
    assert "doctor.configMapNamespaces names nowhere, and there is no such namespace: create it, or" in answer.errors
    assert site.revision() == before
    answer = site.helm.run(*upgrade, "doctor.configMapNamespaces={kube-system}")
    assert answer.status == 0, answer.errors


def test_in_the_namespace_default_nothing_is_installed(site: Site) -> None:
    answer = site.helm.run("install", "-n", "default", "cdmo-2", str(CHART))
    assert answer.status != 0
    assert "CDMO needs a namespace of its own" in answer.errors


def test_helm_3_17_stops_before_an_uninstall_in_the_middle_of_a_change_as_well(
    site: Site, jobs: JobRunner, oldest_helm: Helm
) -> None:
    helm = site.with_program_of(oldest_helm)
    rights = ("serviceaccounts", "clusterroles", "clusterrolebindings", "roles", "rolebindings")
    stopped(site, jobs, helm, left=("jobs", *rights))
    answer = helm.run("uninstall", "-n", "cdmo", "cdmo")
    assert answer.status == 0, answer.errors
    site.until("all of it goes", lambda: not any(map(site.names, KINDS)))
