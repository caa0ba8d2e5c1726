"""The pods of a chaos run."""

from __future__ import annotations

from random import Random
from typing import Any

from cdmo_harness.chaos.load import _PROFILES, _RUN_SECONDS, draw_pod
from cdmo_harness.kubelet.pods import demand, parse


def drawn(count: int = 400, seed: int = 1) -> list[dict[str, Any]]:
    random = Random(seed)
    return [draw_pod(f"pod-{number}", random, _PROFILES) for number in range(count)]


def slices(manifest: dict[str, Any]) -> dict[str, int]:
    """What the pod asks of a node in all, by resource."""
    metadata = {**manifest["metadata"], "uid": "uid"}
    document = {**manifest, "metadata": metadata}
    for container in (*document["spec"]["containers"], *document["spec"].get("initContainers", ())):
        container.setdefault("resources", {}).setdefault("requests", container["resources"].get("limits", {}))
    return demand(parse(document))


def test_the_same_seed_draws_the_same_pods() -> None:
    assert drawn(seed=3) == drawn(seed=3)
    assert drawn(seed=3) != drawn(seed=4)


def test_every_profile_and_every_shape_comes() -> None:
    manifests = drawn()
    asked = {name for each in manifests for name in slices(each)}
    assert asked == {f"nvidia.com/mig-{profile}" for profile in _PROFILES}
    inits = [each["spec"]["initContainers"][0] for each in manifests if "initContainers" in each["spec"]]
    assert any(each.get("restartPolicy") == "Always" for each in inits)
    assert any(each.get("restartPolicy") is None for each in inits)
    assert any(len(each["spec"]["containers"]) == 2 for each in manifests)
    assert any("resources" not in each["spec"]["containers"][0] for each in drawn())


def test_no_pod_asks_for_more_than_a_node_can_be_cut_into() -> None:
    for each in drawn():
        (count,) = slices(each).values()
        assert count in (1, 2)


def test_every_pod_ends_by_itself() -> None:
    for each in drawn():
        seconds = float(each["metadata"]["annotations"]["cdmo-harness/run-seconds"])
        assert _RUN_SECONDS[0] <= seconds <= _RUN_SECONDS[1]
