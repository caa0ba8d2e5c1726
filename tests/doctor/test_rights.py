"""What could not be read, and what CDMO's accounts may not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cdmo.doctor import Source, Status, diagnose
from cdmo.doctor.rights import AGENT, CONTROLLER, Need, needs_of
from cdmo.kube.yaml_values import yaml_documents
from tests.doctor.recorded import recorded

RBAC = Path(__file__).parents[2] / "deploy" / "rbac"


def allows(rule: dict[str, Any], need: Need) -> bool:
    resource = f"{need.plural}/{need.subresource}" if need.subresource else need.plural
    names = rule.get("resourceNames")
    return (
        need.group in rule["apiGroups"]
        and resource in rule["resources"]
        and need.verb in rule["verbs"]
        and (names is None or need.name in names)
    )


@pytest.mark.parametrize(
    ("file", "need"),
    [("agent.yaml", each) for each in AGENT] + [("controller.yaml", each) for each in CONTROLLER],
    ids=str,
)
def test_every_right_that_is_asked_for_is_one_that_the_manifests_give(file: str, need: Need) -> None:
    objects = [each.value for each in yaml_documents((RBAC / file).read_bytes())]
    roles = [each for each in objects if each["kind"] == ("Role" if need.namespace else "ClusterRole")]
    assert any(allows(rule, need) for role in roles for rule in role["rules"])


def test_each_account_is_asked_for_its_own_rights() -> None:
    asked = [(workload.name, need) for workload, need in needs_of(recorded().facts())]
    assert asked == [("cdmo-agent", each) for each in AGENT] + [("cdmo-controller", each) for each in CONTROLLER]


def test_what_could_not_be_read_is_told_with_its_reason() -> None:
    cluster = recorded()
    cluster.unread[Source.DEVICE_CLASSES] = "could not list deviceclasses: forbidden"
    (found,) = [each for each in diagnose(cluster.facts()) if each.check == "reading"]
    assert (found.status, found.object) == (Status.WARNING, "cluster/deviceclasses")
    assert found.sentence == "could not list deviceclasses: forbidden"
    assert "kubectl auth can-i list deviceclasses" in found.fix
