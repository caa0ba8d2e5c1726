"""Where requests go, and how they are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cdmo.kube.resources import CLAIM, LEASE, MIG_NODE, NAMESPACE, NODE, POD, STORAGE_CLASS, VOLUME, Ask, Kind


@pytest.mark.parametrize(
    ("ask", "path"),
    [
        (Ask("list", POD), "api/v1/pods"),
        (Ask("get", NODE, "gpu-1"), "api/v1/nodes/gpu-1"),
        (Ask("patch", NODE, "gpu-1", subresource="status"), "api/v1/nodes/gpu-1/status"),
        (Ask("create", LEASE, "cdmo", "cdmo"), "apis/coordination.k8s.io/v1/namespaces/cdmo/leases"),
        (Ask("create", POD, "a", "ml", "binding"), "api/v1/namespaces/ml/pods/a/binding"),
        (Ask("list", MIG_NODE), "apis/cdmo.clear.ml/v1alpha1/mignodes"),
        (Ask("watch", NAMESPACE), "api/v1/namespaces"),
        (Ask("watch", CLAIM), "api/v1/persistentvolumeclaims"),
        (Ask("watch", VOLUME), "api/v1/persistentvolumes"),
        (Ask("watch", STORAGE_CLASS), "apis/storage.k8s.io/v1/storageclasses"),
    ],
)
def test_a_request_goes_where_the_api_server_files_the_object(ask: Ask, path: str) -> None:
    assert ask.path == path


@pytest.mark.parametrize("name", ["../../secrets", "a/b", "a?watch=1", "a#b", "a%2fb"])
def test_no_name_climbs_out_of_its_place(name: str) -> None:
    path = Ask("get", NODE, name).path
    assert path.startswith("api/v1/nodes/")
    assert not set("/?#") & set(path.removeprefix("api/v1/nodes/"))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask("list", POD), "list pods"),
        (Ask("list", POD, namespace="ml"), "list pods in namespace ml"),
        (Ask("get", POD, "train", "ml"), "get Pod ml/train"),
        (Ask("patch", NODE, "gpu-1", subresource="status"), "patch the status of Node gpu-1"),
    ],
)
def test_a_request_can_be_said_in_words(ask: Ask, words: str) -> None:
    assert str(ask) == words


@pytest.mark.parametrize(
    "kind", [POD, NODE, MIG_NODE, NAMESPACE, CLAIM, VOLUME, STORAGE_CLASS], ids=lambda one: one.kind
)
def test_the_controller_may_follow_everything_that_planning_reads(kind: Kind) -> None:
    manifest = Path(__file__).parents[2] / "deploy" / "rbac" / "controller.yaml"
    role = next(one for one in yaml.safe_load_all(manifest.read_text()) if one["kind"] == "ClusterRole")
    allowed = {
        verb
        for rule in role["rules"]
        if kind.group in rule["apiGroups"] and kind.plural in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {"list", "watch"} <= allowed
