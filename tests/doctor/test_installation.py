"""CDMO's own parts, where a planted fault (test_checks.py) does not say it all."""

from __future__ import annotations

from cdmo.doctor import Finding, Source, Status, diagnose
from cdmo.doctor.installation import POLICIES
from cdmo.kube.yaml_values import yaml_documents
from tests.docs.pages import REPOSITORY
from tests.doctor.faults import agent
from tests.doctor.recorded import CONTROLLER, Recorded, recorded


def said(cluster: Recorded, check: str) -> list[Finding]:
    return [each for each in diagnose(cluster.facts()) if each.check == check]


def test_an_agent_counts_as_silent_after_45_seconds() -> None:
    cluster = recorded()
    agent(heartbeat="2026-09-21T14:12:40Z")(cluster)  # 40 s before it was read
    assert [each.status for each in said(cluster, "agents")] == [Status.OK]
    agent(heartbeat="2026-09-21T14:12:30Z")(cluster)
    (found,) = said(cluster, "agents")
    assert found.sentence == "its agent has been silent for 50 s, by this machine's clock"


def test_the_policies_are_those_that_are_installed() -> None:
    found = {}
    for file in (REPOSITORY / "deploy" / "policy").glob("*.yaml"):
        for each in yaml_documents(file.read_bytes()):
            if each.value["kind"] == "ValidatingAdmissionPolicy":
                found[each.value["metadata"]["name"]] = each.value["spec"]["failurePolicy"]
    assert found == POLICIES


def test_without_the_fence_it_is_said_that_nothing_is_cut() -> None:
    cluster = recorded()
    cluster.objects[Source.POLICIES].clear()
    found = said(cluster, "admission-policies")
    assert [each.object.partition("/")[2] for each in found] == list(POLICIES)
    assert "no slice is cut without it" in found[0].sentence


def test_an_image_without_a_version_is_not_compared() -> None:
    cluster = recorded()
    controller = cluster.get(Source.DEPLOYMENTS, CONTROLLER)
    controller["metadata"]["labels"].pop("app.kubernetes.io/version")
    assert [each.status for each in said(cluster, "versions")] == [Status.OK]
    controller["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/cdmo:v0.0.9"
    (found,) = said(cluster, "versions")
    assert found.sentence.startswith("it is CDMO 0.0.9")


def test_a_node_that_is_not_labelled_may_be_without_an_agent() -> None:
    cluster = recorded()
    cluster.get(Source.NODES, "gpu-1")["metadata"]["labels"].clear()
    cluster.objects[Source.MIG_NODES].pop("gpu-1")
    assert [each.status for each in said(cluster, "agents")] == [Status.OK]
