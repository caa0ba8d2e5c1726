"""Clusters of equal nodes."""

from __future__ import annotations

import pytest

from cdmo.errors import BadSettings
from cdmo.model.cluster import labelled
from cdmo.simulation.cluster import equal_nodes
from tests.builders import card


def test_nodes_are_labelled_and_named_in_order_with_gpus_of_their_own() -> None:
    views = equal_nodes(card("a30"), 12, 3)
    assert [each.node.name for each in views][:2] == ["node-01", "node-02"]
    assert [each.node.name for each in views] == sorted({each.node.name for each in views})
    assert all(labelled(each.node) for each in views)
    assert [len({gpu.pci_bus_id for gpu in each.gpus}) for each in views] == [3] * 12


def test_a_node_takes_as_many_pods_as_it_has_slices() -> None:
    (view,) = equal_nodes(card("h100"), 1, 16)
    assert view.node.allocatable["pods"] == 128


@pytest.mark.parametrize(
    ("nodes", "gpus", "sentence"),
    [
        (0, 8, "0 nodes"),
        (-1, 8, "-1 nodes"),
        (100_001, 1, "100001 nodes"),
        (1, 0, "0 GPUs per node"),
        (1, 65, "65 GPUs per node"),
        (100_000, 64, "6400000 GPUs are too many"),
    ],
)
def test_absurd_counts_are_refused_with_a_hint(nodes: int, gpus: int, sentence: str) -> None:
    with pytest.raises(BadSettings, match=sentence) as refused:
        equal_nodes(card("h100"), nodes, gpus)
    assert refused.value.hint
